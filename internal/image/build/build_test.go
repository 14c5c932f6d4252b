package build

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
)

func TestPackagesAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []image.Package
	}{
		"dpkg's status": {
			"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 1:1.2.13.dfsg-1\nDescription: x\n Version: 9-9\n\n" +
				"Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1-1\n\n" +
				"Package: adduser\nStatus: install ok installed\nArchitecture: all\nVersion: 3.134\n",
			[]image.Package{{Name: "zlib1g", Version: "1:1.2.13.dfsg", Release: "1", Arch: "amd64"}, {Name: "adduser", Version: "3.134", Release: "0", Arch: "all"}},
		},
		"dpkg -l": {
			"Desired=Unknown/Install\n| Status=Not\n|/ Err?=(none)\n||/ Name Version Architecture Description\n+++-====-===-===-====\n" +
				"ii  libc6:amd64  2.36-9+deb12u9  amd64  GNU C Library: Shared libraries\nrc  gone  1-1  amd64  was here\n",
			[]image.Package{{Name: "libc6", Version: "2.36", Release: "9+deb12u9", Arch: "amd64"}},
		},
		"three words":   {"# a list\nbash 5.2-1 amd64\n\n", []image.Package{{Name: "bash", Version: "5.2", Release: "1", Arch: "amd64"}}},
		"four words":    {"bash 5.2 3.azl3 x86_64\n", []image.Package{{Name: "bash", Version: "5.2", Release: "3.azl3", Arch: "x86_64"}}},
		"rpm -qa":       {"python3-pip-23.1-1.azl3.noarch\n", []image.Package{{Name: "python3-pip", Version: "23.1", Release: "1.azl3", Arch: "noarch"}}},
		"JSON":          {` [{"name":"a","version":"1","release":"2","arch":"x86_64"}]`, []image.Package{{Name: "a", Version: "1", Release: "2", Arch: "x86_64"}}},
		"nothing":       {"\n", nil},
		"no such thing": {"two words\n", nil},
		"no rpm":        {"bash\n", nil},
		"no list":       {`[{"name":1}]`, nil},
	} {
		got, err := parsePackages([]byte(c.text))
		if diff := cmp.Diff(c.want, got); diff != "" && c.want != nil || (err == nil) != (c.want != nil || name == "nothing") {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestPartitionsAndMountsAreReadOrRefused(t *testing.T) {
	t.Parallel()
	for text, fault := range map[string]string{
		"partition=2,mount=/":                        "",
		"partition=2,mount=/,verity=3,roothash=ab":   "",
		"partition=2,mount=/,fstype=ext4,fsuuid=1-2": "",
		"mount=/":                                  "partition is missing",
		"partition=2":                              "mount is missing",
		"partition=0,mount=/":                      "must be the number",
		"partition=x,mount=/":                      "must be the number",
		"partition=2,mount=/,verity=3":             "belong together",
		"partition=2,mount=/,verity=x,roothash=ab": "must be the number",
		"partition=2,mount=/,name=root":            "is not one of",
		"partition=2,mount=/,mount=/usr":           "twice",
		"partition=2,/":                            "not of the form",
	} {
		_, err := parseMounts([]string{text})
		if fault == "" && err != nil || fault != "" && (errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), fault)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A disk is made of whole partitions, and each fault is named by its flag.
func TestADiskOfPartitionsIsAssembledOrRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"os-release": "ID=test\n", "a": strings.Repeat("a", 8<<10), "b": strings.Repeat("b", 4<<10), "empty": ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const root, hash = "name=root,type=root,file=a", "name=hash,type=root-verity,file=b"
	for name, c := range map[string]struct {
		partitions []string
		fault      string
		mounts     []image.Mount
	}{
		"mounted":               {[]string{root + ",mount=/,fstype=ext4,fsuuid=1-2", "name=data,type=linux-generic,file=b"}, "", []image.Mount{{Number: 1, MountPoint: "/", Type: "ext4", UUID: "1-2"}}},
		"hash tree":             {[]string{hash, root + ",mount=/,verity=hash,roothash=ab"}, "", []image.Mount{{Number: 2, MountPoint: "/", RootHash: "ab", HashTree: 1}}},
		"hash tree in the same": {[]string{root + ",mount=/,verity=root,roothash=ab,hashoffset=4096"}, "", []image.Mount{{Number: 1, MountPoint: "/", RootHash: "ab", HashTree: 1, HashOffset: 4096}}},
		"another hash tree":     {[]string{root + ",mount=/,verity=hash,roothash=ab"}, `no partition has the name "hash"`, nil},
		"not mounted":           {[]string{root + ",fstype=ext4"}, "root has no mount", nil},
		"name twice":            {[]string{root, root}, `two partitions have the name "root"`, nil},
		"no name":               {[]string{"type=root,file=a"}, "name is missing", nil},
		"no type":               {[]string{"name=root,file=a"}, "type is missing", nil},
		"no file":               {[]string{"name=root,type=root"}, "file is missing", nil},
		"unknown type":          {[]string{"name=root,type=nothing,file=a"}, `type is "nothing"`, nil},
		"unknown key":           {[]string{root + ",size=4"}, "size", nil},
		"empty file":            {[]string{"name=root,type=root,file=empty"}, "read --partition root: empty is empty", nil},
		"offset without a tree": {[]string{root + ",mount=/,hashoffset=4096"}, "hashoffset", nil},
	} {
		i := &Image{Spec: image.Spec{Arch: image.AMD64}}
		err := i.assemble(c.partitions)
		i.Close()
		if c.fault == "" && err != nil || c.fault != "" && (errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.mounts, i.Spec.Mounts); diff != "" && c.fault == "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	for name, c := range map[string]struct{ o, fault string }{"no os-release": {"none", "read --os-release: "}, "empty os-release": {"empty", "empty is empty"}} {
		if _, err := Open(Options{Arch: "amd64", OSRelease: c.o, Partitions: []string{root}}); err == nil || !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
