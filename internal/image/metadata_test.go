package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
)

var (
	digestA = strings.Repeat("a1", 48)
	digestB = strings.Repeat("b2", 48)
	digestC = strings.Repeat("c3", 48)
)

func file(path, digest string) string {
	return fmt.Sprintf(`{"path": %q, "compressedSize": 10, "uncompressedSize": 4096, "sha384": %q}`, path, digest)
}

// document is metadata of a version, without fault.
func document(minor int) map[string]any {
	text := fmt.Sprintf(`{
		"version": "1.%d", "osArch": "x86_64", "osRelease": "ID=debian\nVERSION_ID=13\n", "id": "7B5D4E6A-0000-4000-8000-0123456789AB",
		"images": [
			{"image": %s, "mountPoint": "/boot/efi", "fsType": "vfat", "fsUuid": "C3D4-250D", "partType": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "verity": null},
			{"image": %s, "mountPoint": "/", "fsType": "ext4", "fsUuid": "88d2fa9b-7a32-450a-a9f8-aa9c3de79298", "partType": "root",
				"verity": {"image": %s, "roothash": "%s"}}
		],
		"osPackages": [{"name": "bash", "version": "5", "release": "1", "arch": "x86_64"}],
		"bootloader": {"type": "systemd-boot", "systemdBoot": {"entries": [{"type": "uki-standalone", "path": "/EFI/Linux/a.efi", "cmdline": "ro", "kernel": "6"}]}},
		"disk": {"size": 1048576, "type": "gpt", "lbaSize": 512, "gptRegions": [
			{"type": "primary-gpt", "image": %s},
			{"type": "partition", "number": 1, "image": %s},
			{"type": "partition", "number": 2, "image": %s},
			{"type": "partition", "number": 3, "image": %s}]},
		"compression": {"maxWindowLog": 23},
		"extensions": {"sysexts": [{"image": %s, "path": "/etc/extensions/a.raw"}, {"image": %s}], "confexts": [{"image": %s, "path": "/var/lib/confexts/c.raw"}]}
	}`, minor, file("images/esp.zst", digestA), file("images/root.zst", digestB), file("images/tree.zst", digestC), digestA[:64],
		file("images/gpt.zst", digestA), file("images/esp.zst", digestA), file("images/root.zst", digestB), file("images/tree.zst", digestC),
		file("images/extensions/a.rawzst", digestA), file("images/extensions/b.rawzst", digestB), file("images/extensions/c.rawzst", digestC))
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(err)
	}
	if minor < 3 {
		delete(v, "extensions")
	}
	if minor < 2 {
		delete(v, "disk")
		delete(v, "compression")
	}
	if minor < 1 {
		delete(v, "bootloader")
	}
	return v
}

