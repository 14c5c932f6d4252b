package boot

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/slot"
)

// Stage implements [Loader].
func (l *sdboot) Stage(ctx context.Context, s slot.Slot, p *Payload) error {
	return l.do(ctx, "stage boot files for", s, func(w *session) error {
		if err := w.unused(); err != nil {
			return err
		}
		if err := p.fits(SystemdBoot, w.Arch); err != nil {
			return err
		}
		free, block, err := l.space(w.ESP)
		if err != nil {
			return err
		}
		for _, name := range []string{stagedName, stagedName + newSuffix} { // goes first
			if f, err := w.esp.file(inLinux(name)); err == nil {
				free += f.size
			}
		}
		if err := w.room(p, Space{free, block}); err != nil {
			return err
		}
		return errkind.WithName(w.stage(p), errkind.NameDeployESPImages)
	})
}

// unused fails if the slot runs or is the default.
func (w *session) unused() error {
	switch w.slot {
	case w.booted():
		return errRuns
	case w.deflt():
		return errIsDefault
	}
	return nil
}

// The reasons for which the files of a slot must not change.
var (
	errRuns      = errkind.Errorf(errkind.Precondition, "the running system is in this slot")
	errIsDefault = errkind.WithHint(errkind.Errorf(errkind.Precondition, "this slot is the default boot entry"),
		"make the other slot the default first: commit it, or roll back")
)

// slack is the room, in bytes, for folders, names and the file system itself.
const slack = 1 << 20

// Space is the room on an ESP.
type Space struct {
	Free  int64 // bytes
	Block int64 // that many bytes are given to files at a time
}

// usualConfig is more than a configuration of GRUB has, in bytes, if nobody adds many
// arguments.
const usualConfig = 4 << 10

// need returns how many bytes of an ESP p takes in blocks of block bytes, with a second copy
// of its boot loader unless fallback says that EFI/BOOT is not changed.
func (p *Payload) need(block int64, fallback Fallback) int64 {
	block = max(block, 512)
	loader := p.loader
	if p.kind == Grub { // the configuration may not be known yet
		loader = append([]file{{size: max(int64(len(p.config)), usualConfig)}}, loader...)
	}
	files := append(append([]file{p.uki}, p.extra...), loader...)
	if fallback != Disabled {
		files = append(files, loader...)
	}
	need := int64(slack)
	for _, f := range files {
		need += (f.size + block - 1) / block * block
	}
	return need
}

// room fails unless the ESP has room for p and for a copy of its boot loader in EFI/BOOT.
func (w *base) room(p *Payload, space Space) error {
	if need := p.need(space.Block, w.Fallback); need > space.Free {
		err := errkind.Errorf(errkind.NoSpace, "the ESP is full: the boot files need %d MiB, and %d MiB are free", (need+1<<20-1)>>20, space.Free>>20)
		return errkind.WithHint(err, "remove files from the ESP, or make the ESP larger: it has to hold the boot files of three systems")
	}
	return nil
}

func (w *session) stage(p *Payload) error {
	// A trial of what the slot had is over: its root is being replaced.
	if err := w.endTrial(w.slot); err != nil {
		return err
	}
	if err := w.unstage(); err != nil {
		return err
	}
	dir := w.folder(w.slot)
	extra := inLinux(stagedName + extraDir)
	for _, d := range []string{linuxDir, dir} {
		if err := w.esp.mkdir(d); err != nil {
			return err
		}
	}
	for _, f := range p.loader {
		if err := w.esp.put(dir, f); err != nil {
			return err
		}
	}
	if len(p.extra) > 0 {
		if err := w.esp.mkdir(extra); err != nil {
			return err
		}
	}
	for _, f := range p.extra {
		if err := w.esp.put(extra, f); err != nil {
			return err
		}
	}
	plan, err := w.plan(w.slot)
	if err != nil {
		return err
	}
	if err := w.write(plannedName, plan.String()); err != nil {
		return err
	}
	uki := p.uki
	uki.name = stagedName // last: it says that all is there
	return w.esp.put(linuxDir, uki)
}

// plan returns the name of the next UKI of slot s. It removes extras for that name from
// before a power cut, because systemd-boot would use them.
func (w *session) plan(s slot.Slot) (ukiName, error) {
	n := ukiName{max(w.last+1, firstUKI), w.Index, s}
	if _, ok := parseUKIName(n.String()); !ok {
		return n, errkind.WithHint(errkind.Errorf(errkind.Precondition, "a UKI cannot have a higher number than %d", w.last),
			"rename the UKIs in %s on the ESP", linuxDir)
	}
	return n, w.esp.remove(inLinux(n.String() + extraDir))
}

// write writes a file of text into EFI/Linux.
func (w *session) write(name, text string) error {
	return w.esp.put(linuxDir, textFile(name, text))
}

// textFile returns a file whose content is text.
func textFile(name, text string) file {
	return file{name, int64(len(text)), func() (fs.File, error) { return memory{strings.NewReader(text)}, nil }}
}

// memory is a file whose content is a string.
type memory struct{ *strings.Reader }

func (memory) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
func (memory) Close() error               { return nil }

// unstage removes the staged files, for either slot, and the rest of an interrupted write.
func (w *session) unstage() error {
	for _, name := range []string{stagedName, stagedName + newSuffix, plannedName, plannedName + newSuffix, stagedName + extraDir} {
		if err := w.esp.remove(inLinux(name)); err != nil {
			return err
		}
	}
	w.staged, w.planned = false, ukiName{}
	return nil
}
