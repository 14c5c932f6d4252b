package boot

// SetSpace has l believe in free bytes on the ESP.
func SetSpace(l Loader, free int64) {
	space := func(string) (int64, int64, error) { return free, 4096, nil }
	switch b := l.(type) {
	case *sdboot:
		b.space = space
	case *grub:
		b.space = space
	}
}
