package rebuild_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/operation"
)

// dropPartition removes a partition from the table of a disk, as a person with sfdisk(8) does.
func (w *world) dropPartition(disk, label string) {
	w.t.Helper()
	dev := w.disks[disk]
	table, err := gpt.ReadDisk(dev, dev.Size(), dev.SectorSize())
	if err != nil {
		w.t.Fatal(err)
	}
	kept := table.Entries[:0]
	for _, e := range table.Entries {
		if e.Name != label {
			kept = append(kept, e)
		}
	}
	table.Entries = kept
	if err := table.Write(dev, func(_ string, change func() error) error { return change() }); err != nil {
		w.t.Fatal(err)
	}
}

// setSpec changes the recorded configuration of the host, as an older release may have left it.
func (w *world) setSpec(from, to string) {
	w.t.Helper()
	if !strings.Contains(mirrors, from) {
		w.t.Fatalf("the configuration has no %q", from)
	}
	st := w.status()
	st.Spec = strings.Replace(mirrors, from, to, 1)
	if err := w.daemon.store.Record(context.Background(), st); err != nil {
		w.t.Fatal(err)
	}
}

// A disk that changes, and an array that stops, while the operation runs: it is undone with
// upstream's name of the fault, and another one succeeds once the fault is over.
func TestAFaultDuringARebuildIsReportedAndTheNextOneSucceeds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before func(w *world)
		fault  func(w *world, look int) ([]md.State, error) // at a look at the arrays; nil, nil: none
		over   func(w *world)
		kind   errkind.Kind
		named  string // "": upstream has none for this step
		says   string
	}{
		{name: "another disk after the check", before: replaced, fault: func(w *world, look int) ([]md.State, error) {
			if look == 1 {
				w.disks["sdb"] = blockdevtest.New(2*diskSize, 512)
			}
			return nil, nil
		}, kind: errkind.Precondition, named: errkind.NameRebuildRaid, says: `/dev/sdb is not the disk that was checked, with the serial number "S-sdb" and 67108864 bytes`},
		{name: "arrays that stop before members are added", before: lost, fault: func(w *world, look int) ([]md.State, error) {
			if look == 2 {
				return []md.State{}, nil
			}
			return nil, nil
		}, kind: errkind.Precondition, named: errkind.NameRebuildRaid, says: `array "esp" does not run any more`},
		{name: "an array that stops while it is rebuilt", before: lost, fault: func(w *world, look int) ([]md.State, error) {
			if look == 6 {
				return []md.State{}, nil
			}
			return nil, nil
		}, kind: errkind.Unhealthy, named: errkind.NameRebuildRaid, says: `array "esp" has stopped while it was rebuilt`},
		{name: "a kernel that rebuilds nothing", before: lost, fault: func(w *world, _ int) ([]md.State, error) {
			list, err := w.arrays.Arrays(context.Background())
			for i := range list {
				list[i].Action, list[i].Total = "idle", 0
			}
			return list, err
		}, kind: errkind.Timeout, named: errkind.NameRebuildRaid, says: `the kernel does not rebuild the arrays: "esp" lacks 1 members, "root" lacks 1 members`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, mirrors)
				defer func() { w.stop() }()
				c.before(w)
				looks := 0
				w.look = func() ([]md.State, error) {
					looks++
					return c.fault(w, looks)
				}
				op := w.rebuild()
				if op.Phase != operation.Undone || op.Failure.Kind != c.kind || op.Failure.Name != c.named || !strings.Contains(op.Failure.Message, c.says) {
					t.Fatalf("%s at %s: %+v", op.Phase, op.Reached, op.Failure)
				}
				if w.status().LastError == nil {
					t.Error("the status has no error")
				}
				w.look = nil
				w.checkWhole(w.rebuild())
			})
		})
	}
}

// Whichever look at the arrays fails: the operation ends with that error, or does not need the
// look, and the next operation makes the arrays whole.
func TestAnArrayThatCannotBeReadEndsARebuild(t *testing.T) {
	t.Parallel()
	errRead := errors.New("read the state of array md127: input/output error")
	failed := map[string]bool{} // by the step that failed
	for at := 1; ; at++ {
		looks := 0
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, mirrors)
			defer func() { w.stop() }()
			replaced(w)
			w.look = func() ([]md.State, error) {
				if looks++; looks == at {
					return nil, errRead
				}
				return nil, nil
			}
			op := w.rebuild()
			switch {
			case looks >= at && op.Phase == operation.Done: // the comparison of the members of the ESP only warns
				if !strings.Contains(w.logs(op.ID), "were not compared: compare the members of /dev/md/esp: "+errRead.Error()) {
					t.Errorf("look %d: the fault is not reported: %v\n%s", at, w.Trace, w.logs(op.ID))
				}
			case looks >= at:
				failed[op.Reached] = true
				if op.Phase != operation.Undone || !strings.Contains(op.Failure.Message, errRead.Error()) {
					t.Errorf("look %d: %s: %+v", at, op.Phase, op.Failure)
				}
				w.look = nil
				op = w.rebuild()
			}
			w.checkWhole(op)
		})
		if looks < at || t.Failed() {
			break
		}
	}
	want := map[string]bool{"check": true, "partition": true, "add": true, "sync": true, "boot entries": true, "record": true}
	if diff := cmp.Diff(want, failed); diff != "" {
		t.Errorf("the steps that failed: %s", diff)
	}
}

// A full disk ends the operation in each step that writes, and the next one succeeds.
func TestAFullDiskEndsARebuild(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		if !hosttest.InTurn(at) {
			continue
		}
		touches := 0
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, mirrors)
			defer func() { w.stop() }()
			replaced(w)
			w.Prepare(0, false)
			w.FailAt = at
			op := w.rebuild()
			touches = w.Touches
			if touches >= at {
				if op.Phase != operation.Undone || !strings.Contains(op.Failure.Message, "no space left on device") {
					t.Errorf("change %d: %s: %+v\ntouches: %v", at, op.Phase, op.Failure, w.Trace)
				}
				op = w.rebuild()
			}
			w.checkWhole(op)
		})
		if touches < at || t.Failed() {
			return
		}
	}
}
