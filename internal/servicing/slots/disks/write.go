package disks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// atOnce is how many partitions Trident writes at the same time: one keeps about two
// processors busy, and another fills its pauses.
const atOnce = 2

// decodeShare is the part of the available memory that each of these partitions may use to decode
// several frames at the same time: an eighth.
const decodeShare = 8

// Partition applies the plan to the disks.
func (d *Disks) Partition(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	plan, err := d.plan(r, c)
	if err != nil {
		return err
	}
	if err := plan.Apply(ctx, d.tools(r), d.Touch); err != nil {
		return err
	}
	r.State.Partitioned = true
	return nil
}

// Reopen opens the encrypted volumes of an installation that Partition has made, which are
// closed after a reboot of the live system.
func (d *Disks) Reopen(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	if e := c.Spec().Storage.Encryption; e == nil || len(e.Volumes) == 0 || r.State.Purpose != record.Installs {
		return nil
	}
	plan, err := d.plan(r, c)
	if err != nil {
		return err
	}
	return plan.Reopen(ctx, d.tools(r), d.Touch)
}

// Write writes each part to its device, and only then has verified it: nothing boots the
// device before "try" (docs/decisions/0012). It does not repeat what an earlier daemon wrote.
//
// At last it compares verified parts with their hash trees.
func (d *Disks) Write(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	if slices.ContainsFunc(r.State.Parts, func(p record.Part) bool { return !p.Done }) {
		if err := d.writeParts(ctx, r, c); err != nil {
			return err
		}
	}
	return d.VerifyTrees(ctx, r, c)
}

func (d *Disks) writeParts(ctx context.Context, r *record.Run, c *hostconfig.Config) error {
	plan, err := d.plan(r, c)
	if err != nil {
		return err
	}
	if err := d.Reopen(ctx, r, c); err != nil {
		return err
	}
	ctx, cancel := fetch.WithTimeout(ctx, change.FetchTimeout(c))
	defer cancel()
	i, meter, err := d.openImage(ctx, r, c)
	if err != nil {
		return err
	}
	d.UseMemory(i)
	w := &writing{d: d, r: r, c: c, ctx: ctx, plan: plan, meter: meter}
	return errors.Join(w.all(i), i.Close())
}

// UseMemory lets an image that is written use a part of the memory that is available.
func (d *Disks) UseMemory(i *image.Image) {
	if available, known := d.Machine.Available(); known {
		i.UseMemory(available / decodeShare)
	}
}

// writing is the work of Write.
type writing struct {
	d     *Disks
	r     *record.Run
	c     *hostconfig.Config
	ctx   context.Context
	plan  *storage.Plan
	meter interface{ Used() int64 }

	mu   sync.Mutex // guards the record and came
	came []int64    // compressed bytes of each part so far
}

func (w *writing) all(i *image.Image) error {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	w.ctx = ctx
	w.came = make([]int64, len(w.r.State.Parts))
	var trees, others []int
	for n, p := range w.r.State.Parts {
		switch {
		case p.Done:
			w.came[n] = p.Size
		case p.Type == record.HashTree:
			trees = append(trees, n)
		default:
			others = append(others, n)
		}
	}
	errs := make([]error, len(w.r.State.Parts))
	for _, parts := range [][]int{trees, others} { // a part that is written by blocks needs its tree
		turn := make(chan struct{}, w.atOnce(i))
		var all sync.WaitGroup
		for _, n := range parts {
			p := w.r.State.Parts[n]
			all.Go(func() {
				turn <- struct{}{}
				defer func() { <-turn }()
				if ctx.Err() != nil {
					return
				}
				if errs[n] = w.one(n, p, i); errs[n] != nil {
					cancel()
				}
			})
		}
		all.Wait()
	}
	return w.joined(errs)
}

// joined returns the first error of the parts.
func (w *writing) joined(errs []error) error {
	// A part that was canceled because another one failed has no error of its own.
	for n, err := range errs {
		if err == nil || errors.Is(err, context.Canceled) {
			continue
		}
		err = fmt.Errorf("write %s: %w", w.r.State.Parts[n].Name, err)
		if errkind.Variant(err) != errkind.NameCreateVerity {
			err = errkind.WithName(err, errkind.NameDeployImages)
		}
		return err
	}
	return errors.Join(errs...)
}

