// Package version compares versions of Trident and has the version of this binary.
//
// Versions follow Semantic Versioning 2.0.0 without a leading v. The package uses only the
// standard library, because trident-rescue uses it and must run when nothing else does.
package version

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// current is set by the linker: -X github.com/trident-project/trident/internal/version.current=1.2.3
var current = "0.0.0-dev"

// String returns the version of this binary.
func String() string { return current }

// built is set by the linker, in seconds since 1970, from SOURCE_DATE_EPOCH.
var built = ""

// Built returns the date of the sources of this binary, or zero if it is unknown. A clock
// with an earlier date is wrong.
func Built() time.Time { return dateOf(built) }

// Clock returns now, or the date of Built if that is later.
func Clock(now time.Time) time.Time {
	if b := Built(); now.Before(b) {
		return b
	}
	return now
}

func dateOf(text string) time.Time {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds <= 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// A Version is a parsed version. The zero value is not a version.
type Version struct {
	core [3]uint64
	pre  []string
}

// form is the grammar of Semantic Versioning 2.0.0, section "Backus–Naur Form".
var form = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?` +
	`(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?$`)

// maxLen is the most characters of a version, which becomes part of file names.
const maxLen = 64

// Parse parses a version. The result is safe as part of a file name.
func Parse(s string) (Version, error) {
	m := form.FindStringSubmatch(s)
	if m == nil || len(s) > maxLen {
		return Version{}, fmt.Errorf("%.80q is not a version like 1.2.3 or 1.2.3-rc.1 (semver.org, at most %d characters)", s, maxLen)
	}
	var v Version
	for i := range v.core {
		n, err := strconv.ParseUint(m[i+1], 10, 64)
		if err != nil {
			return Version{}, fmt.Errorf("version %q: %w", s, err)
		}
		v.core[i] = n
	}
	if m[4] != "" {
		v.pre = strings.Split(m[4], ".")
	}
	return v, nil
}

// Compare orders a and b by precedence (Semantic Versioning 2.0.0, section 11);
// it ignores build metadata.
func Compare(a, b Version) int {
	for i := range a.core {
		if c := cmp.Compare(a.core[i], b.core[i]); c != 0 {
			return c
		}
	}
	switch {
	case len(a.pre) == 0 || len(b.pre) == 0:
		return cmp.Compare(min(len(b.pre), 1), min(len(a.pre), 1))
	default:
		return comparePre(a.pre, b.pre)
	}
}

func comparePre(a, b []string) int {
	for i := range min(len(a), len(b)) {
		an, aerr := strconv.ParseUint(a[i], 10, 64)
		bn, berr := strconv.ParseUint(b[i], 10, 64)
		var c int
		switch {
		case aerr == nil && berr == nil:
			c = cmp.Compare(an, bn)
		case aerr == nil:
			c = -1
		case berr == nil:
			c = 1
		default:
			c = strings.Compare(a[i], b[i])
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}
