package rebuild

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/md"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/storage"
)

// partition gives the replaced disks their partition tables.
func (s *Service) partition(ctx context.Context, r *run) error {
	for i := range r.State.Disks {
		d := &r.State.Disks[i]
		if d.Done {
			continue
		}
		if err := s.partitionDisk(ctx, r, d); err != nil {
			return failed(fmt.Errorf("disk %q: %w", d.ID, err))
		}
		d.Done = true
		if err := r.Save(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) partitionDisk(ctx context.Context, r *run, d *newDisk) error {
	v, err := s.view(ctx, r)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(v.spec.Disks, func(c hostconfig.Disk) bool { return c.ID == d.ID })
	config := &v.spec.Disks[i]
	at, ok := v.inv.Find(config.Device)
	if !ok || at.Serial != d.Serial || at.Size != d.Size {
		return errkind.Errorf(errkind.Precondition, "%s is not the disk that was checked, with the serial number %q and %d bytes", config.Device, d.Serial, d.Size)
	}
	plan, err := v.planOf(config, r.State.Seed, s.machine.Arch)
	if err != nil {
		return err
	}
	if err := plan.Apply(ctx, s.machine.Disks, s.Touch); err != nil {
		return err
	}
	for id, to := range plan.Paths() {
		setPath(r, id, to)
	}
	return nil
}

// add removes the failed members of each array and adds the missing ones.
func (s *Service) add(ctx context.Context, r *run) error {
	v, err := s.view(ctx, r)
	if err != nil {
		return err
	}
	for _, a := range v.arrays {
		if a.state.Kernel == "" {
			return failed(errkind.Errorf(errkind.Precondition, "array %q does not run any more", a.config.ID))
		}
		if err := s.mend(ctx, v, a); err != nil {
			return failed(fmt.Errorf("array %q: %w", a.config.ID, err))
		}
	}
	return nil
}

func (s *Service) mend(ctx context.Context, v *view, a array) error {
	arrays := s.machine.Disks.Arrays
	for _, m := range a.state.Members {
		if !m.Faulty {
			continue
		}
		if err := s.Touch("remove failed member of "+a.config.ID, func() error { return arrays.Remove(ctx, a.state.UUID, m.Device) }); err != nil {
			return err
		}
	}
	for _, id := range a.config.Devices {
		p := v.partition(id)
		if p == nil {
			return errkind.Errorf(errkind.NotFound, "partition %q has gone", id)
		}
		if m := memberOf(a.state, p.Path); m != nil && !m.Faulty {
			continue
		}
		if err := s.Touch("add "+id, func() error { return arrays.Add(ctx, a.state.UUID, p.Path) }); err != nil {
			return err
		}
	}
	return nil
}

// startTime is how long the kernel may take to begin to rebuild an array.
const startTime = 2 * time.Minute

// sync waits until all members are in sync, however long that takes, and reports progress. It
// first adds the members that a reboot during the resync has left out of an array.
func (s *Service) sync(ctx context.Context, r *run) error {
	if err := s.add(ctx, r); err != nil {
		return err
	}
	v, err := s.view(ctx, r)
	if err != nil {
		return err
	}
	idle := time.Duration(0)
	for {
		if err := s.refresh(ctx, v); err != nil {
			return err
		}
		whole, works := s.report(r, v)
		if whole {
			return nil
		}
		if bad := v.failedAgain(); bad != "" {
			return failed(errkind.WithHint(errkind.Errorf(errkind.Unhealthy, "%s while it was rebuilt", bad), "Look for errors of the disk: journalctl --dmesg. Then replace it."))
		}
		if idle += interval; works {
			idle = 0
		}
		if idle > startTime {
			return failed(errkind.Errorf(errkind.Timeout, "the kernel does not rebuild the arrays: %s", v.degraded()))
		}
		if err := change.Sleep(ctx, interval); err != nil {
			return err
		}
	}
}

// refresh reads the state of the arrays again, and nothing of the disks, which are busy.
func (s *Service) refresh(ctx context.Context, v *view) error {
	running, err := s.machine.Disks.Arrays.Arrays(ctx)
	if err != nil {
		return err
	}
	for i := range v.arrays {
		a := &v.arrays[i]
		at := slices.IndexFunc(running, func(st md.State) bool { return st.UUID == a.state.UUID })
		if a.state = (md.State{}); at >= 0 {
			a.state = running[at]
		}
	}
	return nil
}

// report reports the progress of all arrays. whole: all members are in sync; works: the
// kernel copies data.
func (s *Service) report(r *run, v *view) (whole, works bool) {
	whole = true
	var done, total int64
	for _, a := range v.arrays {
		size := v.size(a)
		total += size
		switch {
		case a.state.Kernel == "":
			whole = false
			continue
		case a.state.Missing == 0:
			done += size
			continue
		case a.state.Total > 0: // in units that do not overflow
			done += int64(float64(size) * float64(a.state.Done) / float64(a.state.Total))
		}
		whole, works = false, works || a.state.Action != "idle"
	}
	r.ProgressKept(done, total)
	return whole, works
}

// size returns the size of a member of an array.
func (v *view) size(a array) int64 {
	for _, id := range a.config.Devices {
		if p := v.partition(id); p != nil {
			return p.Size
		}
	}
	return 0
}

// failedAgain names a member of a degraded array that has failed, or an array that has
// stopped; "" if there is none.
func (v *view) failedAgain() string {
	for _, a := range v.arrays {
		if a.state.Kernel == "" {
			return fmt.Sprintf("array %q has stopped", a.config.ID)
		}
		if i := slices.IndexFunc(a.state.Members, func(m md.Member) bool { return m.Faulty }); i >= 0 {
			return fmt.Sprintf("member %s of array %q has failed", a.state.Members[i].Device, a.config.ID)
		}
	}
	return ""
}

func (v *view) degraded() string {
	var out []string
	for _, a := range v.arrays {
		if a.state.Missing > 0 {
			out = append(out, fmt.Sprintf("%q lacks %d members", a.config.ID, a.state.Missing))
		}
	}
	return strings.Join(out, ", ")
}

// redirect gives each member of the ESP its boot entries. The members are in sync now, so
// that firmware may start any of them.
func (s *Service) redirect(ctx context.Context, r *run) error {
	config, err := r.State.Spec.Config()
	if err != nil {
		return err
	}
	paths := map[string]string{}
	for _, p := range r.State.Paths {
		paths[p.ID] = p.Path
	}
	var gone []string
	for _, p := range r.State.Was {
		if id, ok := strings.CutPrefix(p.Path, storage.ByPartUUID); ok && paths[p.ID] != p.Path {
			gone = append(gone, id)
		}
	}
	s.loader.CompareESP(ctx, r, config, paths)
	return s.loader.Reconcile(ctx, config, paths, r.State.Index, gone)
}
