package build

import (
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
