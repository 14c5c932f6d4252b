package image

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/linux/gpt"
)

// Version is the version of the specification that metadata follows.
type Version struct{ Major, Minor int }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// MarshalText returns the String.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// since reports whether v is 1.minor or later.
func (v Version) since(minor int) bool { return v.Minor >= minor }

func parseVersion(s string) (Version, bool) {
	a, b, ok := strings.Cut(s, ".")
	major, errMajor := strconv.ParseUint(a, 10, 16)
	minor, errMinor := strconv.ParseUint(b, 10, 16)
	return Version{int(major), int(minor)}, ok && errMajor == nil && errMinor == nil
}

// Arch is an architecture, by its name in metadata.json.
type Arch string

// The architectures that an image can be for.
const (
	AMD64 Arch = "x86_64"
	ARM64 Arch = "arm64"
)

// ParseArch returns the architecture with one of several usual names, in upper or lower case.
func ParseArch(s string) (Arch, bool) {
	switch strings.ToLower(s) {
	case "x86_64", "amd64", "x64":
		return AMD64, true
	case "arm64", "aarch64":
		return ARM64, true
	}
	return "", false
}

// Metadata is a metadata.json that breaks no rule. As JSON it has the same form again.
type Metadata struct {
	Version     Version      `json:"version"`
	Arch        Arch         `json:"osArch"`
	OSRelease   OSRelease    `json:"osRelease"`
	ID          string       `json:"id,omitempty"` // a UUID in lower case, or ""
	Filesystems []Filesystem `json:"images"`
	Disk        *Disk        `json:"disk,omitempty"` // nil before 1.2
	Packages    []Package    `json:"osPackages,omitzero"`
	Bootloader  *Bootloader  `json:"bootloader,omitempty"` // nil before 1.1
	Compression *Compression `json:"compression,omitempty"`
	Extensions  *Extensions  `json:"extensions,omitempty"` // nil before 1.3
}

// File is a partition image in the archive.
type File struct {
	Path       string `json:"path"`
	Compressed int64  `json:"compressedSize"`   // bytes
	Size       int64  `json:"uncompressedSize"` // bytes
	SHA384     string `json:"sha384"`           // of the compressed bytes, in lower case; "" in some images of version 1.0
}

// Filesystem is a file system and the partition that it came from.
type Filesystem struct {
	Image      File     `json:"image"`
	MountPoint string   `json:"mountPoint"`
	Type       string   `json:"fsType"` // as the kernel calls it
	UUID       string   `json:"fsUuid"` // as blkid prints it
	PartType   gpt.GUID `json:"partType"`
	Verity     *Verity  `json:"verity,omitempty"`
}

// Verity is the hash tree of a file system: in a partition of its own, or inline, after the
// file system in the same partition; then Image is that of the file system.
type Verity struct {
	Image    File   `json:"image"`
	RootHash string `json:"roothash"` // in lower case
	// HashOffset is the offset of the tree in Image. For an inline tree 0 means unknown,
	// because the metadata does not have it.
	HashOffset int64 `json:"hashOffset,omitempty"`
}

// Inline reports whether a file system has its hash tree in its own partition.
func (f *Filesystem) Inline() bool { return f.Verity != nil && f.Verity.Image.Path == f.Image.Path }

// Disk is the disk that the image was made from.
type Disk struct {
	Size    int64    `json:"size"` // bytes
	Type    string   `json:"type"` // gpt
	LBASize int      `json:"lbaSize"`
	Regions []Region `json:"gptRegions"` // in the order of the disk
}

// The types of regions.
const (
	PrimaryGPT      = "primary-gpt"
	PartitionRegion = "partition"
)

// Region is a part of the disk: its partition table, or a partition.
type Region struct {
	Image  File   `json:"image"`
	Type   string `json:"type"`
	Number int    `json:"number,omitempty"` // of the partition's entry in the table, from 1
}

// Package is a package that is installed in the image.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Release string `json:"release"`
	Arch    string `json:"arch"`
}

// The boot loaders.
const (
	GRUB        = "grub"
	SystemdBoot = "systemd-boot"
)

// Bootloader says how the image boots.
type Bootloader struct {
	Type        string          `json:"type"`
	SystemdBoot *SystemdBootSet `json:"systemdBoot,omitempty"`
}

// SystemdBootSet has the entries that systemd-boot chooses from.
type SystemdBootSet struct {
	Entries []BootEntry `json:"entries"`
}

// The types of boot entries.
const (
	UKIStandalone = "uki-standalone"
	UKIConfig     = "uki-config"
	EntryConfig   = "config"
)

// BootEntry is a UKI or a file of loader/entries.
type BootEntry struct {
	Type    string `json:"type"`
	Path    string `json:"path"` // absolute, in the image's own tree
	Cmdline string `json:"cmdline"`
	Kernel  string `json:"kernel"` // release
}

// Compression has the parameters that unpacking needs.
type Compression struct {
	MaxWindowLog int `json:"maxWindowLog"` // binary logarithm of the largest zstd window in bytes
}

// Extensions are extension images that an image carries beside its partitions, for the OS
// in them (RFC 0789 of upstream).
type Extensions struct {
	Sysexts  []Extension `json:"sysexts,omitempty"`
	Confexts []Extension `json:"confexts,omitempty"`
}

// Extension is an extension image: a discoverable disk image, packed as partitions are.
type Extension struct {
	Image File   `json:"image"`
	Path  string `json:"path,omitempty"` // in the OS; "": the default folder, and the name in the extension
}

// The classes of extensions.
const (
	Sysext  = "sysext"
	Confext = "confext"
)

// OSRelease is the text of an os-release file.
type OSRelease string

// Get returns the value of key (os-release(5)) without quotes, or "". If a key occurs
// twice, Get returns the last value, as a shell does.
func (o OSRelease) Get(key string) string {
	var out string
	for line := range strings.Lines(string(o)) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && k == key {
			out = unquote(v)
		}
	}
	return out
}

func unquote(v string) string {
	v = strings.TrimSpace(v)
	if len(v) >= 2 && v[0] == '\'' && v[len(v)-1] == '\'' {
		return v[1 : len(v)-1]
	}
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
	}
	var out strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		out.WriteByte(v[i])
	}
	return out.String()
}

// isContainerLinux reports whether this is Azure Container Linux, whose images have no
// list of packages. Only VARIANT_ID decides, whatever the ID is.
func (o OSRelease) isContainerLinux() bool { return o.Get("VARIANT_ID") == "azurecontainerlinux" }
