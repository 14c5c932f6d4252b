package updates

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/fetch"
)

// explain returns the reason for a failed refresh, or an error if this host is at fault.
// set is the metadata that was trusted until then.
func (c *client) explain(err error, set trustedmetadata.TrustedMetadata) (Reason, error) {
	if _, ok := errors.AsType[fetchError](err); ok {
		return c.explainFetch(err), nil
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok || errkind.Of(err) == errkind.NoSpace {
		return Reason{}, fmt.Errorf("store the update feed's metadata: %w", err)
	}
	file := feed.Metadata + "/" + c.last
	untrusted := func(format string, args ...any) (Reason, error) {
		return Reason{Kind: Untrusted, Message: sentence(fmt.Errorf(format, args...))}, nil
	}
	switch {
	case errors.Is(err, errNoChannel):
		return Reason{Kind: NoChannel, Message: fmt.Sprintf("The update feed does not have the channel %q.", c.channel)}, nil
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		return staleSince(expiry(set, time.Time{}), c.now), nil
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		return untrusted("the update feed has older metadata than this host has seen, or metadata of several states: %s: %w", file, err)
	case errors.Is(err, &metadata.ErrUnsignedMetadata{}):
		return untrusted("the metadata of the update feed is not signed by enough trusted keys: %s: %w", file, err)
	case errors.Is(err, &metadata.ErrLengthOrHashMismatch{}):
		return untrusted("the update feed has metadata of several states: %s does not have the announced content: %w", file, err)
	case isRoot(c.last):
		return untrusted("the update feed has a root that cannot be used; a server that answers 200 for files that do not exist causes this as well: %s: %w", file, err)
	}
	return untrusted("the metadata of the update feed is malformed: %s: %w", file, err)
}

// explainFetch returns the reason for a file that could not be fetched.
func (c *client) explainFetch(err error) Reason {
	reason := Reason{Kind: Unreachable, Message: sentence(fmt.Errorf("the update feed cannot be read: %w", err))}
	if errkind.Of(err) == errkind.TooLarge {
		reason = Reason{Kind: Untrusted, Message: sentence(fmt.Errorf("the metadata of the update feed is too large: %w", err))}
	}
	if hint := errkind.Hint(err); hint != "" {
		reason.Message += " " + hint
	}
	return reason
}

// staleSince is the reason for metadata that has expired.
func staleSince(expired, now time.Time) Reason {
	if expired.IsZero() || expired.After(now) {
		return Reason{Kind: Stale, Message: "The metadata of the update feed has expired."}
	}
	age := "less than an hour"
	switch hours := int(now.Sub(expired).Hours()); {
	case hours >= 48:
		age = fmt.Sprintf("%d days", hours/24)
	case hours == 1:
		age = "an hour"
	case hours > 1:
		age = fmt.Sprintf("%d hours", hours)
	}
	return Reason{Kind: Stale, Message: fmt.Sprintf("The metadata of the update feed has expired: it was valid until %s and is %s too old.", expired.UTC().Format(time.RFC3339), age)}
}

// expiry returns when the first of the roles in set, or the role of the channel, expires; zero
// if set has none, and channel is zero.
func expiry(set trustedmetadata.TrustedMetadata, channel time.Time) (first time.Time) {
	all := []time.Time{channel}
	if set.Root != nil {
		all = append(all, set.Root.Signed.Expires)
	}
	if set.Timestamp != nil {
		all = append(all, set.Timestamp.Signed.Expires)
	}
	if set.Snapshot != nil {
		all = append(all, set.Snapshot.Signed.Expires)
	}
	if targets := set.Targets[metadata.TARGETS]; targets != nil {
		all = append(all, targets.Signed.Expires)
	}
	for _, t := range all {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first.UTC()
}

// isRoot reports whether name is a file of root metadata: 2.root.json.
func isRoot(name string) bool { return strings.HasSuffix(name, ".root.json") }

// maxMessage is the most characters of a message, which may have words of a server.
const maxMessage = 400

// sentence returns the text of err as a sentence: without control characters, and not too long.
func sentence(err error) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(err.Error(), "?"))
	runes := []rune(text)
	if len(runes) > maxMessage {
		runes = append(runes[:maxMessage], '…')
	}
	if len(runes) > 0 {
		runes[0] = unicode.ToUpper(runes[0])
	}
	return strings.TrimSuffix(string(runes), ".") + "."
}

// below returns the source of a file below the URL or the folder of the feed. A query, which
// may be a credential, stays.
func below(src fetch.Source, name string) (fetch.Source, error) {
	if src.Path != "" {
		src.Path = path.Join(src.Path, name)
		return src, nil
	}
	u, err := url.Parse(src.URL)
	if err != nil {
		return src, errkind.Errorf(errkind.Invalid, "the URL of the update feed is not valid")
	}
	src.URL = u.JoinPath(name).String()
	return src, nil
}
