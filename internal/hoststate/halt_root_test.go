//go:build root

package hoststate_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// tiny is a file system of a MiB, and fill fills it to the last byte until the file
// that it returns is removed.
func tiny(t *testing.T) (dir string, fill func() (file string)) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir, func() string {
		file := filepath.Join(dir, "fill")
		f, err := os.Create(file)
		if err != nil {
			t.Error(err)
		}
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		return file
	}
}

func TestAnOperationOnAFullDiskIsHaltedUntilThereIsSpace(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprint(fails), func(t *testing.T) {
			dir, fill := tiny(t)
			store, err := hoststate.Open(t.Context(), filepath.Join(dir, "datastore.sqlite"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
			r := operation.New(t.Context(), operation.Config{
				Journal: store, Life: operation.Life{Boot: "1", Process: "1"}, Logger: slog.New(slog.DiscardHandler),
			})
			type state struct {
				Text string `json:"text"`
			}
			files := make(chan string, 1)
			nothing := func(context.Context, *operation.Run[state]) error { return nil }
			b := func(ctx context.Context, run *operation.Run[state]) error {
				run.State.Text = fmt.Sprintf("%032768d", 7) // takes more pages than there are
				files <- fill()
				status := hoststate.Status{Phase: hoststate.Settled{}, Spec: "a: " + strings.Repeat("x", 1<<15)}
				if err := operation.Insist(ctx, func() error { return store.Record(ctx, status) }); err != nil {
					return err
				}
				fill() // for the journal
				if fails {
					return errkind.Errorf(errkind.Corrupt, "broken")
				}
				return nil
			}
			start := operation.Register(r, operation.Kind[state]{Name: "k", Steps: []operation.Step[state]{
				{Name: "a", Do: nothing, Undo: nothing}, {Name: "b", Do: b, Undo: nothing}, {Name: "c", Do: nothing},
			}})
			if err := r.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			op, err := start(t.Context(), "fill the disk", state{})
			if err != nil {
				t.Fatal(err)
			}
			file := <-files
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			halted := 0
			for e, err := range r.Follow(ctx, op.ID, 0) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Type != operation.Halting || e.Failure == nil {
					continue
				}
				halted++
				if e.Failure.Kind != errkind.NoSpace || e.Failure.Hint == "" {
					t.Errorf("halted by %+v", e.Failure)
				}
				list, err := r.List(ctx, 1, true)
				if err != nil || len(list) != 1 || list[0].Halted == nil || list[0].Step != "b" {
					t.Errorf("listed are %+v, %v", list, err)
				}
				if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
			op, err = store.Load(ctx, op.ID)
			want := map[bool]operation.Phase{false: operation.Done, true: operation.Undone}[fails]
			if err != nil || op.Phase != want || halted < 2 {
				t.Errorf("%s, halted %d times: %+v, %v", op.Phase, halted, op.Failure, err)
			}
			if err := r.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