// atOnce returns how many parts to write at the same time: as many as fit in memory.
func (w *writing) atOnce(i *image.Image) int {
	if available, known := w.d.Machine.Available(); known && available < atOnce*image.UnpackMemory(i.Window()) {
		return 1
	}
	return atOnce
}

func (w *writing) one(n int, p record.Part, i *image.Image) error {
	from, err := p.In(i)
	if err != nil {
		return err
	}
	if p.ESP { // only if an older release ran "image"
		v, content, err := w.d.unpackESP(w.ctx, from, func(packed int64) { w.progress(n, packed) })
		p.Content = content
		return w.finish(n, p, from, v, err)
	}
	target, err := w.plan.Target(p.Device)
	if err != nil {
		return err
	}
	var v image.Verified
	var byBlocks bool
	err = w.d.Touch("write partition", func() (err error) {
		if canUpdateBlocks(&w.r.State, p) {
			u := &blockUpdate{w, n, p, from}
			if byBlocks, err = u.run(target.Path); byBlocks || err != nil {
				return err
			}
		}
		v, err = w.deploy(n, p, target.Path, from)
		return err
	})
	// A file system that is mounted read-only keeps its verified bytes.
	if err == nil && !p.ReadOnly {
		err = w.d.Touch("resize file system", func() error {
			return storage.Resize(w.ctx, w.d.Machine.Disks, p.Type, target.Path)
		})
	}
	if byBlocks && err == nil {
		return w.finishBlocks(w.ctx, n)
	}
	return w.finish(n, p, from, v, err)
}

func (w *writing) deploy(n int, p record.Part, path string, from image.Partition) (image.Verified, error) {
	dev, err := w.d.Machine.Disks.Open(path, true)
	if err != nil {
		return image.Verified{}, err
	}
	v, err := from.Deploy(w.ctx, dev, image.Deployment{
		From:     p.At,
		Saved:    func(at image.Checkpoint) error { return w.saved(n, at) },
		Progress: func(packed, _ int64) { w.progress(n, packed) },
	})
	return v, errors.Join(err, dev.Close())
}

func (w *writing) saved(n int, at image.Checkpoint) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.r.State.Parts[n].At, w.r.State.Used = at, w.meter.Used()
	return w.r.Checkpoint(w.ctx)
}

// finish records that a part is written, with its proof.
func (w *writing) finish(n int, p record.Part, from image.Partition, v image.Verified, err error) error {
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	done := &w.r.State.Parts[n]
	if err := done.Verified(v, from.File); err != nil {
		return err
	}
	done.Content, w.r.State.Used = p.Content, w.meter.Used()
	w.r.Logf(slog.LevelInfo, "%s is written", w.r.State.Parts[n].Name)
	return w.r.Checkpoint(w.ctx)
}

func (w *writing) progress(n int, packed int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.came[n] = packed
	done, total := int64(0), int64(0)
	for k, p := range w.r.State.Parts {
		done += w.came[k]
		total += p.Size
	}
	w.r.ProgressPart(w.r.State.Parts[n].Name, packed, w.r.State.Parts[n].Size, done, total)
}

// PartitionEffects describes what Partition does.
func PartitionEffects(e *record.Examined) []change.Effect {
	var out change.Effects
	d := e.Plan.Describe()
	if d.For == storage.Install {
		for _, disk := range d.Disks {
			out.Add("replace-table", disk.Path, "replace the partition table of %s; everything outside of adopted partitions is lost", disk.Path)
		}
	} else {
		out.Add("remove-boot-files", d.Slot.String(), "remove the boot files and the boot entry of %s", d.Slot)
	}
	for _, f := range d.Formats {
		out.Add("make-filesystem", f.Path, "make an empty file system %s on %s (%s)", f.Type, f.Path, f.ID)
	}
	return out
}

// WriteEffects describes what Write does.
func WriteEffects(e *record.Examined) []change.Effect {
	var out change.Effects
	for _, q := range e.Record.Parts {
		if q.ESP {
			continue
		}
		target, err := e.Plan.Target(q.Device)
		if err != nil {
			continue
		}
		more := ""
		if !q.ReadOnly && !e.Whole[q.File] && len(storage.ResizeTools(q.Type)) > 0 {
			more = ", and make it as large as the partition"
		}
		out.Add("write-partition", target.Path, "write the image's %s to %s (%s)%s", q.What(), target.Path, target.ID, more)
	}
	return out
}
