package build

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/filekind"
)

// readPackages reads a list of packages in a form of dpkg or rpm, or as JSON, and sorts it.
// Without a path there are no packages.
func readPackages(path string) ([]image.Package, error) {
	if path == "" {
		return nil, nil
	}
	data, err := filekind.ReadFile(path, 64<<20, filekind.Text)
	if err != nil {
		return nil, fmt.Errorf("read --packages: %w", err)
	}
	list, err := parsePackages(data)
	if err != nil {
		return nil, errkind.With(errkind.Invalid, fmt.Errorf("read --packages %s: %w", path, err))
	}
	slices.SortFunc(list, func(a, b image.Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Release, b.Release), cmp.Compare(a.Arch, b.Arch))
	})
	return slices.Compact(list), nil
}

func parsePackages(data []byte) ([]image.Package, error) {
	text := bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(text, []byte("[")):
		var list []image.Package
		err := json.Unmarshal(text, &list)
		return list, err
	case bytes.HasPrefix(text, []byte("Package:")):
		return parseStatus(string(text)), nil
	}
	var list []image.Package
	n := 0
	for row := range strings.Lines(string(text)) {
		n++
		p, ok, err := parsePackage(row)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if ok {
			list = append(list, p)
		}
	}
	return list, nil
}

// parseStatus returns the installed packages of dpkg's status file.
func parseStatus(text string) []image.Package {
	var list []image.Package
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		fields := map[string]string{}
		for row := range strings.Lines(paragraph) {
			if key, value, ok := strings.Cut(row, ":"); ok && row[0] != ' ' {
				fields[key] = strings.TrimSpace(value)
			}
		}
		if status := strings.Fields(fields["Status"]); fields["Package"] != "" && (len(status) == 0 || status[len(status)-1] == "installed") {
			list = append(list, debian(fields["Package"], fields["Version"], fields["Architecture"]))
		}
	}
	return list
}

// parsePackage reads a line about a package; ok is false for another line.
func parsePackage(row string) (p image.Package, ok bool, err error) {
	f := strings.Fields(row)
	if len(f) == 0 || f[0][0] == '#' {
		return p, false, nil
	}
	if strings.HasPrefix(row, "Desired=") || strings.HasPrefix(row, "|") || strings.HasPrefix(row, "+++-") {
		return p, false, nil // the head of dpkg -l
	}
	if len(f) >= 4 && len(f[0]) <= 3 && len(f[0]) >= 2 && strings.Contains("uirph", f[0][:1]) && strings.Contains("ncHUFWti", f[0][1:2]) {
		return debian(f[1], f[2], f[3]), f[0][1] == 'i', nil // dpkg -l
	}
	switch len(f) {
	case 1:
		return rpm(f[0])
	case 3:
		return debian(f[0], f[1], f[2]), true, nil
	case 4:
		return image.Package{Name: f[0], Version: f[1], Release: f[2], Arch: f[3]}, true, nil
	}
	return p, false, fmt.Errorf("%.100q has %d words, must have 1, 3 or 4", row, len(f))
}

// debian splits a version and its revision; without a revision it is 0 (Debian Policy,
// 5.6.12).
func debian(name, version, arch string) image.Package {
	p := image.Package{Version: version, Release: "0", Arch: arch}
	p.Name, _, _ = strings.Cut(name, ":") // libc6:amd64
	if i := strings.LastIndexByte(version, '-'); i > 0 {
		p.Version, p.Release = version[:i], version[i+1:]
	}
	return p
}

// rpm splits name-version-release.arch.
func rpm(text string) (image.Package, bool, error) {
	rest, arch := cutLast(text, ".")
	rest, release := cutLast(rest, "-")
	name, version := cutLast(rest, "-")
	if name == "" || version == "" || release == "" || arch == "" {
		return image.Package{}, false, fmt.Errorf("%.100q is not of the form name-version-release.architecture", text)
	}
	return image.Package{Name: name, Version: version, Release: release, Arch: arch}, true, nil
}

func cutLast(s, sep string) (before, after string) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", ""
	}
	return s[:i], s[i+len(sep):]
}
