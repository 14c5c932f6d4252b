package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

var errPower = errors.New("power cut")

// tails are what may lie behind the synced bytes after a power cut.
func tails() map[string]func(path string, synced int64) error {
	return map[string]func(string, int64) error{
		"as written": func(string, int64) error { return nil },
		"lost":       os.Truncate,
		"garbage": func(path string, synced int64) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(bytes.Repeat([]byte("garbage "), 20<<10), synced)
			return errors.Join(err, f.Close())
		},
	}
}

// The power goes before each touch of the disk, which is after the one before,
// and the next call has to end with the bytes of the source.
func TestAPowerCutAtAnyTouchCostsAtMostOneCheckpoint(t *testing.T) {
	content := noise(1, size)
	file := filepath.Join(t.TempDir(), "image")
	write(t, file, content)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { good(w, r, content, `"1"`) })
	cases := 0
	registry := newShaky(t)
	registry.blob = content
	for name, src := range map[string]Source{"url": {URL: u}, "path": {Path: file}, "oci": {URL: registry.url}} {
		for tail, mangle := range tails() {
			for at, points := 0, 1; at < points; at++ {
				t.Run(fmt.Sprintf("%s, touch %d, the rest %s", name, at, tail), func(t *testing.T) {
					r := newRig(t, src)
					r.every = 50_000
					touched := 0
					r.touch = func(string) error {
						if touched++; touched > at {
							return errPower
						}
						return nil
					}
					_, err := r.get(t)
					if err == nil && touched <= at { // larger reads made fewer touches this time
						return
					}
					if !errors.Is(err, errPower) {
						t.Fatalf("touch %d: %v", at, err)
					}
					synced := readRecord(r.path + ".json").Synced
					if _, err := os.Stat(r.path); err == nil {
						if err := mangle(r.path, synced); err != nil {
							t.Fatal(err)
						}
					}
					r.touch = func(string) error { return nil }
					r.mustGet(t, content)
					if cost := r.received - size; cost > r.every+bufferSize {
						t.Errorf("%d bytes were fetched twice", cost)
					}
				})
				cases++
				if at == 0 {
					points = countTouches(t, src)
				}
			}
		}
	}
	if cases < 90 {
		t.Errorf("only %d power cuts", cases)
	}
}

func countTouches(t *testing.T, src Source) int {
	r := newRig(t, src)
	r.every = 50_000
	n := 0
	r.touch = func(string) error { n++; return nil }
	if _, err := r.get(t); err != nil {
		t.Fatal(err)
	}
	return n
}

// Not a simulated end but a real one, of a process that knows nothing of it.
func TestADownloadContinuesAfterItsProcessWasKilled(t *testing.T) {
	const large = 40 << 20
	content := noise(2, large)
	path := filepath.Join(t.TempDir(), "image.part")
	sent := make(chan struct{})
	u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		if before > 0 {
			good(w, r, content, `"1"`)
			return
		}
		good(&cutter{w, large - 1}, r, content, `"1"`)
		close(sent)
		<-r.Context().Done()
	})
	child := exec.Command(os.Args[0], "-test.run=TestChildFetches")
	child.Env = append(os.Environ(), "TEST_CHILD_URL="+u, "TEST_CHILD_PART="+path)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	<-sent // nearly all of it is on its way
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	synced := readRecord(path + ".json").Synced
	if synced < 2*checkpoint || synced >= large {
		t.Fatalf("%d bytes synced", synced)
	}
	r := newRig(t, Source{URL: u})
	r.path = path
	r.mustGet(t, content)
	if r.received != large-synced {
		t.Errorf("%d bytes were synced, %d were fetched", synced, r.received)
	}
}

func TestChildFetches(t *testing.T) {
	u := os.Getenv("TEST_CHILD_URL")
	if u == "" {
		t.Skip("only as a child of another test")
	}
	_, err := Download(t.Context(), Source{URL: u}, os.Getenv("TEST_CHILD_PART"), Limits{}, nil, nil)
	t.Fatalf("ended by itself: %v", err)
}

// Servers and hosts misbehave at random, but the content stays the same: the
// bytes do too, and no more than three times as many are taken.
func TestRandomCutsAlwaysEndWithTheSameBytes(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		content := noise(byte(seed), 1+rng.IntN(400<<10))
		tag := []string{`"tag"`, `"tag"`, ``}[rng.IntN(3)]
		bad := 3 + rng.IntN(12)
		u := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
			rng := rand.New(rand.NewPCG(seed, uint64(2+before)))
			if before < bad {
				switch rng.IntN(5) {
				case 0:
					w.WriteHeader(500 + rng.IntN(5))
					return
				case 1, 2:
					cut(w, r, content, tag, rng.IntN(len(content)))
				case 3:
					r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", rangeStart(r), rangeStart(r)+rng.IntN(1000)))
					if rangeStart(r) == 0 {
						r.Header.Del("Range")
					}
				case 4:
					panic(http.ErrAbortHandler)
				}
			}
			good(w, r, content, tag)
		})
		r := newRig(t, Source{URL: u})
		r.every = int64(1 + rng.IntN(50_000))
		r.lim.Attempts = 1000
		var result Result
		err := errPower
		for crashes := 20; errors.Is(err, errPower); crashes-- {
			left := rng.IntN(60)
			r.touch = func(string) error {
				if left--; left < 0 && crashes > 0 {
					return errPower
				}
				return nil
			}
			result, err = r.get(t)
		}
		lost := int64(20) * (r.every + bufferSize) // by power cuts
		if limit := 3*int64(len(content)) + lost; r.received > limit {
			t.Errorf("seed %d: %d bytes were taken for %d", seed, r.received, len(content))
		}
		if err != nil {
			if tag == "" && errkind.Of(err) == errkind.Unavailable {
				continue // a server that cannot be gone on with may be given up
			}
			t.Fatalf("seed %d: %v\nlog: %q", seed, err, r.logs)
		}
		r.check(t, result, content)
	}
}

