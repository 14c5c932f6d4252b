package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/md"
)

// syncWait says for which new arrays Apply waits until their members are the same.
type syncWait struct {
	esp  string        // the array of the EFI system partition, or ""
	most time.Duration // for all arrays; 0 means that Apply waits for the ESP alone
}

const (
	espSyncTimeout = time.Hour
	// syncInterval is how often Apply looks at arrays: the kernel reports the end of
	// sync_action by no event that a file of /sys could be polled for on all levels.
	syncInterval = 500 * time.Millisecond
	maxSyncWait  = 7 * 24 * time.Hour
)

// syncWait returns for which of the new arrays to wait.
func (c *planner) syncWait() syncWait {
	var out syncWait
	for i := range c.spec.Filesystems {
		f := &c.spec.Filesystems[i]
		if l, ok := c.plan.layer(f.DeviceID); ok && f.IsESP() && l.Kind == LayerArray {
			out.esp = l.ID
		}
	}
	if t := c.spec.RAID.SyncTimeout; t != nil {
		out.most = time.Duration(min(*t, uint64(maxSyncWait/time.Second))) * time.Second
	}
	return out
}

// awaitSync waits for new arrays. Arrays of raid0 are always in sync.
func (p *Plan) awaitSync(ctx context.Context, tools Tools) error {
	var esp, all []Layer
	for _, l := range p.described.Layers {
		if l.Kind != LayerArray || l.Action != Create || l.Level == string(hostconfig.RAID0) {
			continue
		}
		all = append(all, l)
		if l.ID == p.sync.esp {
			esp = append(esp, l)
		}
	}
	err := tools.inSync(ctx, esp, espSyncTimeout)
	if err == nil && p.sync.most > 0 {
		err = errkind.WithHint(tools.inSync(ctx, all, p.sync.most), "raise storage.raid.syncTimeout, or leave it out: the arrays then copy while the host runs")
	}
	return errkind.WithName(err, errkind.NameCreateRaid)
}

// inSync waits until the arrays are in sync.
func (t Tools) inSync(ctx context.Context, arrays []Layer, most time.Duration) error {
	if len(arrays) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(syncInterval)
	defer tick.Stop()
	for {
		states, err := t.Arrays.Arrays(ctx)
		if err != nil {
			return fmt.Errorf("look whether arrays are in sync: %w", err)
		}
		waiting := firstUnsynced(arrays, states)
		if waiting == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
				return cause
			}
			return errkind.Errorf(errkind.Timeout, "%s after %s", waiting, most)
		}
	}
}

// firstUnsynced says which of the arrays is not in sync, or returns "".
func firstUnsynced(arrays []Layer, states []md.State) string {
	for _, l := range arrays {
		i := slices.IndexFunc(states, func(s md.State) bool { return gpt.GUID(s.UUID).String() == l.UUID })
		switch {
		case i < 0:
			return fmt.Sprintf("array %q (%s) does not run", l.ID, l.Path)
		case states[i].Missing > 0 || states[i].Action != "idle":
			s := states[i]
			return fmt.Sprintf("array %q (%s) is not in sync: %s, %s of %s", l.ID, l.Path, s.Action, bytesize.Plain(s.Done), bytesize.Plain(s.Total))
		}
	}
	return ""
}
