package feed

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/version"
)

// Bounds of a Release.
const (
	maxCustom  = 64 << 10             // bytes of the custom metadata of a target
	MaxPatches = 64                   // patches of one release
	maxWord    = 128                  // bytes of a field of OS
	maxPatch   = 8 << 30              // bytes of a patch
	maxWave    = 366 * 24 * time.Hour // from Begin to End
	allHosts   = 10_000               // the unit of Wave.First
)

// ParseRelease reads the Release in the custom metadata of a target. It ignores fields that
// this version of Trident does not know. Its errors are Corrupt, or TooLarge, and name the
// field.
func ParseRelease(custom json.RawMessage) (Release, error) {
	if len(custom) > maxCustom {
		return Release{}, errkind.Errorf(errkind.TooLarge, "read a release of the feed: it has %d bytes, at most %d are permitted", len(custom), maxCustom)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(custom, &all); err != nil {
		return Release{}, errkind.Errorf(errkind.Corrupt, "read a release of the feed: %w", err)
	}
	data, ok := all[CustomKey]
	if !ok {
		return Release{}, errkind.Errorf(errkind.Corrupt, "read a release of the feed: the custom metadata has no field %q", CustomKey)
	}
	var r Release
	if err := json.Unmarshal(data, &r); err != nil {
		return Release{}, errkind.Errorf(errkind.Corrupt, "read a release of the feed: %w", err)
	}
	if err := r.Check(); err != nil {
		return Release{}, errkind.With(errkind.Corrupt, fmt.Errorf("read a release of the feed: %w", err))
	}
	return r, nil
}

// Check returns an error of kind Invalid that names the first field with a value that no
// host accepts.
func (r Release) Check() error {
	v, err := version.Parse(r.Version)
	if err != nil {
		return badField("version", "%w", err)
	}
	if !isArchitecture(r.Architecture) {
		return badField("architecture", "%.80q is not x86-64 or arm64", r.Architecture)
	}
	if !isHash(r.RootHash) {
		return badField("rootHash", "it does not have 64 lower-case hexadecimal digits")
	}
	for field, word := range map[string]string{"os.id": r.OS.ID, "os.versionId": r.OS.VersionID, "os.sysextLevel": r.OS.SysextLevel} {
		if len(word) > maxWord || strings.ContainsFunc(word, unicode.IsControl) {
			return badField(field, "it has more than %d bytes, or a control character", maxWord)
		}
	}
	if y := r.Published.Year(); y < 1970 || y > 9999 {
		return badField("published", "it is not between the years 1970 and 9999")
	}
	if r.After != "" {
		if after, err := version.Parse(r.After); err != nil {
			return badField("after", "%w", err)
		} else if version.Compare(after, v) >= 0 {
			return badField("after", "%s is not older than the release %s", r.After, r.Version)
		}
	}
	if err := r.Wave.check(); err != nil {
		return err
	}
	return r.checkPatches()
}

func (r Release) checkPatches() error {
	if len(r.Patches) > MaxPatches {
		return badField("patches", "there are %d, at most %d are permitted", len(r.Patches), MaxPatches)
	}
	seen := map[string]bool{}
	for i, p := range r.Patches {
		field := fmt.Sprintf("patches[%d]", i)
		name, err := ParsePatchPath(p.Path)
		if err != nil {
			return badField(field+".path", "%w", err)
		}
		switch {
		case name.From != p.From || name.To != r.Version || name.Architecture != r.Architecture:
			return badField(field+".path", "%q is not a patch from %.80q to %s for %s", p.Path, p.From, r.Version, r.Architecture)
		case seen[p.From]:
			return badField(field+".from", "there are two patches from %s", p.From)
		case p.Size <= 0 || p.Size > maxPatch:
			return badField(field+".size", "%d is not between 1 and %d", p.Size, int64(maxPatch))
		case !isHash(p.SHA256):
			return badField(field+".sha256", "it does not have 64 lower-case hexadecimal digits")
		}
		seen[p.From] = true
	}
	return nil
}

func (w *Wave) check() error {
	switch {
	case w == nil:
		return nil
	case w.First < 0 || w.First > allHosts:
		return badField("wave.first", "%d is not between 0 and %d", w.First, allHosts)
	case w.End.Before(w.Begin) || w.End.Sub(w.Begin) > maxWave:
		return badField("wave.end", "it is not between wave.begin and a year later")
	case w.Begin.Year() < 1970 || w.End.Year() > 9999:
		return badField("wave.begin", "it is not between the years 1970 and 9999")
	}
	return nil
}

func badField(field, format string, args ...any) error {
	return errkind.Errorf(errkind.Invalid, "field %s: %w", field, fmt.Errorf(format, args...))
}

// Reaches returns the time from which the host may take the release of that version; the
// zero time if w is nil. A host has the same turn whenever it asks, and another turn for
// another version, so that not always the same hosts are the first. The turn is the first 8
// bytes, as a big-endian number, of the SHA-256 of hostID, a NUL and version, modulo 10,000:
// hosts with a turn below First are reached at Begin, the last one at End.
func (w *Wave) Reaches(hostID, version string) time.Time {
	if w == nil {
		return time.Time{}
	}
	sum := sha256.Sum256([]byte(hostID + "\x00" + version))
	turn := int64(binary.BigEndian.Uint64(sum[:8]) % allHosts)
	first := int64(w.First)
	if turn < first {
		return w.Begin
	}
	span := w.End.Sub(w.Begin).Milliseconds() // at most maxWave, so the product fits
	return w.Begin.Add(time.Duration(span*(turn+1-first)/(allHosts-first)) * time.Millisecond)
}