// set changes the value at a path of keys and indexes; nil deletes it.
func set(v any, value any, path ...any) {
	for _, p := range path[:len(path)-1] {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	switch last := path[len(path)-1].(type) {
	case string:
		if value == nil {
			delete(v.(map[string]any), last)
		} else {
			v.(map[string]any)[last] = value
		}
	case int:
		v.([]any)[last] = value
	}
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEveryRuleOfMetadataHasItsNameAndPlace(t *testing.T) {
	t.Parallel()
	at := func(p ...any) []any { return p }
	for _, c := range []struct {
		minor int
		path  []any
		value any
		want  string // name and path
		relax bool
	}{
		{0, at("images", 1, "mountPoint"), "/boot/efi/", "V1_0DuplicateMountPoint images[1].mountPoint", false},
		{1, at("bootloader"), nil, "V1_1BootloaderRequired bootloader", false},
		{1, at("bootloader", "type"), "grub", "V1_1GrubWithSystemdBootEntries bootloader.systemdBoot", false},
		{1, at("bootloader", "systemdBoot"), nil, "V1_1SystemdBootMissingEntries bootloader.systemdBoot", false},
		{1, at("bootloader", "systemdBoot", "entries"), []any{}, "V1_1SystemdBootEmptyEntries bootloader.systemdBoot.entries", false},
		{1, at("osPackages"), nil, "V1_1OsPackagesRequired osPackages", false},
		{1, at("osPackages", 0, "release"), nil, "V1_1OsPackageMissingRelease osPackages[0].release", false},
		{1, at("osPackages", 0, "arch"), nil, "V1_1OsPackageMissingArch osPackages[0].arch", false},
		{2, at("disk"), nil, "V1_2DiskInfoRequired disk", false},
		{2, at("compression"), nil, "V1_2CompressionInfoRequired compression", false},
		{2, at("disk", "gptRegions"), []any{}, "V1_2DiskRegionsMissing disk.gptRegions", false},
		{2, at("disk", "gptRegions"), nil, "V1_2DiskRegionsMissing disk.gptRegions", false},
		{2, at("disk", "gptRegions", 0, "type"), "partition", "ParseMetadata disk.gptRegions[0].number,V1_2DiskRegionsInvalidFirstRegion disk.gptRegions[0].type", false},
		{2, at("disk", "type"), "mbr", "V1_2DiskPartitionTableNotGpt disk.type", false},
		{2, at("disk", "gptRegions", 2, "number"), 1, "V1_2DuplicatePartitionNumber disk.gptRegions[2].number", false},
		{2, at("disk", "gptRegions", 1, "number"), 0, "V1_2PartitionNumberZero disk.gptRegions[1].number", false},
		{2, at("images", 0, "image", "compressedSize"), 11, "V1_2ImageFileMetadataMismatch images[0].image.compressedSize", true},
		{2, at("images", 0, "image", "uncompressedSize"), 11, "V1_2ImageFileMetadataMismatch images[0].image.uncompressedSize", true},
		{2, at("images", 1, "verity", "image", "sha384"), digestA, "V1_2ImageFileMetadataMismatch images[1].verity.image.sha384", true},
		{2, at("images", 1, "image", "path"), "images/other.zst", "V1_2ImageFileHasNoCorrespondingPartition images[1].image.path", true},
		{2, at("images", 1, "verity", "image", "path"), "images/gpt.zst", "V1_2ImageFileHasNoCorrespondingPartition images[1].verity.image.path", true},
		{0, at("images", 1, "fsUuid"), "c3d4-250d", "DuplicateFsUuid images[1].fsUuid", true},
		{1, at("disk"), map[string]any{}, "FieldOfLaterVersion disk", true},
		{1, at("compression"), map[string]any{}, "FieldOfLaterVersion compression", true},
		{1, at("images", 1, "image", "path"), "images/esp.zst", "DuplicateImagePath images[1].image.path", true},
		{1, at("images", 1, "mountPoint"), "root", "UnsuitableMountPoint images[1].mountPoint", true},
		{2, at("disk", "gptRegions", 2, "image", "path"), "images/esp.zst", "DuplicateImagePath disk.gptRegions[2].image.path,V1_2ImageFileMetadataMismatch images[0].image.sha384,V1_2ImageFileHasNoCorrespondingPartition images[1].image.path", false},
		{2, at("extensions"), map[string]any{}, "FieldOfLaterVersion extensions", true},
		{3, at("extensions", "sysexts", 0, "path"), "a.raw", "V1_3ExtensionDestinationPathNotAbsolute extensions.sysexts[0].path", false},
		{3, at("extensions", "sysexts", 0, "path"), "/etc/extensions/a.img", "V1_3ExtensionDestinationPathInvalidFileExtension extensions.sysexts[0].path", false},
		{3, at("extensions", "sysexts", 0, "path"), "/var/lib/confexts/a.raw", "V1_3ExtensionDestinationPathInvalidDirectory extensions.sysexts[0].path", false},
		{3, at("extensions", "confexts", 0, "path"), "/etc/extensions/../confexts/c.raw", "V1_3ExtensionDestinationPathInvalidDirectory extensions.confexts[0].path", false},
		{3, at("extensions", "sysexts", 1, "path"), "/etc/extensions//a.raw", "V1_3DuplicateExtensionDestinationPath extensions.sysexts[1].path", false},
		{3, at("extensions", "confexts", 0, "image", "path"), "images/extensions/b.rawzst", "V1_3DuplicateExtensionImagePath extensions.confexts[0].image.path", false},
		{3, at("extensions", "sysexts", 1, "image", "path"), "images/root.zst", "V1_3ExtensionImagePathCollidesWithRegionImage extensions.sysexts[1].image.path", false},
		{3, at("extensions"), []any{}, "ParseMetadata extensions", false},
		{3, at("extensions", "sysexts"), map[string]any{}, "ParseMetadata extensions.sysexts", false},
		{3, at("extensions", "sysexts", 0, "image"), nil, "ParseMetadata extensions.sysexts[0].image", false},
		{3, at("extensions", "sysexts", 0, "image", "sha384"), nil, "ParseMetadata extensions.sysexts[0].image.sha384", false},
		{3, at("extensions", "sysexts", 0, "path"), 1, "ParseMetadata extensions.sysexts[0].path", false},
		// what is no metadata at all
		{2, at("version"), nil, "ParseMetadata version", false},
		{2, at("version"), "1", "ParseMetadata version", false},
		{2, at("version"), "1.-2", "ParseMetadata version", false},
		{2, at("version"), 1.2, "ParseMetadata version", false},
		{2, at("version"), "2.0", "UnsupportedVersion version", false},
		{2, at("version"), "0.9", "UnsupportedVersion version", false},
		{0, at("osArch"), nil, "ParseMetadata osArch", false},
		{0, at("osArch"), "riscv64", "ParseMetadata osArch", false},
		{0, at("osRelease"), nil, "ParseMetadata osRelease", false},
		{0, at("osRelease"), 5, "ParseMetadata osRelease", false},
		{0, at("id"), "no-uuid", "ParseMetadata id", false},
		{0, at("images"), nil, "ParseMetadata images", false},
		{0, at("images"), map[string]any{}, "ParseMetadata images", false},
		{0, at("images", 0), "x", "ParseMetadata images[0]", false},
		{0, at("images", 0, "image"), nil, "ParseMetadata images[0].image", false},
		{0, at("images", 0, "image", "path"), nil, "ParseMetadata images[0].image.path", false},
		{0, at("images", 0, "image", "path"), "../etc/shadow", "ParseMetadata images[0].image.path", false},
		{0, at("images", 0, "image", "path"), "images/../etc/shadow", "ParseMetadata images[0].image.path", false},
		{0, at("images", 0, "image", "path"), "images/", "ParseMetadata images[0].image.path", false},
		{0, at("images", 0, "image", "compressedSize"), -1, "ParseMetadata images[0].image.compressedSize", false},
		{0, at("images", 0, "image", "compressedSize"), 1.5, "ParseMetadata images[0].image.compressedSize", false},
		{0, at("images", 0, "image", "uncompressedSize"), "4096", "ParseMetadata images[0].image.uncompressedSize", false},
		{0, at("images", 0, "image", "uncompressedSize"), 1e30, "ParseMetadata images[0].image.uncompressedSize", false},
		{0, at("images", 0, "image", "sha384"), "deadbeef", "ParseMetadata images[0].image.sha384", false},
		{1, at("images", 0, "image", "sha384"), nil, "ParseMetadata images[0].image.sha384", false},
		{1, at("images", 0, "image", "sha384"), strings.Repeat("g", 96), "ParseMetadata images[0].image.sha384", false},
		{0, at("images", 0, "mountPoint"), nil, "ParseMetadata images[0].mountPoint", false},
		{0, at("images", 0, "fsType"), "zfs", "ParseMetadata images[0].fsType", false},
		{0, at("images", 0, "fsType"), "", "ParseMetadata images[0].fsType", false},
		{1, at("bootloader", "type"), "", "ParseMetadata bootloader.type", false},
		{0, at("images", 0, "fsUuid"), "", "ParseMetadata images[0].fsUuid", false},
		{0, at("images", 0, "partType"), "not-a-type", "ParseMetadata images[0].partType", false},
		{0, at("images", 1, "verity", "roothash"), nil, "ParseMetadata images[1].verity.roothash", false},
		{0, at("images", 1, "verity", "roothash"), "xyz", "ParseMetadata images[1].verity.roothash", false},
		{1, at("bootloader", "type"), "lilo", "ParseMetadata bootloader.type", false},
		{1, at("bootloader", "systemdBoot", "entries", 0, "type"), "x", "ParseMetadata bootloader.systemdBoot.entries[0].type", false},
		{1, at("bootloader", "systemdBoot", "entries", 0, "cmdline"), nil, "ParseMetadata bootloader.systemdBoot.entries[0].cmdline", false},
		{2, at("disk", "size"), nil, "ParseMetadata disk.size", false},
		{2, at("disk", "size"), 1000, "ParseMetadata disk.size", false},
		{2, at("disk", "lbaSize"), 1024, "ParseMetadata disk.lbaSize", false},
		{2, at("disk", "gptRegions", 1, "number"), nil, "ParseMetadata disk.gptRegions[1].number", false},
		{2, at("disk", "gptRegions", 1, "type"), "primary-gpt", "V1_2MultiplePrimaryGptRegions disk.gptRegions[1].type,V1_2ImageFileHasNoCorrespondingPartition images[0].image.path", false},
		{2, at("compression", "maxWindowLog"), nil, "ParseMetadata compression.maxWindowLog", false},
		{2, at("compression", "maxWindowLog"), 32, "ParseMetadata compression.maxWindowLog", false},
	} {
		t.Run(fmt.Sprint(c.path, c.value), func(t *testing.T) {
			t.Parallel()
			v := document(c.minor)
			if _, _, err := ParseMetadata(encoded(t, v), false); err != nil {
				t.Fatalf("the document is wrong before: %v", err)
			}
			set(v, c.value, c.path...)
			data := encoded(t, v)
			_, _, err := ParseMetadata(data, false)
			if got := namesOf(findingsOf(err)); got != c.want {
				t.Fatalf("found %q, want %q (%v)", got, c.want, err)
			}
			if errkind.Variant(err) != "LoadCosi" {
				t.Errorf("named %q", errkind.Variant(err))
			}
			_, warnings, err := ParseMetadata(data, true)
			if relaxed := err == nil; relaxed != c.relax || relaxed && namesOf(warnings) != c.want {
				t.Errorf("relaxed: %v, warnings %v", err, warnings)
			}
		})
	}
}

func namesOf(findings []Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, f.Name+" "+f.Path)
	}
	return strings.Join(out, ",")
}

