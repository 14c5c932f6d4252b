package outfile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/linux/outfile"
)

func TestAWriteIntoAPipeThatNobodyReadsEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	why := errors.New("the person pressed Ctrl-C")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := outfile.Interruptible(ctx, w)
	if n, err := out.Write([]byte("hello")); n != 5 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	cancel(why)
	if _, err := out.Write(make([]byte, 1<<20)); !errors.Is(err, why) || !strings.Contains(err.Error(), "no process reads the output") {
		t.Errorf("a write that has no room: %v", err)
	}
	got := make([]byte, 5)
	if _, err := r.Read(got); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAFileIsWrittenAsItIs(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if w := outfile.Interruptible(t.Context(), f); w != f {
		t.Errorf("a writer %T for a file", w)
	}
}

func TestLargeTemporaryFilesLieBesideTheResult(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "result"): dir, "-": os.TempDir(), "/dev/null": os.TempDir(), filepath.Join(dir, "none", "result"): os.TempDir(),
	} {
		if got := (outfile.File{Path: path, Stdout: os.Stdout}).TempDir(); got != want {
			t.Errorf("%s: %s, and not %s", path, got, want)
		}
	}
}
