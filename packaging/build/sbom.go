package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// The parts of SPDX 2.3 (spdx.github.io/spdx-spec/v2.3) that a bill of materials uses.
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	DataLicense   string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	Name             string          `json:"name"`
	ID               string          `json:"SPDXID"`
	Version          string          `json:"versionInfo"`
	FileName         string          `json:"packageFileName,omitempty"`
	Supplier         string          `json:"supplier,omitempty"`
	DownloadLocation string          `json:"downloadLocation"`
	FilesAnalyzed    bool            `json:"filesAnalyzed"`
	LicenseDeclared  string          `json:"licenseDeclared"`
	LicenseConcluded string          `json:"licenseConcluded"`
	Copyright        string          `json:"copyrightText"`
	Checksums        []spdxChecksum  `json:"checksums,omitempty"`
	References       []spdxReference `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxReference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const noAssertion = "NOASSERTION"

// A program is a binary of a release and the architecture it is for.
type program struct{ name, arch, path string }

// writeSBOM writes the bill of materials of the files in dir: which programs they consist
// of, and from which modules, at which versions, those were built.
func (p project) writeSBOM(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var files []string
	for _, e := range entries {
		files = append(files, filepath.Join(dir, e.Name()))
	}
	var programs []program
	for _, b := range p.cfg.Builds {
		for _, arch := range p.arches(b) {
			path, _, err := p.binary(b, arch)
			if err != nil {
				return err
			}
			programs = append(programs, program{b.ID, arch, path})
		}
	}
	doc, err := sbom(p.version, p.epoch, files, programs)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "trident-"+p.version+".spdx.json"), append(text, '\n'), 0o644)
}

// sbom describes files, the programs, and the modules in the programs. The same input
// makes the same document.
func sbom(version string, date time.Time, files []string, programs []program) (*spdxDocument, error) {
	doc := spdxDocument{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: "trident-" + version,
		Creation: spdxCreation{date.UTC().Format("2006-01-02T15:04:05Z"), []string{"Organization: Trident project", "Tool: trident-build"}},
	}
	content := sha256.New() // of all that is described, for the name space
	for _, path := range files {
		sum, err := digest(path)
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(content, sum)
		pkg := ownSPDX(filepath.Base(path), "file", version, sum)
		pkg.FileName = filepath.Base(path)
		doc.add(pkg)
		doc.relate(doc.ID, "DESCRIBES", pkg.ID)
	}
	for _, one := range programs {
		sum, err := digest(one.path)
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(content, sum)
		info, err := buildinfo.ReadFile(one.path)
		if err != nil {
			return nil, fmt.Errorf("read the modules of %s: %w", one.path, err)
		}
		pkg := ownSPDX(one.name+" ("+one.arch+")", "program", version, sum)
		doc.add(pkg)
		doc.relate(doc.ID, "DESCRIBES", pkg.ID)
		goVersion, _, _ := strings.Cut(info.GoVersion, " ") // experiments follow
		modules := append([]*debug.Module{{Path: "stdlib", Version: strings.TrimPrefix(goVersion, "go")}}, info.Deps...)
		for _, m := range modules {
			module := moduleSPDX(m, version)
			doc.add(module)
			doc.relate(pkg.ID, "CONTAINS", module.ID)
		}
	}
	doc.Namespace = fmt.Sprintf("https://github.com/trident-project/trident/spdx/%s-%x", version, content.Sum(nil)[:16])
	return &doc, nil
}

// moduleSPDX describes a module of a program. The SDK is built from a folder of this tree,
// as go.mod says, so it has the version of the release.
func moduleSPDX(m *debug.Module, version string) spdxPackage {
	license := noAssertion
	switch {
	case m.Replace != nil && strings.HasPrefix(m.Replace.Path, "."): // a folder (https://go.dev/ref/mod#go-mod-file-replace)
		m, license = &debug.Module{Path: m.Path, Version: "v" + version}, "MIT"
	case m.Replace != nil:
		m = m.Replace
	}
	return spdxPackage{
		Name: m.Path, ID: spdxID("module", m.Path+"-"+m.Version), Version: m.Version,
		DownloadLocation: noAssertion, LicenseDeclared: license, LicenseConcluded: license, Copyright: noAssertion,
		References: []spdxReference{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")}},
	}
}

func ownSPDX(name, kind, version, sum string) spdxPackage {
	return spdxPackage{
		Name: name, ID: spdxID(kind, name), Version: version, Supplier: "Organization: Trident project",
		DownloadLocation: noAssertion, LicenseDeclared: "MIT", LicenseConcluded: "MIT", Copyright: noAssertion,
		Checksums: []spdxChecksum{{"SHA256", sum}},
	}
}

func (d *spdxDocument) add(pkg spdxPackage) {
	if !slices.ContainsFunc(d.Packages, func(p spdxPackage) bool { return p.ID == pkg.ID }) {
		d.Packages = append(d.Packages, pkg)
	}
}

func (d *spdxDocument) relate(element, kind, related string) {
	d.Relationships = append(d.Relationships, spdxRelationship{element, kind, related})
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// spdxID makes an identifier of the characters that SPDX allows.
func spdxID(kind, name string) string {
	return "SPDXRef-" + kind + "-" + strings.Trim(notInID.ReplaceAllString(name, "-"), "-")
}