// A hash tree may lie behind its file system, in the same partition.
func TestAnInlineHashTreeIsTaken(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		verity map[string]any
		offset int64
		fault  string
	}{
		"the same image, and where": {map[string]any{"image": json.RawMessage(file("images/root.zst", digestB)), "roothash": digestA[:64], "hashOffset": 2048}, 2048, ""},
		"the same image":            {map[string]any{"image": json.RawMessage(file("images/root.zst", digestB)), "roothash": digestA[:64]}, 0, ""},
		"only where":                {map[string]any{"roothash": digestA[:64], "hashOffset": 512}, 512, ""},
		"null and where":            {map[string]any{"image": nil, "roothash": digestA[:64], "hashOffset": 512}, 512, ""},
		"neither":                   {map[string]any{"roothash": digestA[:64]}, 0, "verity.image is missing"},
		"behind the end":            {map[string]any{"roothash": digestA[:64], "hashOffset": 4096}, 0, "hashOffset is 4096, must be a multiple of 512 within the 4096 bytes"},
		"within a sector":           {map[string]any{"roothash": digestA[:64], "hashOffset": 513}, 0, "hashOffset is 513"},
		"no number":                 {map[string]any{"roothash": digestA[:64], "hashOffset": "512"}, 0, "hashOffset is a string"},
		"another digest":            {map[string]any{"image": json.RawMessage(file("images/root.zst", digestC)), "roothash": digestA[:64]}, 0, "images[1].verity.image has the path of images[1].image, and not the same"},
	} {
		doc := document(2)
		set(doc, c.verity, "images", 1, "verity")
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		m, warnings, err := ParseMetadata(text, false)
		if c.fault != "" {
			if err == nil || !strings.Contains(fmt.Sprint(findingsOf(err)), c.fault) {
				t.Errorf("%s: %v, want %q", title, findingsOf(err), c.fault)
			}
			continue
		}
		if err != nil || len(warnings) > 0 || !m.Filesystems[1].Inline() || m.Filesystems[1].Verity.HashOffset != c.offset {
			t.Errorf("%s: %v, %v", title, err, warnings)
			continue
		}
		if parts := m.partitions(); len(parts) != 4 || parts[2].HashTree || parts[2].Filesystem == nil {
			t.Errorf("%s: partitions %+v", title, parts)
		}
	}
}

