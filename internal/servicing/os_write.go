package servicing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/storage"
)

// atOnce is how many partitions are written side by side: one has work for about
// two processors, and a second one fills its pauses.
const atOnce = 2

func (s osService) preServicing(ctx context.Context, r *osRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	return s.runHooks(ctx, r, r.ID, preHooks(c, r.State.on()))
}

// partition makes the disks what the plan says. The slot does not boot any more
// before the first byte of it is written.
func (s osService) partition(ctx context.Context, r *osRun) error {
	c, err := r.State.asked()
	if err != nil || r.State.Partitioned {
		return err
	}
	if err := s.unmount(ctx, r); err != nil {
		return err
	}
	if !r.State.Install {
		if err := s.forget(ctx, r); err != nil {
			return err
		}
	}
	plan, err := s.plan(r, c)
	if err != nil {
		return err
	}
	if err := plan.Apply(ctx, s.Machine.Disks, s.touch); err != nil {
		return err
	}
	r.State.Partitioned = true
	return nil
}

// write brings the images of partitions to their devices. A device is written, then
// judged; nothing leads to it before "try" (docs/decisions/0012). What was written
// by a daemon before is not read again.
func (s osService) write(ctx context.Context, r *osRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(r.State.Parts, func(p part) bool { return !p.Done }) {
		return nil
	}
	plan, err := s.plan(r, c)
	if err != nil {
		return err
	}
	ctx, cancel := fetchTime(ctx, c)
	defer cancel()
	i, meter, err := s.openImage(ctx, r, c)
	if err != nil {
		return err
	}
	w := &writing{osService: s, r: r, ctx: ctx, plan: plan, meter: meter}
	return errors.Join(w.all(i), i.Close())
}

// writing is the parts that are written side by side.
type writing struct {
	osService
	r     *osRun
	ctx   context.Context
	plan  *storage.Plan
	meter interface{ Used() int64 }

	mu   sync.Mutex // of the record, and of
	came []int64    // packed bytes of each part
}

func (w *writing) all(i *image.Image) error {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	w.ctx = ctx
	w.came = make([]int64, len(w.r.State.Parts))
	errs := make([]error, len(w.r.State.Parts))
	turn := make(chan struct{}, w.atOnce(i))
	var all sync.WaitGroup
	for n := range w.r.State.Parts {
		p := w.r.State.Parts[n]
		if p.Done {
			w.came[n] = p.Size
			continue
		}
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
	// Those that were stopped for the sake of another one say nothing.
	for n, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return errkind.WithName(fmt.Errorf("write %s: %w", w.r.State.Parts[n].Name, err), "DeployImages")
		}
	}
	return errors.Join(errs...)
}

// atOnce is how many parts the host has memory for.
func (w *writing) atOnce(i *image.Image) int {
	if available, known := w.Machine.memory(); known && available < atOnce*image.UnpackMemory(i.Window()) {
		return 1
	}
	return atOnce
}

func (w *writing) one(n int, p part, i *image.Image) error {
	from, err := p.in(i)
	if err != nil {
		return err
	}
	if p.ESP {
		return w.finish(n, w.unpack(n, from))
	}
	target, err := w.plan.Target(p.Device)
	if err != nil {
		return err
	}
	err = w.touch("write partition", func() error { return w.deploy(n, p, target.Path, from) })
	// A file system that is only ever read keeps the bytes that were verified.
	if err == nil && !p.ReadOnly {
		err = w.touch("resize file system", func() error {
			return storage.Resize(w.ctx, w.Machine.Disks, p.Type, target.Path)
		})
	}
	return w.finish(n, err)
}

func (w *writing) deploy(n int, p part, path string, from image.Partition) error {
	dev, err := w.Machine.Disks.Open(path, true)
	if err != nil {
		return err
	}
	_, err = from.Deploy(w.ctx, dev, image.Deployment{
		From:     p.At,
		Saved:    func(at image.Checkpoint) error { return w.saved(n, at) },
		Progress: func(packed, _ int64) { w.progress(n, packed) },
	})
	return errors.Join(err, dev.Close())
}

