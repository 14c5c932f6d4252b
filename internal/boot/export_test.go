package boot

// SetSpace has l believe in free bytes on the ESP.
func SetSpace(l Loader, free int64) {
	if b, ok := l.(*sdboot); ok {
		b.space = func(string) (int64, int64, error) { return free, 4096, nil }
	}
}