func TestAPartOfAnotherSourceAndADamagedPartAreDiscarded(t *testing.T) {
	content := noise(3, size)
	asked := ""
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		asked = r.Header.Get("Range")
		if r.URL.RawQuery == "" {
			cut(w, r, noise(4, size), `"1"`, size/2)
		}
		good(w, r, content, `"1"`)
	})
	for name, damage := range map[string]func(t *testing.T, r *rig){
		"other source":   func(_ *testing.T, r *rig) { r.src.URL += "?other" },
		"changed byte":   func(t *testing.T, r *rig) { damageAt(t, r.path, 100) },
		"shorter":        func(t *testing.T, r *rig) { must(t, os.Truncate(r.path, 100)) },
		"gone":           func(t *testing.T, r *rig) { must(t, os.Remove(r.path)) },
		"no record":      func(t *testing.T, r *rig) { must(t, os.Remove(r.path+".json")) },
		"garbled record": func(t *testing.T, r *rig) { damageAt(t, r.path+".json", 0) },
		"absurd record": func(t *testing.T, r *rig) {
			must(t, os.WriteFile(r.path+".json", []byte(`{"source":"x","synced":-1,"size":-5}`), 0o600))
		},
		"record of a folder": func(t *testing.T, r *rig) {
			must(t, os.WriteFile(r.path+".json", bytes.Repeat([]byte("["), 1<<20), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Source{URL: u})
			r.lim.Attempts = 1
			if _, err := r.get(t); err == nil {
				t.Fatal("half was taken for all")
			}
			if n := readRecord(r.path + ".json").Synced; n != size/2 {
				t.Fatalf("%d bytes kept", n)
			}
			damage(t, r)
			if name != "other source" { // the same one, now with a good content
				r.src.URL = u
			}
			asked = ""
			_, err := r.get(t)
			if asked != "" || (err == nil) != (name == "other source") {
				t.Errorf("asked for range %q; %v", asked, err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func damageAt(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(t, err)
	b[0] ^= 0xff
	_, err = f.WriteAt(b, at)
	must(t, err)
}

func TestOnlyOneDownloadWritesAPart(t *testing.T) {
	r := newRig(t, Source{})
	r.src.Upload = func() func(ctx context.Context) ([]byte, error) {
		return func(context.Context) ([]byte, error) {
			second := newRig(t, Source{UploadSize: 5})
			second.path = r.path
			_, err := second.get(t)
			wantKind(t, err, errkind.Busy, "another download writes it")
			return nil, io.EOF
		}
	}()
	r.mustGet(t, nil)
}

func TestAPartThatIsNotARegularFileIsRefused(t *testing.T) {
	r := newRig(t, Source{UploadSize: 5})
	must(t, os.Symlink("/dev/null", r.path))
	if _, err := r.get(t); err == nil {
		t.Error("a link was followed")
	}
	must(t, os.Remove(r.path))
	must(t, unix.Mkfifo(r.path, 0o600))
	_, err := r.get(t)
	wantKind(t, err, errkind.Precondition, "not a regular file")
}

func TestAFullDiskErrorNamesTheMissingBytes(t *testing.T) {
	content := noise(5, size)
	file := filepath.Join(t.TempDir(), "image")
	write(t, file, content)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { good(w, r, content, `"1"`) })
	for _, src := range []Source{{URL: u}, {Path: file}, {Upload: upload(content, 1000), UploadSize: size}} {
		r := newRig(t, src)
		r.free = func(string) (int64, error) { return 100, nil }
		_, err := r.get(t)
		wantKind(t, err, errkind.NoSpace, "307200 more bytes are needed in "+filepath.Dir(r.path)+", 100 are free")
		r.free = freeSpace
		r.mustGet(t, content)
	}
	for _, cause := range []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		err := spaceError(&os.PathError{Op: "write", Path: "x", Err: cause}, 77)
		wantKind(t, err, errkind.NoSpace, "77 more bytes are needed: write x: ")
	}
	if err := spaceError(unix.EIO, 77); errkind.Of(err) != errkind.Internal {
		t.Errorf("EIO became %v", err)
	}
	if spaceError(nil, 77) != nil {
		t.Error("nil became an error")
	}
}

func TestAFullDiskIsReportedOnce(t *testing.T) {
	content := noise(1, size)
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { good(w, r, content, `"1"`) })
	for _, first := range []string{"write part", "sync part", "write record"} {
		r := newRig(t, Source{URL: u})
		full, writes := false, 0
		r.touch = func(point string) error {
			if point == "write part" {
				writes++
			}
			full = full || point == first && writes > 1
			if full && (point == "write part" || point == "sync part" || point == "write record") {
				return spaceError(&os.PathError{Op: "write", Path: r.path, Err: unix.ENOSPC}, 77)
			}
			return nil
		}
		_, err := r.get(t)
		wantKind(t, err, errkind.NoSpace, "77 more bytes are needed: ")
		if err != nil && (strings.Contains(err.Error(), "\n") || strings.Count(err.Error(), "no space left") != 1 || errkind.Hint(err) == "") {
			t.Errorf("full at %s: %q, hint %q", first, err, errkind.Hint(err))
		}
	}
}