// unpack writes the image of an ESP to a file: only its files are wanted.
func (w *writing) unpack(n int, from image.Partition) error {
	in, err := from.Open(w.ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	return w.touch("unpack boot files", func() error {
		if err := os.MkdirAll(w.stagedDir(), 0o700); err != nil {
			return err
		}
		// It has its name only once the last byte was judged.
		err := atomicfile.WriteFunc(w.espImage(), 0o600, func(out io.Writer) error {
			_, err := io.Copy(out, in)
			w.progress(n, in.Progress())
			return err
		})
		if err != nil {
			return err
		}
		_, err = in.Verified()
		return err
	})
}

// espImage is the verified image of the ESP, kept until the boot files are staged.
func (s osService) espImage() string { return filepath.Join(s.stagedDir(), "esp.img") }

func (w *writing) saved(n int, at image.Checkpoint) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.r.State.Parts[n].At, w.r.State.Used = at, w.meter.Used()
	return w.r.Checkpoint(w.ctx)
}

func (w *writing) finish(n int, err error) error {
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.r.State.Parts[n].Done, w.r.State.Used = true, w.meter.Used()
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

// stageBoot puts the boot files of the slot on the ESP, where nothing boots them
// yet.
func (s osService) stageBoot(ctx context.Context, r *osRun) error {
	if slices.ContainsFunc(r.State.Parts, func(p part) bool { return !p.Done }) {
		return errkind.Errorf(errkind.Internal, "not all partitions are written")
	}
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	f, err := os.Open(s.espImage())
	if err != nil {
		return err
	}
	defer f.Close()
	files, done, err := s.Machine.ESPFiles(f)
	if err != nil {
		return errkind.WithName(fmt.Errorf("read the image's boot files: %w", err), "DeployESPImages")
	}
	defer func() { _ = done() }()
	payload, err := boot.Read(files, boot.Arch(s.Machine.Arch))
	if err != nil {
		return errkind.WithName(fmt.Errorf("read the image's boot files: %w", err), "InvalidBootConfiguration")
	}
	if r.State.Install && !r.State.Indexed { // else its own files would be in the way
		err := s.withESP(r, c, func(esp string) (err error) {
			r.State.Index, err = boot.FreeIndex(esp)
			return err
		})
		if err != nil {
			return err
		}
		r.State.Indexed = true
		if err := r.Save(ctx); err != nil {
			return err
		}
	}
	return s.withLoader(r, c, func(l boot.Loader) error { return l.Stage(ctx, r.State.Slot, payload) })
}

// withESP mounts the host's EFI system partition.
func (s osService) withESP(r *osRun, c *hostconfig.Config, use func(esp string) error) error {
	device, err := s.espDevice(r, c)
	if err != nil {
		return err
	}
	return s.withMount(device, "vfat", espRoot, use)
}

func (s osService) espDevice(r *osRun, c *hostconfig.Config) (string, error) {
	id, _ := espID(&c.Spec().Storage)
	return storage.Device(&c.Spec().Storage, toMap(r.State.Paths), r.State.Slot, id)
}

// withLoader gives the boot loader of this host.
func (s osService) withLoader(r *osRun, c *hostconfig.Config, use func(boot.Loader) error) error {
	device, err := s.espDevice(r, c)
	if err != nil {
		return err
	}
	inv, err := s.Machine.Inventory()
	if err != nil {
		return err
	}
	drive, err := espOf(inv, device)
	if err != nil {
		return err
	}
	vars, err := s.Machine.Firmware()
	if err != nil {
		return err
	}
	return s.withESP(r, c, func(esp string) error {
		l, err := boot.New(boot.SystemdBoot, boot.Host{
			ESP: esp, Partition: drive, Vars: vars, Arch: boot.Arch(s.Machine.Arch), Index: r.State.Index,
			Fallback: boot.Fallback(c.Spec().OS.UEFIFallback), Touch: s.Touch,
		})
		if err != nil {
			return err
		}
		return use(l)
	})
}
