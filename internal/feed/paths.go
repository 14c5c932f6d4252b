package feed

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/arch"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/version"
)

// Names of files in the folder of a channel and an architecture (sysupdate.d(5), Verify=).
const (
	SumsFile      = "SHA256SUMS"
	SignatureFile = "SHA256SUMS.gpg"
)

// An ImageName is what the path of an image says.
type ImageName struct{ Channel, Architecture, Version string }

// A PatchName is what the path of a patch says.
type PatchName struct{ Channel, Architecture, From, To string }

// Folder returns the folder of a channel and an architecture, in systemd's words, below the
// URL of the feed.
func Folder(channel, architecture string) string { return path.Join(channel, architecture) }

// ImagePath returns the path of the image of a version below the URL of the feed, which is
// also the name of its target. The arguments are valid: see [CheckChannel].
func ImagePath(channel, architecture, version string) string {
	return path.Join(channel, architecture, "trident_"+toFileName(version)+"_"+architecture+".raw")
}

// PatchPath returns the path, below the URL of the feed, of the patch that makes the image
// of version to from the image of version from.
func PatchPath(channel, architecture, from, to string) string {
	return path.Join(channel, architecture, "trident_"+toFileName(from)+"_"+toFileName(to)+"_"+architecture+".patch")
}

// ParseImagePath is the inverse of ImagePath. It refuses every path that ImagePath does not
// return for valid arguments.
func ParseImagePath(name string) (ImageName, error) {
	channel, architecture, words, err := parsePath(name, ".raw", 1)
	if err != nil {
		return ImageName{}, err
	}
	return ImageName{channel, architecture, words[0]}, nil
}

// ParsePatchPath is the inverse of PatchPath. It refuses every path that PatchPath does not
// return for valid arguments, and a patch of a version to itself.
func ParsePatchPath(name string) (PatchName, error) {
	channel, architecture, words, err := parsePath(name, ".patch", 2)
	if err != nil {
		return PatchName{}, err
	}
	if words[0] == words[1] {
		return PatchName{}, badPath(name)
	}
	return PatchName{channel, architecture, words[0], words[1]}, nil
}

// ParseImageFile returns the version in the file name of an image for an architecture:
// trident_2.0.0~rc.1_x86-64.raw is 2.0.0-rc.1 for x86-64.
func ParseImageFile(name, architecture string) (string, error) {
	words, err := parseFile(name, architecture, ".raw", 1)
	if err != nil {
		return "", err
	}
	return words[0], nil
}

// parsePath splits the path of an image or patch whose file name has n versions.
func parsePath(name, suffix string, n int) (channel, architecture string, versions []string, err error) {
	parts := strings.Split(name, "/")
	if len(name) > 512 || len(parts) != 3 || CheckChannel(parts[0]) != nil {
		return "", "", nil, badPath(name)
	}
	versions, err = parseFile(parts[2], parts[1], suffix, n)
	if err != nil {
		return "", "", nil, badPath(name)
	}
	return parts[0], parts[1], versions, nil
}

func parseFile(name, architecture, suffix string, n int) ([]string, error) {
	words := strings.Split(strings.TrimSuffix(name, suffix), "_")
	if !strings.HasSuffix(name, suffix) || !isArchitecture(architecture) || len(words) != n+2 || words[0] != "trident" || words[n+1] != architecture {
		return nil, badPath(name)
	}
	var versions []string
	for _, w := range words[1 : n+1] {
		v := fromFileName(w)
		if _, err := version.Parse(v); err != nil || toFileName(v) != w {
			return nil, badPath(name)
		}
		versions = append(versions, v)
	}
	return versions, nil
}

func badPath(name string) error {
	return errkind.Errorf(errkind.Invalid, "%.200q is not the path of a file of a feed", name)
}

// isArchitecture reports whether name is systemd's word for an architecture of Trident.
func isArchitecture(name string) bool {
	_, err := arch.Parse(name)
	return err == nil && arch.Systemd(name) == name
}

// toFileName returns a version as it stands in file names: with ~ for each hyphen. systemd
// orders versions by UAPI.10, where 2.0.0-rc.1 is newer than 2.0.0, but 2.0.0~rc.1 is older.
func toFileName(version string) string { return strings.ReplaceAll(version, "-", "~") }

func fromFileName(word string) string { return strings.ReplaceAll(word, "~", "-") }

// maxChannel is the most characters of the name of a channel.
const maxChannel = 32

var channelForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// CheckChannel returns an error of kind Invalid unless name can be a channel: a folder of
// the feed, and a role of the metadata.
func CheckChannel(name string) error {
	if len(name) > maxChannel || !channelForm.MatchString(name) {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "%.80q cannot be a channel", name),
			"A channel has lower-case letters, digits and single hyphens, at most %d characters: stable, beta.", maxChannel)
	}
	if slices.Contains([]string{"root", "timestamp", "snapshot", "targets", Metadata}, name) {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "%q cannot be a channel: a file of the feed has this name", name), "Choose another name, such as stable or beta.")
	}
	return nil
}
