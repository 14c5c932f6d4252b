package audit_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/gateway/audit"
)

func read(t *testing.T, path string) []audit.Entry {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []audit.Entry
	for line := range strings.Lines(string(text)) {
		var e audit.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, e)
	}
	return out
}

func TestEntriesAreAppendedOneALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	entry := audit.Entry{Time: time.Unix(5, 0).UTC(), Peer: "192.0.2.1:5", Identity: "dns:a", By: "certificate", Method: "/a/B", Right: "read", Result: "OK", Reason: "a\nb"}
	for range 2 { // the second opens what the first has written
		l, err := audit.Open(path, 1<<20, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l.Write(entry), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, path); len(got) != 2 || got[1] != entry {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestAFullLogIsReplacedAndTheOldestIsDeleted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, err := audit.Open(path, 500, 2)
	if err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 40 {
		writers.Go(func() {
			if err := l.Write(audit.Entry{Peer: strings.Repeat("x", i), Result: "OK"}); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	if err := l.Write(audit.Entry{Result: "last"}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, suffix := range []string{"", ".1", ".2"} {
		info, err := os.Stat(path + suffix)
		if err != nil || info.Size() > 500 {
			t.Errorf("%s: %v, %v", suffix, info, err)
		}
		n += len(read(t, path+suffix))
	}
	if _, err := os.Stat(path + ".3"); !errors.Is(err, fs.ErrNotExist) || n > 20 || n < 3 {
		t.Errorf("%d entries are left, .3: %v", n, err)
	}
	last := read(t, path)
	if last[len(last)-1].Result != "last" {
		t.Errorf("the end is %+v", last)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(audit.Entry{}); err == nil {
		t.Error("a closed log takes entries")
	}
}

func TestWhatIsNoPlaceForALog(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.Symlink("/dev/null", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, filepath.Join(dir, "link"), filepath.Join(dir, "no", "folder")} {
		if _, err := audit.Open(path, 1000, 1); err == nil {
			t.Errorf("%s is a log", path)
		}
	}
}

// If a file cannot be replaced, no entry is lost without an error.
func TestALogThatCannotBeReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	l, err := audit.Open(path, 200, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Write(audit.Entry{Reason: strings.Repeat("x", 150)}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path+".1", "full"), 0o700); err != nil { // a rename does not replace a folder
		t.Fatal(err)
	}
	if err := l.Write(audit.Entry{Result: "lost"}); err == nil || !strings.Contains(err.Error(), "replace the full audit log") {
		t.Errorf("%v", err)
	}
	if err := os.RemoveAll(path + ".1"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Write(audit.Entry{Result: "again"}), l.Close()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); len(got) != 1 || got[0].Result != "again" {
		t.Errorf("%+v", got)
	}
}