func TestAnImageThatNoHostCanInstallCausesAWarning(t *testing.T) {
	t.Parallel()
	doc := document(2)
	set(doc, "/srv", "images", 1, "mountPoint")
	set(doc, "root-arm64", "images", 1, "partType")
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	m, warnings, err := ParseMetadata(text, false)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if got := namesOf(m.Doubts()); got != "NoRootFilesystem images,Architecture images[1].partType" {
		t.Errorf("%s: %v", got, m.Doubts())
	}
	doc = document(2)
	if text, err = json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	if m, _, err := ParseMetadata(text, false); err != nil || len(m.Doubts()) > 0 {
		t.Errorf("%v, %v", err, m.Doubts())
	}
}

func TestADiskForAnotherArchitectureIsNotWritten(t *testing.T) {
	t.Parallel()
	spec, _ := sample(t, small)
	spec.Arch = ARM64
	_, err := Write(t.Context(), io.Discard, spec, nil)
	if errkind.Of(err) != errkind.Incompatible || !strings.Contains(err.Error(), "partition 2 has the type of a root for x86_64, and the image is to be for arm64") {
		t.Errorf("%v (%s)", err, errkind.Of(err))
	}
}

func TestAllFaultsAreFoundAtOnce(t *testing.T) {
	t.Parallel()
	v := document(2)
	set(v, nil, "osArch")
	set(v, "/boot/efi", "images", 1, "mountPoint")
	set(v, nil, "bootloader")
	_, _, err := ParseMetadata(encoded(t, v), false)
	if got := namesOf(findingsOf(err)); got != "ParseMetadata osArch,V1_0DuplicateMountPoint images[1].mountPoint,V1_1BootloaderRequired bootloader" {
		t.Errorf("found %s", got)
	}
	if !strings.HasSuffix(err.Error(), "metadata.json (version 1.2) is not valid: ParseMetadata: osArch is missing (and 2 more)") || errkind.Of(err) != errkind.Invalid {
		t.Errorf("%v (%s)", err, errkind.Of(err))
	}
}

