package rules

import (
	"fmt"
	"net/url"
	"unicode/utf16"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// Limits of a GUID partition table as Trident writes it.
const (
	maxPartitions = 128
	maxLabel      = 36      // UTF-16 units
	minPartition  = 1 << 20 // partitions are aligned to it
	maxDisk       = 1 << 60 // far more than any disk has
)

// checkDisks warns of partitions that no partition table can hold. Upstream's
// validation accepts them, and upstream fails when it makes the table.
func (c *checker) checkDisks() {
	for i := range c.spec.Storage.Disks {
		d := &c.spec.Storage.Disks[i]
		at := fmt.Sprintf("storage.disks[%d]", i)
		if n := len(d.Partitions) + len(d.AdoptedPartitions); n > maxPartitions {
			c.warn(at+".partitions", "disk %q has %d partitions, and a partition table has room for %d", form.Shorten(d.ID), n, maxPartitions)
		}
		var sum uint64
		for j := range d.Partitions {
			p := &d.Partitions[j]
			here := fmt.Sprintf("%s.partitions[%d]", at, j)
			key, label := ".label", p.Label
			if label == "" {
				key, label = ".id", p.ID
			}
			if n := len(utf16.Encode([]rune(label))); n > maxLabel {
				c.warn(here+key, "partition %q: the label %q has %d characters, and a partition table has room for %d", form.Shorten(p.ID), form.Shorten(label), n, maxLabel)
			}
			switch {
			case !p.Size.Fixed():
			case p.Size < minPartition:
				c.warn(here+".size", "partition %q: size %s is smaller than 1 MiB", form.Shorten(p.ID), p.Size)
			case p.Size > maxDisk:
				c.warn(here+".size", "partition %q: size %s is more than any disk has", form.Shorten(p.ID), p.Size)
			case sum <= maxDisk && sum+uint64(p.Size) > maxDisk:
				c.warn(here+".size", "partition %q: size %s makes the partitions of disk %q larger than any disk", form.Shorten(p.ID), p.Size, form.Shorten(d.ID))
			}
			if p.Size <= maxDisk {
				sum = min(sum+uint64(p.Size), 2*maxDisk)
			}
		}
	}
}

// warnUnsupported warns of settings that this version of Trident ignores, or for which it refuses an installation.
func (c *checker) warnUnsupported() {
	s := &c.spec.Storage
	for i := range s.Filesystems {
		if f := &s.Filesystems[i]; f.Source == hostconfig.FromNew && f.Type == hostconfig.Overlay {
			c.warn(filesystemAt(i)+".type", "this version of Trident cannot set up file systems of type overlay yet, and refuses the installation")
		}
	}
	if args := c.spec.OS.KernelCommandLine.ExtraCommandLine; len(args) > 0 {
		c.warn("os.kernelCommandLine.extraCommandLine", "an image with a unified kernel image has its command line sealed, and Trident refuses these arguments for it: only an image that boots by GRUB takes them")
	}
	t := &c.spec.Trident
	for _, u := range []struct{ key, value string }{{"phonehome", t.Phonehome}, {"logstream", t.Logstream}} {
		if at, err := url.Parse(u.value); u.value != "" && (err != nil || (at.Scheme != "http" && at.Scheme != "https") || at.Host == "") {
			c.warn("trident."+u.key, "is not an http or https URL, and Trident reports nothing to it")
		}
	}
}
