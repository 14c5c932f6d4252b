// Package feed has the commands below trident feed: they make and verify the folder from which
// hosts get new versions of Trident, and need no daemon.
package feed

import (
	"crypto/ed25519"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed/publish"
	"github.com/trident-project/trident/internal/when"
)

func Command(a *command.App) *cobra.Command {
	return command.Group("feed", "Publish new versions of Trident for hosts",
		newInitCommand(a, initialize),
		newAddCommand(a, add),
		newPatchCommand(a, makePatches),
		newPublishCommand(a, publishFeed),
		newWithdrawCommand(a, withdraw),
		newRotateCommand(a, rotate),
		newSignCommand(a, sign),
		newVerifyCommand(a, verify),
	)
}

// place says which feed a command works on, and at which time.
type place struct {
	app        *command.App
	feed, keys string
	time       string
}

func (p *place) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.feed, "feed", "", "the folder of the feed, which a file server serves")
	cmd.Flags().StringVar(&p.keys, "keys", "", "the folder of the keys, which nobody else may read")
	p.addTime(cmd)
	command.Required(cmd, "feed", "keys")
}

func (p *place) addTime(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.time, "time", "", "the time of what is signed, in RFC 3339 or in seconds since 1970; default SOURCE_DATE_EPOCH, else now")
}

// now returns the time of the flag, of SOURCE_DATE_EPOCH (reproducible-builds.org), or of the clock.
func (p *place) now() (time.Time, error) {
	text, from := p.time, "--time"
	if text == "" {
		text, from = os.Getenv("SOURCE_DATE_EPOCH"), "SOURCE_DATE_EPOCH"
	}
	if text == "" {
		return p.app.Now(), nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && seconds >= 0 && seconds < 1<<37 {
		return time.Unix(seconds, 0), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errkind.Errorf(errkind.Invalid, "read %s: %q is neither a time like 2026-12-24T18:00:00Z nor a number of seconds", from, text)
	}
	return at, nil
}

// with opens the feed, runs do, and closes it.
func (p *place) with(do func(*publish.Publisher) error) error {
	now, err := p.now()
	if err != nil {
		return err
	}
	f, err := publish.Open(p.feed, p.keys, now)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

// span is a flag for a span of time.
type span time.Duration

func (s *span) String() string          { return when.FormatSpan(time.Duration(*s)) }
func (s *span) Type() string            { return "TIME" }
func (s *span) duration() time.Duration { return time.Duration(*s) }

func (s *span) Set(text string) error {
	d, err := when.ParseSpan(text)
	*s = span(d)
	return err
}

// addValidity adds a flag for each of the named roles.
func addValidity(flags *pflag.FlagSet, v *publish.Validity, roles ...string) {
	*v = publish.DefaultValidity()
	for _, role := range roles {
		at, of := &v.Root, "the root is"
		switch role {
		case "timestamp":
			at, of = &v.Timestamp, "the timestamp is"
		case "snapshot":
			at, of = &v.Snapshot, "the snapshot is"
		case "targets":
			at, of = &v.Targets, "targets and channels are"
		}
		flags.Var((*span)(at), role+"-valid", "for how long "+of+" valid")
	}
}

// readPublicKeys reads the keys of --root-key.
func readPublicKeys(files []string) ([]ed25519.PublicKey, error) {
	var out []ed25519.PublicKey
	for _, file := range files {
		key, err := publish.ReadPublicKey(file)
		if err != nil {
			return nil, err
		}
		out = append(out, key)
	}
	return out, nil
}

// waiting is the JSON form of what waits for signatures; nil for nothing.
type waiting = publish.Waiting

// writeWaiting says how the root that waits is signed.
func writeWaiting(w *terminal.Table, r *waiting, place string) {
	if r == nil {
		return
	}
	w.Line("")
	w.Line("Root %d waits for signatures. With one of these keys sign %s:", r.Version, r.File)
	w.Head("PUBLIC KEY", "SIGNED")
	for _, k := range r.Keys {
		signed := "no"
		if k.Signed {
			signed = "yes"
		}
		w.Row(k.Public, signed)
	}
	w.Line("")
	w.Line("  openssl pkeyutl -sign -rawin -inkey KEY -in %s -out root.sig", r.File)
	w.Line("  trident feed sign %s --signature root.sig", place)
}

// flags returns the flags that name the feed, for a command line that the user is to type.
func (p *place) flags() string { return "--feed " + p.feed + " --keys " + p.keys }
