package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

// A project is a configuration and what is asked of it.
type project struct {
	cfg     *config
	version string
	epoch   time.Time
	only    []string // architectures in Go's words; empty: all that are configured
}

// compileAll runs the hooks and builds the programs.
func (p project) compileAll(ctx context.Context) error {
	f := newFields(p.version, p.epoch)
	for _, hook := range p.cfg.Before.Hooks {
		line, err := f.expand(hook)
		if err != nil {
			return err
		}
		if err := command(ctx, nil, strings.Fields(line)...); err != nil {
			return fmt.Errorf("run the hook %q: %w", line, err)
		}
	}
	for _, b := range p.cfg.Builds {
		for _, arch := range p.arches(b) {
			if err := p.compile(ctx, b, arch); err != nil {
				return fmt.Errorf("build %s for %s: %w", b.ID, arch, err)
			}
		}
	}
	return nil
}

// packAll writes all packages of a format into dir and returns their paths.
func (p project) packAll(format, dir string) ([]string, error) {
	var names []string
	for _, pack := range p.cfg.NFPMs {
		for _, arch := range p.packArches(pack) {
			name, err := p.write(pack, format, arch, dir)
			if err != nil {
				return nil, fmt.Errorf("package %s for %s: %w", pack.Name, arch, err)
			}
			names = append(names, name)
		}
	}
	return names, nil
}

func (p project) arches(b build) []string {
	if len(p.only) == 0 {
		return b.GOARCH
	}
	return slices.DeleteFunc(slices.Clone(b.GOARCH), func(a string) bool { return !slices.Contains(p.only, a) })
}

// packArches are those of the binaries in the package; one without any is for all.
func (p project) packArches(pack pack) []string {
	if pack.Meta {
		return []string{"all"}
	}
	for _, b := range p.cfg.Builds {
		if slices.Contains(pack.IDs, b.ID) {
			return p.arches(b)
		}
	}
	return nil
}

func (p project) compile(ctx context.Context, b build, arch string) error {
	out, f, err := p.binary(b, arch)
	if err != nil {
		return err
	}
	ldflags, err := f.expandAll(b.LDFlags)
	if err != nil {
		return err
	}
	args := append([]string{"go", "build"}, b.Flags...)
	args = append(args, "-tags", strings.Join(b.Tags, ","), "-ldflags", strings.Join(ldflags, " "), "-o", out, b.Main)
	env := append(slices.Clone(b.Env), "GOOS=linux", "GOARCH="+arch)
	if err := command(ctx, env, args...); err != nil {
		return err
	}
	return os.Chtimes(out, p.epoch, p.epoch)
}

// binary says where a build puts its program.
func (p project) binary(b build, arch string) (string, fields, error) {
	f := newFields(p.version, p.epoch)
	f.Arch = arch
	name, err := f.expand(b.Binary)
	if err != nil {
		return "", f, err
	}
	if b.NoUniqueDistDir {
		return filepath.Join(p.cfg.Dist, name), f, nil
	}
	return filepath.Join(p.cfg.Dist, b.ID+"_linux_"+arch, name), f, nil
}

// packagers are the formats of packages.
var packagers = map[string]nfpm.Packager{"rpm": rpm.DefaultRPM, "deb": deb.Default}

// write makes one package under its conventional name in dir and returns its path.
func (p project) write(pack pack, format, arch, dir string) (string, error) {
	info, err := p.info(pack, arch)
	if err != nil {
		return "", err
	}
	if format == "deb" {
		if err := p.forDpkg(info, pack); err != nil {
			return "", err
		}
	}
	f := newFields(p.version, p.epoch)
	f.Arch = arch
	f.ConventionalFileName = packagers[format].ConventionalFileName(info)
	base, err := f.expand(pack.FileName)
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, base)
	file, err := os.Create(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if err := packagers[format].Package(info, file); err != nil {
		return "", err
	}
	return name, file.Close()
}

func (p project) info(pack pack, arch string) (*nfpm.Info, error) {
	f := newFields(p.version, p.epoch)
	f.Arch = arch
	contents, err := p.contents(pack, f)
	if err != nil {
		return nil, err
	}
	info := &nfpm.Info{
		Name: pack.Name, Arch: arch, Platform: "linux", Version: p.version, MTime: p.epoch,
		Vendor: pack.Vendor, Homepage: pack.Homepage, Maintainer: pack.Maintainer,
		License: pack.License, Description: pack.Description,
		Overridables: nfpm.Overridables{
			Depends: pack.Dependencies, Conflicts: pack.Conflicts, Contents: contents,
			Scripts: nfpm.Scripts{
				PostInstall: pack.Scripts.PostInstall,
				PreRemove:   pack.Scripts.PreRemove,
				PostRemove:  pack.Scripts.PostRemove,
			},
			RPM: nfpm.RPM{
				Summary: pack.RPM.Summary, Group: pack.RPM.Group, Packager: pack.RPM.Packager,
				Compression: pack.RPM.Compression, BuildHost: pack.RPM.BuildHost,
				Scripts: nfpm.RPMScripts{PreTrans: pack.RPM.Scripts.PreTrans, PostTrans: pack.RPM.Scripts.PostTrans},
			},
		},
	}
	return nfpm.WithDefaults(info), nil
}

func (p project) contents(pack pack, f fields) (files.Contents, error) {
	var list files.Contents
	for _, c := range pack.Contents {
		src, err := f.expand(c.Src)
		if err != nil {
			return nil, err
		}
		dst, err := f.expand(c.Dst)
		if err != nil {
			return nil, err
		}
		list = append(list, item(src, dst, c.Type, c.FileInfo.Mode))
	}
	for _, b := range p.cfg.Builds {
		if !slices.Contains(pack.IDs, b.ID) {
			continue
		}
		src, _, err := p.binary(b, f.Arch)
		if err != nil {
			return nil, err
		}
		list = append(list, item(src, filepath.Join(pack.Bindir, filepath.Base(src)), "", 0o755))
	}
	return list, nil
}

func item(src, dst, kind string, mode fs.FileMode) *files.Content {
	return &files.Content{Source: src, Destination: dst, Type: kind, FileInfo: &files.ContentFileInfo{Mode: mode}}
}

// command runs a program with its output on ours; env is added to our own.
func command(ctx context.Context, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}