func TestANewerMinorVersionIsReadAsWellAsPossible(t *testing.T) {
	t.Parallel()
	v := document(2)
	set(v, "1.7", "version")
	set(v, "erofs", "images", 0, "fsType")
	set(v, "unallocated", "disk", "gptRegions", 0, "later")
	set(v, map[string]any{"a": []any{1, map[string]any{}}}, "novelty")
	m, warnings, err := ParseMetadata(encoded(t, v), false)
	if err != nil || m.Version != (Version{1, 7}) || namesOf(warnings) != "ParseMetadata images[0].fsType" {
		t.Fatalf("%v, %v", warnings, err)
	}
	set(v, "2.0", "version")
	if _, _, err := ParseMetadata(encoded(t, v), true); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("another major version: %v", err)
	}
}

func TestMetadataIsParsedIntoItsFields(t *testing.T) {
	t.Parallel()
	v := document(2)
	set(v, "AArch64", "osArch")
	set(v, strings.ToUpper(digestA), "images", 0, "image", "sha384")
	set(v, "./images/esp.zst", "images", 0, "image", "path")
	m, _, err := ParseMetadata(encoded(t, v), false)
	if err != nil {
		t.Fatal(err)
	}
	if m.Arch != ARM64 || m.OSRelease.Get("VERSION_ID") != "13" || m.Bootloader.SystemdBoot.Entries[0].Type != UKIStandalone || m.ID != "7b5d4e6a-0000-4000-8000-0123456789ab" {
		t.Errorf("%+v", m)
	}
	if want := (File{"images/esp.zst", 10, 4096, digestA}); m.Filesystems[0].Image != want {
		t.Errorf("%+v", m.Filesystems[0].Image)
	}
	if got := m.Filesystems[1].PartType.String(); got != "b921b045-1df0-41c3-af44-4c6f280d3fae" {
		t.Errorf("root of arm64 is %s", got)
	}
	again, _, err := ParseMetadata(encoded(t, m), false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, again); diff != "" {
		t.Errorf("printed and read again: %s", diff)
	}
}

func TestContainerLinuxNeedsNoPackages(t *testing.T) {
	t.Parallel()
	for release, ok := range map[string]bool{
		"ID=azurecontainerlinux\n":                            false,
		"ID=azurelinux\nVARIANT_ID=\"azurecontainerlinux\"\n": true,
		"ID=azurelinux\n":                                     false,
		"ID=debian\nVARIANT_ID=azurecontainerlinux\n":         true,
	} {
		v := document(1)
		set(v, nil, "osPackages")
		set(v, release, "osRelease")
		if _, _, err := ParseMetadata(encoded(t, v), false); (err == nil) != ok {
			t.Errorf("%q: %v", release, err)
		}
	}
}

