package slots

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

// atOnce is how many partitions Trident writes at the same time: one keeps about two
// processors busy, and another fills its pauses.
const atOnce = 2

func (s *Service) preServicing(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	return hooks.Run(ctx, s.Host, r, r.ID, hooks.Pre(c, r.State.Purpose.on()))
}

// partition applies the plan to the disks. In an update it first makes the slot unbootable.
func (s *Service) partition(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil || r.State.Partitioned {
		return err
	}
	if err := s.unmount(ctx, r); err != nil {
		return err
	}
	if r.State.Purpose != installs {
		err := s.withLoader(r, c, func(l keeper) error { return l.Forget(ctx, r.State.Slot) })
		if err != nil {
			return err
		}
	}
	plan, err := s.plan(r, c)
	if err != nil {
		return err
	}
	if err := plan.Apply(ctx, s.Machine.Disks, s.Touch); err != nil {
		return err
	}
	r.State.Partitioned = true
	return nil
}

// write writes each part to its device, and only then has verified it: nothing boots the
// device before "try" (docs/decisions/0012). It does not repeat what an earlier daemon wrote.
func (s *Service) write(ctx context.Context, r *opRun) error {
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
	ctx, cancel := change.FetchTime(ctx, c)
	defer cancel()
	i, meter, err := s.openImage(ctx, r, c)
	if err != nil {
		return err
	}
	w := &writing{s: s, r: r, ctx: ctx, plan: plan, meter: meter}
	return errors.Join(w.all(i), i.Close())
}

// writing is the work of write.
type writing struct {
	s     *Service
	r     *opRun
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
	// A part that was canceled because another one failed has no error of its own.
	for n, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return errkind.WithName(fmt.Errorf("write %s: %w", w.r.State.Parts[n].Name, err), errkind.NameDeployImages)
		}
	}
	return errors.Join(errs...)
}

// atOnce returns how many parts to write at the same time: as many as fit in memory.
func (w *writing) atOnce(i *image.Image) int {
	if available, known := w.s.Machine.memory(); known && available < atOnce*image.UnpackMemory(i.Window()) {
		return 1
	}
	return atOnce
}

func (w *writing) one(n int, p part, i *image.Image) error {
	from, err := p.in(i)
	if err != nil {
		return err
	}
	if p.ESP { // only if an older release ran "image"
		v, content, err := w.s.unpackESP(w.ctx, from, func(packed int64) { w.progress(n, packed) })
		p.Content = content
		return w.finish(n, p, from, v, err)
	}
	target, err := w.plan.Target(p.Device)
	if err != nil {
		return err
	}
	var v image.Verified
	err = w.s.Touch("write partition", func() (err error) {
		v, err = w.deploy(n, p, target.Path, from)
		return err
	})
	// A file system that is mounted read-only keeps its verified bytes.
	if err == nil && !p.ReadOnly {
		err = w.s.Touch("resize file system", func() error {
			return storage.Resize(w.ctx, w.s.Machine.Disks, p.Type, target.Path)
		})
	}
	return w.finish(n, p, from, v, err)
}

func (w *writing) deploy(n int, p part, path string, from image.Partition) (image.Verified, error) {
	dev, err := w.s.Machine.Disks.Open(path, true)
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

// unpackESP unpacks the image of an ESP into the file espImage. It returns the proof of the
// image, and the SHA-256 of the file.
func (s *Service) unpackESP(ctx context.Context, from image.Partition, progress func(packed int64)) (v image.Verified, content string, err error) {
	in, err := from.Open(ctx)
	if err != nil {
		return v, "", err
	}
	defer in.Close()
	err = s.Touch("unpack boot files", func() error {
		if err := os.MkdirAll(s.StagedDir(), 0o700); err != nil {
			return err
		}
		sum := sha256.New()
		var copied error
		// WriteFunc names the file only if all bytes were right.
		err := atomicfile.WriteFunc(s.espImage(), 0o600, func(out io.Writer) error {
			_, copied = io.Copy(io.MultiWriter(out, sum), notifyingReader{in, func() { progress(in.Progress()) }})
			return copied
		})
		if copied != nil || err != nil {
			return cmp.Or(copied, err) // the source fails more often than the file
		}
		content = hex.EncodeToString(sum.Sum(nil))
		v, err = in.Verified()
		return err
	})
	return v, content, err
}

// notifyingReader calls notify after each read.
type notifyingReader struct {
	io.Reader
	notify func()
}

func (r notifyingReader) Read(p []byte) (int, error) {
	defer r.notify()
	return r.Reader.Read(p)
}

// espImage returns the path of the verified image of the ESP.
func (s *Service) espImage() string { return filepath.Join(s.StagedDir(), "esp.img") }

func (w *writing) saved(n int, at image.Checkpoint) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.r.State.Parts[n].At, w.r.State.Used = at, w.meter.Used()
	return w.r.Checkpoint(w.ctx)
}

