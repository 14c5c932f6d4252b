package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAFileIsCopiedAlsoThroughASymbolicLink(t *testing.T) {
	content := noise(1, size)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "image"), content)
	if err := os.Symlink("image", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"image", "link"} {
		newRig(t, Source{Path: filepath.Join(dir, name), SHA256: sum(content)}).mustGet(t, content)
	}
}

func TestAFileThatIsNotRegularIsRefusedWithoutBeingOpened(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	write(t, large, noise(1, size))
	for _, c := range []struct {
		path  string
		kind  errkind.Kind
		words string
	}{
		{dir, errkind.Invalid, ", not a regular file"},
		{fifo, errkind.Invalid, ", not a regular file"},
		{"/dev/zero", errkind.Invalid, ", not a regular file"},
		{filepath.Join(dir, "none"), errkind.NotFound, "no such file"},
		{"image", errkind.Invalid, "must be absolute"},
		{large, errkind.TooLarge, fmt.Sprintf("the source has %d bytes, the limit is 1000", size)},
	} {
		r := newRig(t, Source{Path: c.path})
		r.lim.MaxSize = 1000
		_, err := r.get(t)
		wantKind(t, err, c.kind, c.words)
		wantKind(t, err, c.kind, "fetch "+c.path+": ")
	}
}

func TestThePartFileIsNoSourceOfItself(t *testing.T) {
	content := noise(1, size)
	r := newRig(t, Source{})
	write(t, r.path, content)
	r.src.Path = filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(r.path, r.src.Path); err != nil {
		t.Fatal(err)
	}
	_, err := r.get(t)
	wantKind(t, err, errkind.Invalid, "the part file itself")
	if got, _ := os.ReadFile(r.path); sum(got) != sum(content) {
		t.Error("the source was damaged")
	}
}

// change has the source file change n times while it is copied.
func (r *rig) change(t *testing.T, n int, to func(n int) []byte) {
	r.touch = func(point string) error {
		if point == "write part" && n > 0 {
			n--
			write(t, r.src.Path, to(n))
		}
		return nil
	}
}

func TestAFileThatChangesWhileItIsCopiedIsCopiedAnew(t *testing.T) {
	for name, to := range map[string]func(int) []byte{
		"same size": func(n int) []byte { return noise(byte(n+10), size) },
		"grows":     func(n int) []byte { return noise(byte(n+10), size+1000*(3-n)) },
		"shrinks":   func(n int) []byte { return noise(byte(n+10), size-100<<10*(2-n)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Source{Path: filepath.Join(t.TempDir(), "image")})
			write(t, r.src.Path, noise(1, size))
			r.change(t, 2, to)
			r.mustGet(t, to(0))
			r.wantLog(t, "the source changed")
		})
	}
	r := newRig(t, Source{Path: filepath.Join(t.TempDir(), "image")})
	write(t, r.src.Path, noise(1, size))
	r.change(t, 1000, func(n int) []byte { return noise(byte(n), size) })
	_, err := r.get(t)
	wantKind(t, err, errkind.Unavailable, "the source changed")
	if !errors.Is(err, ErrChanged) {
		t.Error("not ErrChanged")
	}
}

// upload gives content in chunks of n bytes, an empty one before each.
func upload(content []byte, n int) func(context.Context) ([]byte, error) {
	empty := false
	return func(context.Context) ([]byte, error) {
		if empty = !empty; empty {
			return nil, nil
		}
		if len(content) == 0 {
			return nil, io.EOF
		}
		chunk := content[:min(n, len(content))]
		content = content[len(chunk):]
		return chunk, nil
	}
}

func TestAnUploadIsTakenAsItComes(t *testing.T) {
	content := noise(1, size)
	for _, n := range []int{1 << 10, 1 << 20} {
		for _, announced := range []int64{0, size} {
			newRig(t, Source{Upload: upload(content, n), UploadSize: announced, SHA256: sum(content)}).mustGet(t, content)
		}
	}
}

func TestAnUploadIsWhatItWasSaidToBe(t *testing.T) {
	content := noise(1, size)
	gone := errkind.Errorf(errkind.Cancelled, "the client has gone")
	for name, c := range map[string]struct {
		src   Source
		kind  errkind.Kind
		words string
	}{
		"shorter":         {Source{Upload: upload(content, 1000), UploadSize: size + 1}, errkind.Invalid, "the upload ended after 307200 of the announced 307201 bytes"},
		"longer":          {Source{Upload: upload(content, 1000), UploadSize: size - 1}, errkind.Invalid, "the source sent more than the announced 307199 bytes"},
		"too large":       {Source{Upload: upload(content, 1000), UploadSize: 2_000_000}, errkind.TooLarge, "the limit is 1000000"},
		"endless":         {Source{Upload: func(context.Context) ([]byte, error) { return content, nil }}, errkind.TooLarge, "more than 1000000 bytes"},
		"aborted":         {Source{Upload: func(context.Context) ([]byte, error) { return nil, gone }}, errkind.Cancelled, "fetch the upload: the client has gone"},
		"stalls":          {Source{Upload: func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }}, errkind.Timeout, "the source sent no byte for too long"},
		"endlessly empty": {Source{Upload: func(context.Context) ([]byte, error) { return nil, nil }}, errkind.Timeout, "the source sent no byte for too long"},
		"negative":        {Source{Upload: upload(content, 1000), UploadSize: -1}, errkind.Invalid, "the source must be one of"},
		"two sources":     {Source{Upload: upload(content, 1000), Path: "/x"}, errkind.Invalid, "the source must be one of"},
		"none":            {Source{}, errkind.Invalid, "the source must be one of"},
		"odd digest":      {Source{Path: "/x", SHA256: "abc"}, errkind.Invalid, "64 hex digits"},
		"short digest":    {Source{Path: "/x", SHA256: "abcd"}, errkind.Invalid, "64 hex digits"},
		"other digest":    {Source{Upload: upload(content, 1000), SHA256: sum(nil)}, errkind.Corrupt, "SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.src)
			r.lim = Limits{MaxSize: 1_000_000, Stall: patience(name)}
			_, err := r.get(t)
			wantKind(t, err, c.kind, c.words)
		})
	}
}

func TestAfterARestartAnUploadIsCompleteOrLost(t *testing.T) {
	content := noise(1, size)
	r := newRig(t, Source{Upload: upload(content[:size/2], 1000), UploadSize: size})
	if _, err := r.get(t); err == nil {
		t.Fatal("half an upload was taken")
	}
	r.src.Upload = nil
	_, err := r.get(t)
	wantKind(t, err, errkind.Unavailable, "has to be sent again")
	if !errors.Is(err, ErrUploadLost) {
		t.Error("not ErrUploadLost")
	}
	r.src.Upload = upload(content, 1000)
	r.mustGet(t, content)
	r.src.Upload = nil
	r.mustGet(t, content)

	other := noise(2, size) // of the same size, and yet another upload
	r.src.Upload = upload(other, 1000)
	r.mustGet(t, other)
}
