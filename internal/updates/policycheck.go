package updates

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/version"
	"github.com/trident-project/trident/internal/when"
)

const (
	// defaultChannel is the channel of a policy that names none.
	defaultChannel = "stable"
	maxFeedURL     = 4 << 10
	maxReason      = 512
	maxGrace       = 10 * 365 * 24 * time.Hour
)

// channelForm is the form of a channel: it is a folder and the name of a role.
var channelForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// Validate returns an error of kind Invalid, with the name of the field, if a decision of p
// cannot be followed.
func (p Policy) Validate() error {
	name, err := p.firstFault()
	if err == nil {
		return nil
	}
	return errkind.WithField(errkind.Errorf(errkind.Invalid, "update policy: %s: %w", name, err), name)
}

// firstFault returns the name of the first field that is not valid, and why it is not.
func (p Policy) firstFault() (name string, err error) {
	for _, field := range []struct {
		name string
		err  error
	}{
		{"feed", checkFeed(p.Feed)},
		{"channel", checkChannel(p.Channel)},
		{"auto", checkAuto(p.Auto)},
		{"hold", checkHold(p.Hold)},
		{"pin", checkPin(p.Pin)},
		{"window", checkWindow(p.Window)},
		{"maxBytes", checkMaxBytes(p.MaxBytes)},
		{"grace", checkGrace(p.Grace)},
	} {
		if field.err != nil {
			return field.name, field.err
		}
	}
	return "", nil
}

// checkFeed never quotes the URL, which may have a password.
func checkFeed(feed string) error {
	if feed == "" {
		return nil
	}
	u, err := url.Parse(feed)
	switch {
	case err != nil || len(feed) > maxFeedURL:
		return errkind.Errorf(errkind.Invalid, "the value is not a URL of at most %d characters", maxFeedURL)
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "file":
		return errkind.Errorf(errkind.Invalid, "the URL must begin with http://, https:// or file://")
	case u.Scheme != "file" && u.Hostname() == "":
		return errkind.Errorf(errkind.Invalid, "%s names no host", fetch.Redact(feed))
	case u.Scheme == "file" && (u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/")):
		return errkind.Errorf(errkind.Invalid, "%s must name a folder of this host by its absolute path", fetch.Redact(feed))
	case u.Fragment != "":
		return errkind.Errorf(errkind.Invalid, "%s must not have a fragment (#…)", fetch.Redact(feed))
	}
	return nil
}

// checkChannel refuses the names of the roles that every feed has.
func checkChannel(channel string) error {
	reserved := []string{"root", "timestamp", "snapshot", "targets"}
	if channel == "" || channelForm.MatchString(channel) && !slices.Contains(reserved, channel) {
		return nil
	}
	return errkind.Errorf(errkind.Invalid, "%.80q is not the name of a channel: lower-case letters, digits, '.', '_' and '-', and none of %s",
		channel, strings.Join(reserved, ", "))
}

func checkAuto(auto Auto) error {
	all := []Auto{AutoOff, AutoCheck, AutoStage, AutoActivate}
	if auto == "" || slices.Contains(all, auto) {
		return nil
	}
	return errkind.Errorf(errkind.Invalid, "%.80q is not one of off, check, stage, activate", string(auto))
}

func checkHold(hold *Hold) error {
	if hold != nil && len(hold.Reason) > maxReason {
		return errkind.Errorf(errkind.Invalid, "the reason has %d bytes, the limit is %d", len(hold.Reason), maxReason)
	}
	return nil
}

func checkPin(pin string) error {
	if pin == "" {
		return nil
	}
	_, err := version.Parse(pin)
	return err
}

func checkWindow(w *when.Window) error {
	if w == nil {
		return nil
	}
	return w.Validate()
}

func checkMaxBytes(n int64) error {
	if n < 0 {
		return errkind.Errorf(errkind.Invalid, "%d is less than 0", n)
	}
	return nil
}

func checkGrace(d time.Duration) error {
	if d < 0 || d > maxGrace {
		return errkind.Errorf(errkind.Invalid, "%s is not from 0 to 10 years", d)
	}
	return nil
}