func TestHostileJSONIsRefused(t *testing.T) {
	t.Parallel()
	good := string(encoded(t, document(2)))
	for name, text := range map[string]string{
		"nothing":            "",
		"null":               "null",
		"an array":           "[]",
		"cut short":          good[:len(good)/2],
		"more behind":        good + "{}",
		"a name twice":       `{"version": "1.0", "version": "1.1"}`,
		"a name twice below": strings.Replace(good, `"type":"gpt"`, `"type":"gpt","type":"gpt"`, 1),
		"deep":               `{"version": "1.0", "x": ` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}",
		"another case":       strings.Replace(good, `"osArch"`, `"OsArch"`, 1),
		"many images":        `{"version":"1.0","osArch":"x64","osRelease":"","images":[` + strings.Repeat("{},", 2000) + `{}]}`,
		"a million values":   `{"version": "1.0", "x": [` + strings.Repeat("0,", 1<<20) + "0]}",
	} {
		if _, _, err := ParseMetadata([]byte(text), true); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v (%s)", name, err, errkind.Of(err))
		} else if len(err.Error()) > 400 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
	}
	if _, _, err := ParseMetadata(bytes.Repeat([]byte(" "), maxMetadata+1), false); errkind.Of(err) != errkind.TooLarge {
		t.Error(err)
	}
}

