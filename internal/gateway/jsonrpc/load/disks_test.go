package load

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheTrafficIsThatOfDisks(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, isHardware bool) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if isHardware {
			if err := os.MkdirAll(filepath.Join(dir, name, "device"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name, "stat"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sda", "  10 0 100 0 5 0 40 0 0 0 0 0 0 0 0 0 0\n", true)
	write("vdb", "  1 0 4 0 1 0 2 0 0 0 0\n", true)
	write("loop0", "  10 0 9000 0 5 0 9000 0 0 0 0\n", false)
	got, err := readTraffic(dir)
	if err != nil || got != (traffic{104 * 512, 42 * 512}) {
		t.Errorf("%+v, %v", got, err)
	}
	if read, written := got.since(traffic{4 * 512, 2 * 512}, 10*time.Second); read != 5120 || written != 2048 {
		t.Errorf("%d, %d bytes a second", read, written)
	}
	if read, written := got.since(traffic{1 << 40, 0}, time.Second); read != 0 || written != 42*512 {
		t.Errorf("after a disk has gone: %d, %d", read, written)
	}
	for _, text := range []string{"", "1 2 3", "a b c d e f g"} {
		write("vdb", text, true)
		if _, err := readTraffic(dir); err == nil {
			t.Errorf("%q has a traffic", text)
		}
	}
	if _, err := readTraffic(filepath.Join(dir, "none")); err == nil {
		t.Error("a missing folder has a traffic")
	}
}
