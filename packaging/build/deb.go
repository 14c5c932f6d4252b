package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/files"
)

const unitFolder = "/usr/lib/systemd/system/"

// forDpkg makes of a package for rpm one for dpkg: relations in dpkg's grammar, the
// license and the completions of zsh where Debian has them, and the scriptlets of
// packaging/deb with the package's units filled in.
func (p project) forDpkg(info *nfpm.Info, pack pack) error {
	info.Section = "admin"
	info.Description = pack.RPM.Summary + "\n" + pack.Description
	info.Deb.Compression = pack.RPM.Compression
	var err error
	if info.Depends, err = relations(pack.Dependencies, debVersion(info)); err != nil {
		return err
	}
	if info.Conflicts, err = relations(pack.Conflicts, debVersion(info)); err != nil {
		return err
	}
	info.Contents = slices.DeleteFunc(info.Contents, func(c *files.Content) bool {
		return strings.HasPrefix(c.Destination, "/usr/share/licenses")
	})
	for _, c := range info.Contents {
		c.Destination = strings.Replace(c.Destination, "/usr/share/zsh/site-functions", "/usr/share/zsh/vendor-completions", 1)
	}
	doc := "/usr/share/doc/" + pack.Name
	info.Contents = append(info.Contents, item("LICENSE", doc+"/copyright", "", 0o644))

	units, err := enabledUnits(info.Contents)
	if err != nil {
		return err
	}
	dir := filepath.Join(p.cfg.Dist, "deb", pack.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, to := range map[string]*string{
		"preinst": &info.Scripts.PreInstall, "postinst": &info.Scripts.PostInstall,
		"prerm": &info.Scripts.PreRemove, "postrm": &info.Scripts.PostRemove,
	} {
		text, err := os.ReadFile(filepath.Join("packaging/deb", name))
		if err != nil {
			return fmt.Errorf("read scriptlet: %w", err)
		}
		text = []byte(strings.ReplaceAll(string(text), "@UNITS@", strings.Join(units, " ")))
		*to = filepath.Join(dir, name)
		if err := os.WriteFile(*to, text, 0o644); err != nil {
			return fmt.Errorf("write scriptlet: %w", err)
		}
	}
	return nil
}

// enabledUnits returns the names of the units that can be enabled, in the order of list.
func enabledUnits(list files.Contents) ([]string, error) {
	var units []string
	for _, c := range list {
		unit, ok := strings.CutPrefix(c.Destination, unitFolder)
		if !ok || c.Type == files.TypeDir {
			continue
		}
		text, err := os.ReadFile(c.Source)
		if err != nil {
			return nil, fmt.Errorf("read unit: %w", err)
		}
		if strings.Contains(string(text), "\n[Install]\n") {
			units = append(units, unit)
		}
	}
	return units, nil
}

// relations writes requirements and conflicts in dpkg's grammar. A requirement of
// mainPackage is one of the package's own version; a path is one of an essential package
// of Debian, which no package names.
func relations(list []string, version string) ([]string, error) {
	operators := map[string]string{"<": "<<", "<=": "<=", "=": "=", ">=": ">=", ">": ">>"}
	var out []string
	for _, text := range list {
		words := strings.Fields(text)
		switch {
		case len(words) == 1 && strings.HasPrefix(text, "/bin/"):
		case len(words) == 1 && text == mainPackage:
			out = append(out, fmt.Sprintf("%s (= %s)", text, version))
		case len(words) == 1:
			out = append(out, text)
		case len(words) == 3 && operators[words[1]] != "":
			out = append(out, fmt.Sprintf("%s (%s %s)", words[0], operators[words[1]], words[2]))
		default:
			return nil, fmt.Errorf("the relation %q is not NAME or NAME OPERATOR VERSION", text)
		}
	}
	return out, nil
}

// debVersion is the version as nfpm writes it into a package for dpkg.
func debVersion(info *nfpm.Info) string {
	version := info.Version
	if info.Prerelease != "" {
		version += "~" + info.Prerelease
	}
	if info.VersionMetadata != "" {
		version += "+" + info.VersionMetadata
	}
	return version
}