func TestUpstreamsSamplesAreJudgedAsUpstreamDoes(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..", "shared", "testdata", "cosi")
	samples, err := filepath.Glob(filepath.Join(root, "*", "*.json"))
	if err != nil || len(samples) == 0 {
		t.Skip("the samples are not here")
	}
	for _, path := range samples {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = ParseMetadata(data, false)
		if valid := filepath.Base(filepath.Dir(path)) == "valid"; valid != (err == nil) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestOSReleaseIsReadAsAShellDoes(t *testing.T) {
	t.Parallel()
	text := OSRelease("# ID=no\nID='a b'\nNAME=\"x \\\"y\\\" \\$z\"\n  EMPTY=\nID_LIKE=one\nID_LIKE=two\nbroken\n")
	for key, want := range map[string]string{"ID": "a b", "NAME": `x "y" $z`, "EMPTY": "", "ID_LIKE": "two", "broken": "", "MISSING": ""} {
		if got := text.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func TestPartitionTypesHaveNames(t *testing.T) {
	t.Parallel()
	if g, ok := ParsePartType("ROOT", ARM64); !ok || g.String() != "b921b045-1df0-41c3-af44-4c6f280d3fae" || PartTypeName(g) != "root" || partTypeArch(g) != ARM64 {
		t.Errorf("root on arm64 is %s, which is called %q", g, PartTypeName(g))
	}
	if g, ok := ParsePartType("esp", AMD64); !ok || partTypeArch(g) != "" {
		t.Errorf("esp is %s, for %q", g, partTypeArch(g))
	}
	if g, ok := ParsePartType("usr-arm64-verity", AMD64); !ok || g.String() != "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e" {
		t.Errorf("usr-arm64-verity is %s", g)
	}
	if _, ok := ParsePartType("root-riscv", AMD64); ok {
		t.Error("a type that there is not")
	}
}

func FuzzParseMetadata(f *testing.F) {
	// Small documents, because the fuzzer tries to leave out each range of bytes.
	const head = `"osArch":"arm64","osRelease":""`
	file := func(name string) string {
		return `"image":{"path":"images/` + name + `","compressedSize":1,"uncompressedSize":1,"sha384":""}`
	}
	for _, text := range []string{
		`{"version":"1.0",` + head + `,"images":[]}`,
		`{"version":"1.0",` + head + `,"images":[{` + file("a") + `,"mountPoint":"/","fsType":"ext4","fsUuid":"a","partType":"root"}]}`,
		`{"version":"1.0",` + head + `,"images":[],"osPackages":[{"name":"a","version":"1","release":"","arch":""}]}`,
		`{"version":"1.1",` + head + `,"images":[],"bootloader":{"type":"systemd-boot","systemdBoot":{"entries":[]}}}`,
		`{"version":"1.2",` + head + `,"images":[],"disk":{"size":0,"type":"gpt","lbaSize":512,"gptRegions":[]},"compression":{"maxWindowLog":20}}`,
		`{"version":"1.3",` + head + `,"images":[],"extensions":{"sysexts":[{` + file("a") + `,"path":"/etc/extensions/a.raw"}],"confexts":[{` + file("b") + `}]}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		m, _, err := ParseMetadata(data, false)
		if err != nil {
			return
		}
		again, _, err := ParseMetadata(encoded(t, m), false)
		if err != nil {
			t.Fatalf("what is printed cannot be read: %v", err)
		}
		if !slices.EqualFunc(m.partitions(), again.partitions(), func(a, b Partition) bool { return a.File == b.File }) {
			t.Fatal("other partitions")
		}
	})
}

func TestAPackageMayHaveNoReleaseAndNoArchitectureIfItSaysSo(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"release", "arch"} {
		v := document(2)
		set(v, "", "osPackages", 0, key)
		if _, _, err := ParseMetadata(encoded(t, v), false); err != nil {
			t.Errorf("%s is empty: %v", key, err)
		}
		v["osPackages"].([]any)[0].(map[string]any)[key] = nil
		if _, _, err := ParseMetadata(encoded(t, v), false); len(findingsOf(err)) != 1 {
			t.Errorf("%s is null: %v", key, err)
		}
	}
}

func TestARegionOfAnUnknownTypeIsNotUsed(t *testing.T) {
	t.Parallel()
	v := document(2)
	regions := v["disk"].(map[string]any)["gptRegions"].([]any)
	v["disk"].(map[string]any)["gptRegions"] = append(regions, map[string]any{
		"type": "hole", "image": map[string]any{"path": "images/hole.zst", "compressedSize": 1, "uncompressedSize": 1, "sha384": digestA},
	})
	_, warnings, err := ParseMetadata(encoded(t, v), false)
	if err != nil || namesOf(warnings) != "ParseMetadata disk.gptRegions[4].type" {
		t.Errorf("%v, %v", warnings, err)
	}
}

func TestTextThatIsNotUnicodeIsRefused(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"ID=a\xffb":                   false, // no UTF-8
		"ID=a\xed\xa0\x80":            false, // a surrogate in UTF-8
		`ID=\ud83d`:                   false,
		`ID=\ud83d\n`:                 false,
		`ID=\ud83dx\ude00`:            false,
		`ID=\ude00\ud83d`:             false,
		`ID=\uD83D\uD83D\uDE00`:       false,
		`ID=\ud83d\ude00`:             true,
		`ID=\ud83d\ude00\uD83D\uDE00`: true,
		`ID=\\ud83d`:                  true, // a backslash and letters
		`ID=\\\ud83d`:                 false,
		"ID=ü":                        true,
	} {
		data := strings.Replace(string(encoded(t, document(2))), `ID=debian`, text, 1)
		_, _, err := ParseMetadata([]byte(data), true)
		if ok != (err == nil) {
			t.Errorf("%q: %v", text, err)
		}
		key := strings.Replace(string(encoded(t, document(2))), `"osRelease"`, `"`+text+`":1,"osRelease"`, 1)
		if _, _, err := ParseMetadata([]byte(key), true); ok != (err == nil) {
			t.Errorf("key %q: %v", text, err)
		}
	}
}

// The images that other tools made, or that once broke us.
func TestReportedImagesAreReadOrRefused(t *testing.T) {
	t.Parallel()
	dir := "../../../shared/testdata/reports"
	for name, ok := range map[string]bool{
		"json-bad-utf8": false, "package-arch-empty": true, "package-release-empty": true, "writer-image-customizer-ubuntu": true,
	} {
		path, err := filepath.Abs(filepath.Join(dir, name+".cosi"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err != nil {
			t.Skipf("the reported images are not here: %v", err)
		}
		img, err := Open(t.Context(), fetch.Source{URL: "file://" + path}, Ignored, Options{})
		if ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = img.Close()
		}
	}
}

func TestEmptyListsArePrintedAsLists(t *testing.T) {
	t.Parallel()
	m, _, err := ParseMetadata([]byte(`{"version":"1.0","osArch":"arm64","osRelease":"","images":[],"osPackages":[]}`), false)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(encoded(t, m)); strings.Contains(text, "null") || !strings.Contains(text, `"images":[]`) {
		t.Errorf("printed %s", text)
	}
}

// findingsOf returns the findings of the MetadataError in the chain of err, or nil.
func findingsOf(err error) []Finding {
	if e, ok := errors.AsType[*MetadataError](err); ok {
		return e.Findings
	}
	return nil
}
