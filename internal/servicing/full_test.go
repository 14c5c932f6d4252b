package servicing

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

// wantFull wants an operation with one failed change to end: undone because of that
// change, or done if the change was not needed.
func wantFull(t *testing.T, op *operation.Operation, trace []string) {
	t.Helper()
	switch {
	case op == nil:
		t.Fatalf("nothing began\ntouches: %v", trace)
	case op.Phase == operation.Done:
	case op.Phase != operation.Undone || !strings.Contains(op.Failure.Message, unix.ENOSPC.Error()):
		t.Fatalf("%s: %+v\ntouches: %v", op.Phase, op.Failure, trace)
	}
}

func TestAServicingWhoseDiskIsFullAtAnyChangeIsUndone(t *testing.T) {
	g := newGallery(t)
	for _, sc := range scenarios {
		if sc.want != operation.Done || sc.apart {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			start := beginning{disk: tempDir(t), ends: &endings{of: map[string]map[string]string{}}}
			touches := 0
			synctest.Test(t, func(t *testing.T) {
				sc.prepare(t, g, &start)
				touches = sc.play(t, g, start, 0, false).Touches
			})
			var undone atomic.Int32
			cases := 0
			t.Run("changes", func(t *testing.T) {
				for n := 1; n <= touches; n++ {
					if !hosttest.InTurn(n) {
						continue
					}
					cases++
					t.Run(fmt.Sprint(n), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							w := &world{t: t, gallery: g, root: tempDir(t), ends: start.ends}
							copyDisk(t, start.disk, w.root, nil)
							w.powerOn()
							old, was := w.state(), w.status()
							w.Prepare(0, false)
							w.FailAt = n
							op := w.begin(sc)
							wantFull(t, op, w.Trace)
							if op.Phase == operation.Undone {
								w.check(was, old, op)
								undone.Add(1)
							} else { // files that are not needed any more may stay until the next servicing
								w.checkHost(was, old, op)
							}
							w.stopDaemon()
						})
					})
				}
			})
			if int(undone.Load()) < cases/2 {
				t.Errorf("%d of %d were undone", undone.Load(), cases)
			}
		})
	}
}

func TestAnOSWhoseDiskIsFullAtAnyChangeIsUndone(t *testing.T) {
	a := newAlbum(t)
	var installed *osWorld
	live := tempDir(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(v1, true, true))
		w.rest()
		installed = w.copied(t, live)
	})
	for _, sc := range osScenarios {
		if sc.name != "update" && sc.name != "install, and set up what installs" { // which have all changes
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			start := func(t *testing.T) *osWorld {
				if sc.from == nil {
					return newOSWorld(t, a)
				}
				return installed.copied(t, tempDir(t))
			}
			var changes []string
			synctest.Test(t, func(t *testing.T) {
				w := start(t)
				sc.play(w, 0, false)
				changes = w.Trace
			})
			var undone atomic.Int32
			cases := 0
			t.Run("changes", func(t *testing.T) {
				for i, name := range changes {
					// An unmount writes nothing. A part of the guard does nothing without the others.
					if strings.HasPrefix(name, "unmount ") || name == "remove guard" || !hosttest.InTurn(i) {
						continue
					}
					cases++
					t.Run(fmt.Sprintf("%d %s", i+1, strings.ReplaceAll(name, "/", "_")), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							w := start(t)
							w.powerOn()
							was := w.status()
							w.Prepare(0, false)
							w.FailAt = i + 1
							kind, begin := sc.do(w)
							op := w.run(kind, begin, "")
							wantFull(t, op, w.Trace)
							ended := sc
							if op.Phase == operation.Undone {
								undone.Add(1)
								ended.want, ended.kind, ended.named = operation.Undone, op.Failure.Kind, op.Failure.Name
								ended.network = ""
								switch {
								case sc.from != nil:
									ended.runs, ended.version = slot.A, "v1"
								case w.slot == 0: // the live system, which has not been left
									ended.runs, ended.version = 0, ""
								}
							}
							ended.check(w, op, was)
							w.rest()
						})
					})
				}
			})
			if int(undone.Load()) < cases/2 {
				t.Errorf("%d of %d were undone", undone.Load(), cases)
			}
		})
	}
}
