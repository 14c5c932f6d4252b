// Package blocks fetches a disk image with as few bytes over the network as it can.
//
// It reads the partition table, the signature and the dm-verity tree of the new image first.
// With the tree it knows the hash of each block before a byte of data comes, so it takes blocks
// from whoever has them: an interrupted fetch, images on this host, a patch, and for the rest
// the server of the new image. It writes a block only if its hash is in the tree at its place.
// No provider of blocks needs trust, and the result is the image that a download would bring.
package blocks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/trust"
)

// Want is an image to fetch.
type Want struct {
	Source fetch.Source
	Limits fetch.Limits
	// Signer checks the signature of the image, before any data comes. nil: the caller will
	// compare a hash of the whole image, and the image may be in a form without a tree.
	Signer func(root [32]byte, sig *ddi.Signature) (trust.Verified[[32]byte], error)
	// Old are images of this host that may share blocks with the new one.
	Old []Old
}

// Old is an image on this host.
type Old struct {
	Name string // as in fetch.Patch.From
	Path string
}

// Download fetches want into the file part, as [fetch.Download] does: with the same result, the
// same record beside the file, and to be called again after an interruption. It then fetches
// nothing twice that is whole on disk.
//
// It uses blocks if the source is an http server that serves ranges, and there is something to
// gain: a signature to check, an image on this host, a patch or a data budget. In other cases,
// and for an image without a hash tree, it calls fetch.Download and says why in the log.
//
// It never receives more than want.Source.MaxBytes bytes, over all calls for part. When the
// cheapest way needs more, it fails with kind TooLarge and says what each way would need: for a
// patch before the first byte, for blocks after it has read the tree, which is 1/127 of the image.
func Download(ctx context.Context, want Want, part string, progress func(done, total int64), log func(string)) (_ fetch.Result, err error) {
	scheme := fetch.Scheme(want.Source.URL)
	if scheme != "http" && scheme != "https" || want.isPlain() {
		return fetch.Download(ctx, want.Source, part, want.Limits, progress, log)
	}
	want.Limits.MaxSize = cmp.Or(want.Limits.MaxSize, 1<<30)
	ctx, cancel := fetch.WithTimeout(ctx, want.Source.Timeout)
	defer cancel()
	want.Source.Timeout = 0
	j := &job{want: want, part: part, progress: progress, log: log}
	if want.Source.Meter == nil {
		if j.want.Source.Meter, err = fetch.OpenMeter(part, want.Source.MaxBytes); err != nil {
			return fetch.Result{}, err
		}
		defer func() { err = errors.Join(err, j.want.Source.Meter.Close()) }()
	}
	result, err := j.run(ctx)
	if reason, ok := errors.AsType[unsuitable](err); ok {
		if want.couldSave() {
			j.logf("fetching the whole file: %s", strings.TrimPrefix(reason.Error(), fmt.Sprintf("fetch %s: ", want.Source)))
		}
		return fetch.Download(ctx, j.want.Source, part, want.Limits, progress, log)
	}
	return result, err
}

// isPlain reports whether blocks would gain nothing.
func (w Want) isPlain() bool { return w.Signer == nil && !w.couldSave() }

// couldSave reports whether blocks could save bytes, or have to.
func (w Want) couldSave() bool {
	return len(w.Old) > 0 || len(w.Source.Patches) > 0 || w.Source.MaxBytes > 0
}

// unsuitable is the reason why an image cannot be fetched by blocks.
type unsuitable struct{ error }

func (u unsuitable) Unwrap() error { return u.error }

// job is one call of Download.
type job struct {
	want     Want
	part     string
	progress func(done, total int64)
	log      func(string)

	remote *fetch.Ranges
	file   *fetch.Partial
	image  *work
}

func (j *job) run(ctx context.Context) (_ fetch.Result, err error) {
	file, done, err := fetch.OpenPartial(ctx, j.want.Source, j.part)
	if err != nil || done != nil {
		if err == nil {
			j.report(done.Size, done.Size)
			return *done, nil
		}
		return fetch.Result{}, err
	}
	j.file = file
	defer func() { err = errors.Join(err, file.Close()) }()
	if size := j.want.Source.Size; size > 0 && file.IsFresh() { // before even the size is asked for
		if err := j.admitOutline(size); err != nil {
			return fetch.Result{}, err
		}
	}
	if j.remote, err = fetch.OpenRanges(ctx, j.want.Source, fetch.Pin{}, j.want.Limits, j.want.Source.Meter, j.log); err != nil {
		if kind := errkind.Of(err); kind == errkind.Unsupported || kind == errkind.Corrupt {
			err = unsuitable{err}
		}
		return fetch.Result{}, err
	}
	defer j.remote.Close()
	size := j.remote.Size()
	if announced := j.want.Source.Size; announced > 0 && size != announced {
		return fetch.Result{}, fmt.Errorf("fetch %s: %w", j.want.Source, j.otherSize(size))
	}
	if j.image, err = j.outline(ctx, size); err != nil {
		return fetch.Result{}, err
	}
	j.image.report = func() { j.report(size-j.image.missing*blockSize, size) }
	if err := j.fill(ctx); err != nil {
		return fetch.Result{}, err
	}
	result, err := file.Finish(ctx)
	if err != nil {
		return fetch.Result{}, err
	}
	j.report(size, size)
	return result, fetch.Remove(fetch.PatchPart(j.part))
}

func (j *job) otherSize(size int64) error {
	err := errkind.Errorf(errkind.Corrupt, "the source has %d bytes, and %d were announced", size, j.want.Source.Size)
	return errkind.WithHint(err, "The server has another file than the feed or the request says. Try again later, or ask who publishes it.")
}

// fill brings all blocks: those on this host first, then those of a patch, then the rest from
// the server.
func (j *job) fill(ctx context.Context) error {
	locals := []provider{attempt{}}
	for _, o := range j.want.Old {
		locals = append(locals, localImage{o})
	}
	for _, p := range locals {
		if err := j.bring(ctx, p); err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		} else if lost, ok := errors.AsType[hostError](err); ok {
			return lost.error
		} else if err != nil {
			j.logf("no blocks from %s: %v", p.name(), err)
		}
	}
	return j.fillByNetwork(ctx)
}

func (j *job) fillByNetwork(ctx context.Context) error {
	var failed []string
	if p := j.cheapestPatch(); p != nil && j.image.missing > 0 && p.cost() < j.rangesCost() {
		if err := j.admit(p.cost(), failed); err != nil {
			return err
		}
		err := j.bring(ctx, p)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if lost, ok := errors.AsType[hostError](err); ok {
			return lost.error
		}
		if err != nil {
			failed = append(failed, fmt.Sprintf("%s failed: %v", p.name(), err))
			j.logf("%s", failed[0])
		}
	}
	if j.image.missing == 0 {
		return nil
	}
	if err := j.admit(j.rangesCost(), failed); err != nil {
		return err
	}
	return j.bring(ctx, ranges{j.remote})
}

// bring takes the blocks of p and says what came.
func (j *job) bring(ctx context.Context, p provider) error {
	before := j.image.missing
	if before == 0 {
		return nil
	}
	err := p.bring(ctx, j.image)
	if n := before - j.image.missing; n > 0 {
		j.logf("%d of %d blocks came from %s", n, j.image.tree.Blocks(), p.name())
	}
	return err
}

func (j *job) report(done, total int64) {
	if j.progress != nil {
		j.progress(done, total)
	}
}

func (j *job) logf(format string, args ...any) {
	if j.log != nil {
		j.log(fmt.Sprintf("fetch %s: ", j.want.Source) + fmt.Sprintf(format, args...))
	}
}
