package build

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/filekind"
)

// keys are the values of a flag like name=root,file=root.ext4.
type keys struct {
	flag   string
	values map[string]string
}

func parseKeys(flag, text string, known ...string) (keys, error) {
	k := keys{flag, map[string]string{}}
	for field := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(field, "=")
		_, twice := k.values[key]
		switch {
		case !ok:
			return k, errkind.Errorf(errkind.Invalid, "%s: %q is not of the form key=value", flag, field)
		case !slices.Contains(known, key):
			return k, errkind.Errorf(errkind.Invalid, "%s: %q is not one of %s", flag, key, strings.Join(known, ", "))
		case twice:
			return k, errkind.Errorf(errkind.Invalid, "%s: %s is given twice", flag, key)
		}
		k.values[key] = value
	}
	return k, nil
}

func (k keys) need(key string) (string, error) {
	if v := k.values[key]; v != "" {
		return v, nil
	}
	return "", errkind.Errorf(errkind.Invalid, "%s: %s is missing", k.flag, key)
}

func (k keys) number(key string) (int, error) {
	text, err := k.need(key)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 128 {
		return 0, errkind.Errorf(errkind.Invalid, "%s: %s is %q, it must be the number of a partition", k.flag, key, text)
	}
	return n, nil
}

// mount reads the keys about the mount of a file system. find returns the number of the
// partition that a key names.
func (k keys) mount(find func(key string) (int, error)) (image.Mount, error) {
	m := image.Mount{Type: k.values["fstype"], UUID: k.values["fsuuid"], RootHash: k.values["roothash"]}
	var err error
	if m.MountPoint, err = k.need("mount"); err != nil {
		return m, err
	}
	if (k.values["verity"] != "") != (m.RootHash != "") {
		return m, errkind.Errorf(errkind.Invalid, "%s: verity and roothash belong together", k.flag)
	}
	if m.RootHash != "" {
		if m.HashTree, err = find("verity"); err != nil {
			return m, err
		}
	}
	if text := k.values["hashoffset"]; text != "" {
		if m.HashOffset, err = strconv.ParseInt(text, 10, 64); err != nil || m.HashTree == 0 {
			return m, errkind.Errorf(errkind.Invalid, "%s: hashoffset is %q, it must be a number of bytes, given together with verity", k.flag, text)
		}
	}
	return m, nil
}

// assemble makes a disk from the given partitions.
func (i *Image) assemble(partitions []string) error {
	s := &i.Spec
	const flag = "--partition"
	var parts []image.Part
	var all []keys
	numbers := map[string]int{}
	for n, text := range partitions {
		k, err := parseKeys(flag, text, "name", "type", "file", "mount", "fstype", "fsuuid", "verity", "roothash", "hashoffset")
		if err != nil {
			return err
		}
		p, err := i.part(k)
		if err != nil {
			return err
		}
		if numbers[p.Name] != 0 {
			return errkind.Errorf(errkind.Invalid, "%s: two partitions have the name %q", flag, p.Name)
		}
		numbers[p.Name] = n + 1
		parts, all = append(parts, p), append(all, k)
	}
	var err error
	if s.Disk, s.DiskSize, err = image.Assemble(parts); err != nil {
		return err
	}
	for n, k := range all {
		if k.values["mount"] == "" {
			if k.values["fstype"]+k.values["fsuuid"]+k.values["verity"]+k.values["roothash"]+k.values["hashoffset"] != "" {
				return errkind.Errorf(errkind.Invalid, "%s: %s has no mount", flag, k.values["name"])
			}
			continue
		}
		m, err := k.mount(func(key string) (int, error) {
			n := numbers[k.values[key]]
			if n == 0 {
				return 0, errkind.Errorf(errkind.Invalid, "%s: no partition has the name %q", flag, k.values[key])
			}
			return n, nil
		})
		if err != nil {
			return err
		}
		m.Number = n + 1
		s.Mounts = append(s.Mounts, m)
	}
	return nil
}

// part opens the partition that k names.
func (i *Image) part(k keys) (p image.Part, err error) {
	if p.Name, err = k.need("name"); err != nil {
		return p, err
	}
	name, err := k.need("type")
	if err != nil {
		return p, err
	}
	var ok bool
	if p.Type, ok = image.ParsePartType(name, i.Spec.Arch); !ok {
		return p, errkind.Errorf(errkind.Invalid, "%s: type is %q, which is not a GUID and not the name of a type", k.flag, name)
	}
	path, err := k.need("file")
	if err != nil {
		return p, err
	}
	if p.Content, p.Size, err = i.open(path, filekind.Partition); err != nil {
		return p, fmt.Errorf("read %s %s: %w", k.flag, p.Name, err)
	}
	return p, nil
}
