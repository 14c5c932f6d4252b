package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/template"
	"time"

	"go.yaml.in/yaml/v4"
)

// A config is the part of goreleaser's schema (version 2) that .goreleaser.yaml uses.
// Keys that only goreleaser itself acts on are any.
type config struct {
	Version int
	Project string `yaml:"project_name"`
	Dist    string
	Before  struct{ Hooks []string }
	Builds  []build
	NFPMs   []pack `yaml:"nfpms"`

	Archives, Signs, Checksum, Snapshot, Release any
}

type build struct {
	ID, Main, Binary string
	GOOS, GOARCH     []string
	Env, Flags, Tags []string
	LDFlags          []string `yaml:"ldflags"`
	ModTimestamp     string   `yaml:"mod_timestamp"`
	NoUniqueDistDir  bool     `yaml:"no_unique_dist_dir"`
}

type pack struct {
	ID       string
	Name     string   `yaml:"package_name"`
	IDs      []string // of the builds whose binaries go to Bindir
	Meta     bool     // no binaries: one package for all architectures
	Formats  []string
	Bindir   string
	FileName string `yaml:"file_name_template"`
	MTime    string

	Vendor, Homepage, Maintainer, License, Description string
	Dependencies, Conflicts                            []string

	Contents []content
	Scripts  struct{ PostInstall, PreRemove, PostRemove string }
	RPM      struct {
		Summary, Group, Compression, BuildHost, Packager string
		Scripts                                          struct{ PreTrans, PostTrans string }
	}
}

type content struct {
	Src, Dst, Type string
	FileInfo       struct{ Mode fs.FileMode } `yaml:"file_info"`
}

func readConfig(name string) (*config, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read package definitions: %w", err)
	}
	return parseConfig(text)
}

func parseConfig(text []byte) (*config, error) {
	var c config
	if err := yaml.Load(text, &c, yaml.WithKnownFields()); err != nil {
		return nil, fmt.Errorf("read package definitions (a key that goreleaser knows may be unknown here): %w", err)
	}
	for _, p := range c.NFPMs {
		if len(p.Formats) != 1 || p.Formats[0] != "rpm" {
			return nil, fmt.Errorf("read package definitions: package %s: goreleaser is to make rpm alone; the command release makes .deb packages of the same definitions", p.Name)
		}
	}
	return &c, nil
}

// fields are the template fields of goreleaser that .goreleaser.yaml uses.
type fields struct {
	Version, Arch, ConventionalFileName string
	CommitDate                          string
	CommitTimestamp                     int64
}

func newFields(version string, epoch time.Time) fields {
	return fields{Version: version, CommitDate: epoch.Format(time.RFC3339), CommitTimestamp: epoch.Unix()}
}

func (f fields) expand(text string) (string, error) {
	t, err := template.New("").Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse template %q: %w", text, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, f); err != nil {
		return "", fmt.Errorf("expand template %q: %w", text, err)
	}
	return b.String(), nil
}

func (f fields) expandAll(texts []string) ([]string, error) {
	var out []string
	for _, text := range texts {
		s, err := f.expand(text)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
