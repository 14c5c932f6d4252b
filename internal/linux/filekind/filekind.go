// Package filekind recognizes the kind of a file by its bytes, for errors about a file of
// the wrong kind.
//
// A reader calls it only after it has failed to read a file, so that its error does not
// call a good file of another kind damaged. Mistaken takes the kind that the caller wants,
// because the hint depends on it: a raw disk in the place of a COSI image has another
// remedy than one in the place of an extension.
package filekind

import (
	"fmt"
	"io"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// A Want is the kind of file that a command takes.
type Want string

// The kinds of files that commands take.
const (
	Extension Want = "an extension image"
	System    Want = "a COSI image of an operating system"
	Disk      Want = "a raw disk image with a GPT"
	Partition Want = "the content of a partition"
	Config    Want = "a Host Configuration"
	Text      Want = "a text file"
)

// family is a group of kinds with the same hint.
type family int

const (
	unusable     family = iota // only another file helps
	packed                     // the hint is how to unpack it
	virtual                    // the hint is how to convert it to a raw disk
	cosi                       // System
	systemDisk                 // Disk, with an EFI system partition
	otherDisk                  // Disk, without one; also an extension
	largeSectors               // one of the two, for sectors of more than 512 bytes
	mbrDisk                    // a disk without a GPT
	fileSystem                 // a file system alone
	part                       // a part of an extension image
	download                   // a page that a server sent instead of the file
	plain                      // Text, and maybe Config
)

// kind is the kind of a file.
type kind struct {
	family family
	name   string // with its article
	tool   string // of packed, the command that unpacks FILE; of unusable, the hint; or ""
}

// Mistaken returns an error, with a hint, that names the kind of the file, if that kind is
// known and is not the wanted one. The error is of kind Invalid, or Corrupt for a text in
// the place of another kind. Mistaken returns nil if the file is of the wanted kind or of
// an unknown one, or if it cannot read the file.
func Mistaken(r io.ReaderAt, size int64, want Want) error {
	k, ok := identify(r, size)
	if !ok || k.is(want) {
		return nil
	}
	name := k.name
	if k.family == fileSystem {
		name += " file system without a partition table"
	}
	fault := errkind.Invalid
	if k.family == plain {
		fault = errkind.Corrupt
	}
	err := errkind.Errorf(fault, "it is %s, not %s", name, want)
	if hint := k.wayTo(want); hint != "" {
		err = errkind.WithHint(err, "%s", hint)
	}
	return err
}

// ReadFile returns the content of the regular file at path. It fails with the error of
// Mistaken if that is not nil, and with errkind.TooLarge if the file has more than limit
// bytes.
func ReadFile(path string, limit int64, want Want) ([]byte, error) {
	f, err := regfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil || len(data) == 0 {
		return data, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if other := Mistaken(f, info.Size(), want); other != nil {
		return nil, fmt.Errorf("%s: %w", path, other)
	}
	if int64(len(data)) > limit {
		return nil, errkind.Errorf(errkind.TooLarge, "%s has more than %d KiB", path, limit>>10)
	}
	return data, nil
}

// FileSystem returns the name of the file system that begins at byte 0, with its article;
// "" if it is unknown.
func FileSystem(r io.ReaderAt, size int64) string {
	if k, _ := identify(r, size); k.family == fileSystem {
		return k.name
	}
	return ""
}

// Erofs is the result of FileSystem for an erofs.
const Erofs = "an erofs"

func (k kind) is(want Want) bool {
	switch want {
	case Extension:
		return k.family == otherDisk
	case System:
		return k.family == cosi
	case Disk:
		return k.family == systemDisk || k.family == otherDisk || k.family == largeSectors
	case Partition: // anything, except a file that has to be unpacked or converted, a disk or a page
		switch k.family {
		case packed, virtual, cosi, systemDisk, otherDisk, largeSectors, download:
			return false
		}
		return true
	}
	return k.family == plain
}

// wayTo returns the hint: how a person with this kind of file gets the wanted one, or "".
func (k kind) wayTo(want Want) string {
	const (
		makeCOSI      = "make a COSI image of it: trident image build OUT.cosi --disk %s"
		makeExtension = "An extension image is made of a folder: trident sysext build, or systemd-repart."
		configuration = "A Host Configuration is a YAML file, which names images by their URLs: see docs/host-configuration.md."
	)
	switch k.family {
	case packed:
		hint := "Unpack it first: " + k.tool
		if want == System && strings.Contains(k.name, "compressed") {
			hint += " If that is a raw disk image, " + fmt.Sprintf(makeCOSI, "OUT")
		}
		return hint
	case download:
		return "A server sent this page instead of the file: check the URL, and whether it needs a login."
	case unusable:
		return k.tool
	}
	switch want {
	case Config, Text:
		if want == Config && k.family != part {
			return configuration
		}
		return ""
	case Partition:
		switch k.family {
		case virtual:
			return "Convert it first: qemu-img convert -O raw FILE FILE.raw. If it has a partition table, it is given as --disk FILE.raw."
		case systemDisk, otherDisk, largeSectors:
			return "A disk is given as --disk FILE."
		}
		return ""
	case Disk:
		switch k.family {
		case virtual:
			return "Convert it first: qemu-img convert -O raw FILE FILE.raw"
		case cosi:
			return "It is the result already: trident image inspect FILE"
		case mbrDisk:
			return "Trident takes disks with a GUID partition table. Build the disk with one: systemd-repart, mkosi, or sgdisk --mbrtogpt on a copy."
		case fileSystem:
			return "A file system alone is given as --partition name=root,type=root,file=FILE,mount=/."
		}
		return ""
	case System:
		switch k.family {
		case virtual:
			return "Convert it first: qemu-img convert -O raw FILE FILE.raw. Then " + fmt.Sprintf(makeCOSI, "FILE.raw")
		case systemDisk:
			return "If it is complete, " + fmt.Sprintf(makeCOSI, "FILE")
		case otherDisk, largeSectors:
			return "If it is an extension, trident sysext inspect shows it, and a Host Configuration names it in os.sysexts or os.confexts. If it is the disk of a system, " + fmt.Sprintf(makeCOSI, "FILE")
		case mbrDisk:
			return "A COSI image is made of a disk with a GUID partition table: build the disk with one, and use trident image build."
		case fileSystem:
			return "If it is an extension, a Host Configuration names it in os.sysexts or os.confexts. If it is a partition of a system, make a COSI image of all of them: trident image build --partition."
		case part:
			return "It is a part of an image that was split. trident image build --partition takes the parts of a system."
		}
		return ""
	case Extension:
		switch k.family {
		case virtual:
			return "Convert it first: qemu-img convert -O raw FILE FILE.raw"
		case cosi:
			return "It is an image of a whole system: trident image inspect shows it, trident image verify checks it, and a Host Configuration names it in image.url."
		case systemDisk:
			return "It is a whole system: make a COSI image of it with trident image build. " + makeExtension
		case largeSectors:
			return "Build it for sectors of 512 bytes: systemd-repart without --sector-size, mkosi without SectorSize=, or trident sysext build."
		case part:
			return "It is one part of an image that was split: give the whole image, as systemd-repart writes it without --split."
		case fileSystem:
			return "It has neither a dm-verity tree nor a signature. Build a discoverable disk image: trident sysext build, or systemd-repart."
		}
		return makeExtension
	}
	return ""
}

const (
	headSize = 68 << 10 // up to the end of the superblock of btrfs
	tailSize = 512      // the footer of a VHD
)