// finish records that a part is written, with its proof.
func (w *writing) finish(n int, p part, from image.Partition, v image.Verified, err error) error {
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	done := &w.r.State.Parts[n]
	if err := done.verified(v, from.File); err != nil {
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

// stageBoot writes the boot files of the slot to the ESP. Nothing boots them yet.
func (s *Service) stageBoot(ctx context.Context, r *opRun) error {
	p, err := r.State.prove()
	if err != nil {
		return err
	}
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	payload, done, err := s.payload(r)
	if err != nil {
		return err
	}
	defer func() { _ = done() }()
	if r.State.Purpose == installs && !r.State.Indexed { // once: its own files take an index
		err := s.withESP(r, c, func(esp string) (err error) {
			r.State.Index, err = boot.FreeIndex(esp)
			return err
		})
		if err != nil {
			return err
		}
		r.State.Indexed = true
	}
	return s.withEntry(ctx, r, c, p, func(l boot.Loader) error { return l.Stage(ctx, r.State.Slot, payload) })
}

// payload opens the unpacked boot files of the image. The caller calls done after their last
// use.
func (s *Service) payload(r *opRun) (_ *boot.Payload, done func() error, err error) {
	f, err := os.Open(s.espImage())
	if err != nil {
		return nil, nil, err
	}
	end := f.Close
	defer func() {
		if err != nil {
			err = errors.Join(err, end())
		}
	}()
	if err := r.State.sameESP(f); err != nil {
		return nil, nil, err
	}
	files, closeFiles, err := s.Machine.ESPFiles(f)
	if err != nil {
		return nil, nil, errkind.WithName(fmt.Errorf("read the image's boot files: %w", err), errkind.NameDeployESPImages)
	}
	end = func() error { return errors.Join(closeFiles(), f.Close()) }
	payload, err := boot.Read(files, boot.Arch(s.Machine.Arch))
	if err != nil {
		return nil, nil, errkind.WithName(fmt.Errorf("read the image's boot files: %w", err), errkind.NameInvalidBootConfiguration)
	}
	return payload, end, nil
}

// sameESP fails if the unpacked image of the ESP has changed since it was verified, perhaps
// by an earlier process. It accepts any image if an older release made the record.
func (r *record) sameESP(f io.Reader) error {
	i := slices.IndexFunc(r.Parts, func(p part) bool { return p.ESP && p.Content != "" })
	if i < 0 {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != r.Parts[i].Content {
		err := errkind.Errorf(errkind.Corrupt, "the copy of the image's boot files has changed since it was verified")
		return errkind.WithHint(errkind.WithName(err, errkind.NameDeployESPImages), "Stage the image again; look for faults of the disk or of the memory.")
	}
	return nil
}

// withESP mounts the host's EFI system partition while use runs.
func (s *Service) withESP(r *opRun, c *hostconfig.Config, use func(esp string) error) error {
	device, err := s.espDevice(r, c)
	if err != nil {
		return err
	}
	return s.withMount(device, "vfat", espRoot, use)
}

func (s *Service) espDevice(r *opRun, c *hostconfig.Config) (string, error) {
	id, _ := espID(&c.Spec().Storage)
	return storage.Device(&c.Spec().Storage, toMap(r.State.Paths), r.State.Slot, id)
}

// withEntry opens the boot loader of this host while use runs. use may give the slot boot
// files or a trial, so p must prove the slot. withEntry sets BootBegun before.
func (s *Service) withEntry(ctx context.Context, r *opRun, c *hostconfig.Config, p proven, use func(boot.Loader) error) error {
	if p.of != r.State.Slot || !p.of.Valid() {
		return errkind.Errorf(errkind.Internal, "no proof that %s has the content of its image", r.State.Slot)
	}
	vars, err := s.Machine.Firmware()
	if err != nil {
		return err
	}
	return s.withVars(r, c, vars, func(l boot.Loader) error {
		if !r.State.BootBegun {
			r.State.BootBegun = true
			if err := r.Save(ctx); err != nil {
				return err
			}
		}
		return use(l)
	})
}

// keeper is the part of a boot loader that cannot make anything new boot.
type keeper interface {
	Entries(ctx context.Context) (boot.State, error)
	Keep(ctx context.Context, s slot.Slot) error
	Forget(ctx context.Context, s slot.Slot) error
}

// withLoader opens the boot loader of this host while use runs.
func (s *Service) withLoader(r *opRun, c *hostconfig.Config, use func(keeper) error) error {
	vars, err := s.Machine.Firmware()
	if err != nil {
		return err
	}
	return s.withVars(r, c, vars, func(l boot.Loader) error { return use(l) })
}

// withLoaderToUndo is withLoader for an Undo. Without access to the firmware's variables the
// operation cannot have changed them: then hasVars is false, and use restores only the files
// on the ESP. If the operation has not changed what boots, withLoaderToUndo ignores errors,
// so that a broken or missing ESP does not stop the undo.
func (s *Service) withLoaderToUndo(r *opRun, c *hostconfig.Config, use func(l keeper, hasVars bool) error) error {
	vars, err := s.Machine.Firmware()
	if hasVars := err == nil; hasVars || errkind.Of(err) == errkind.Precondition {
		if !hasVars {
			r.Logf(slog.LevelWarn, "the variables of the firmware are left as they are: %v", err)
			vars = efivar.None{}
		}
		err = s.withVars(r, c, vars, func(l boot.Loader) error { return use(l, hasVars) })
	}
	if err != nil && r.State.Examined && !r.State.BootBegun {
		r.Logf(slog.LevelWarn, "the boot files are left as they are, because this operation has not changed them: %v", err)
		return nil
	}
	return err
}

func (s *Service) withVars(r *opRun, c *hostconfig.Config, vars efivar.Store, use func(boot.Loader) error) error {
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
