// Package self has the commands below trident self: they service Trident itself.
package self

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/filekind"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/proto/client"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

func Command(a *command.App) *cobra.Command {
	return command.Group("self", "Service Trident itself",
		newStatusCommand(a, status),
		newStageCommand(a, stage),
		newUpgradeCommand(a, upgrade),
		newActivateCommand(a, activate),
		newRollbackCommand(a, rollback),
		newUnblockCommand(a, unblock),
		newRemoveCommand(a, remove),
		newHistoryCommand(a, history),
		newCheckUpdatesCommand(a, checkUpdates),
		newPolicyCommand(a),
		newAutoUpdateCommand(a, autoUpdate),
	)
}

// sourceOptions are the argument and the flags that name the source of an image.
type sourceOptions struct {
	source string
	onHost bool
	sha256 string
	within time.Duration
	// fromFeed and incoming are in place of source.
	fromFeed, incoming bool
	version            string // of the feed
	maxBytes           size
}

const sourceLong = `SOURCE is an http, https or oci URL, which the daemon fetches, or a file, which this
command sends to the daemon, also through a forwarded socket. With --on-host SOURCE
is an absolute path on the host, which the daemon reads.

In place of SOURCE, --from-feed takes the version that the update feed offers (trident
self check-updates), or the one of --version, and --incoming the newest image in
/var/lib/trident/incoming.`

func (o *sourceOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.onHost, "on-host", false, "SOURCE is a file on the host")
	flags.DurationVar(&o.within, "fetch-timeout", 0, "the longest time that the fetch of a URL may take (default no limit)")
	flags.BoolVar(&o.fromFeed, "from-feed", false, "take the image from the update feed, not from SOURCE")
	flags.StringVar(&o.version, "version", "", "with --from-feed: a version of the feed (default the one on offer)")
	flags.BoolVar(&o.incoming, "incoming", false, "take the newest image in /var/lib/trident/incoming, not SOURCE")
	flags.Var(&o.maxBytes, "max-bytes", "the most bytes that the daemon may receive for the image, such as 100M (default no bound)")
	flags.Var((*digest)(&o.sha256), "sha256", "the SHA-256 that the file must have; the daemon checks the signature in any case")
}

// args returns the check of the arguments: SOURCE, or a flag in its place.
func (o *sourceOptions) args(cmd *cobra.Command, args []string) error {
	switch {
	case o.fromFeed && o.incoming:
		return command.UsageError(cmd, errors.New("--from-feed and --incoming exclude each other"))
	case o.version != "" && !o.fromFeed:
		return command.UsageError(cmd, errors.New("--version needs --from-feed"))
	case (o.fromFeed || o.incoming) && (o.onHost || o.sha256 != ""):
		return command.UsageError(cmd, errors.New("--on-host and --sha256 are for SOURCE, not for --from-feed and --incoming"))
	case o.fromFeed || o.incoming:
		return command.Exactly()(cmd, args)
	}
	return command.Exactly("SOURCE")(cmd, args)
}

// A size is a flag with a number of bytes.
type size int64

func (s *size) Type() string { return "size" }
func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return bytesize.Plain(int64(*s))
}

func (s *size) Set(text string) error {
	n, err := bytesize.Parse(text)
	*s = size(n)
	return err
}

// A digest is a flag that refuses the empty value, which mostly is an unset variable of a
// script.
type digest string

func (d *digest) String() string { return string(*d) }
func (d *digest) Type() string   { return "string" }

func (d *digest) Set(text string) error {
	if text == "" {
		return errors.New("it is empty: give 64 hexadecimal digits, or omit the flag")
	}
	*d = digest(text)
	return nil
}

// open checks the source. The caller has to call close, which closes a file to send.
func (o *sourceOptions) open() (s client.Source, close func() error, err error) {
	s, close = client.Source{SHA256: o.sha256, FetchTimeout: o.within}, func() error { return nil }
	s.Feed, s.Version, s.Incoming, s.MaxBytes = o.fromFeed, o.version, o.incoming, int64(o.maxBytes)
	scheme, rest, isURL := strings.Cut(o.source, "://")
	switch {
	case o.within < 0:
		err = errkind.Errorf(errkind.Invalid, "--fetch-timeout %s is negative", o.within)
	case o.fromFeed || o.incoming:
	case isURL && slices.Contains([]string{"http", "https", "oci"}, strings.ToLower(scheme)):
		s.URL = o.source
		if o.onHost {
			err = errkind.Errorf(errkind.Invalid, "%s is a URL, --on-host is for files", fetch.Redact(o.source))
		}
	case isURL && strings.EqualFold(scheme, "file"):
		err = errkind.WithHint(errkind.Errorf(errkind.Invalid, "%s: a file is named by its path, not by a URL", o.source), "Name %s.", rest)
	case isURL:
		err = errkind.Errorf(errkind.Invalid, "%s: images come from http, https and oci URLs and from files, not from %s", fetch.Redact(o.source), scheme)
	case o.onHost && !strings.HasPrefix(o.source, "/"):
		err = errkind.Errorf(errkind.Invalid, "%s is not an absolute path; a file on the host needs one", o.source)
	case o.onHost:
		s.Path = o.source
	default:
		return o.upload(s)
	}
	return s, close, err
}

func (o *sourceOptions) upload(s client.Source) (client.Source, func() error, error) {
	f, err := regfile.Open(o.source)
	if err != nil {
		return s, nil, fmt.Errorf("open image: %w", err)
	}
	info, err := f.Stat()
	if err == nil { // before all of it is sent
		if other := filekind.Mistaken(f, info.Size(), filekind.Extension); errkind.Of(other) == errkind.Invalid {
			err = fmt.Errorf("open image: %s: %w", o.source, other)
		}
	}
	if err != nil {
		return s, nil, errors.Join(err, f.Close())
	}
	s.Upload, s.Size = f, info.Size()
	return s, f.Close, nil
}

// follow opens the source, and follows the operation that begin begins with it.
func (o *sourceOptions) follow(ctx context.Context, f *command.FollowOptions, doing string, begin func(context.Context, *client.Client, client.Source, func(*client.Event)) (*client.Operation, error)) error {
	source, done, err := o.open()
	if err != nil {
		return err
	}
	err = f.Follow(ctx, doing, source.Upload != nil, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
		return begin(ctx, c, source, fn)
	})
	return errors.Join(err, done())
}

// trialOptions are the flags about the trial of a new version.
type trialOptions struct {
	soak, deadline   time.Duration
	allowDowngrade   bool
	allowReadOnlyUsr bool
	pauseBefore      pausePoint
}

// A pausePoint is a flag with the name of a step before which an operation pauses.
type pausePoint string

func pauses() map[pausePoint]selfv1.Pause {
	return map[pausePoint]selfv1.Pause{"activate": selfv1.Pause_PAUSE_BEFORE_ACTIVATE, "restart": selfv1.Pause_PAUSE_BEFORE_RESTART}
}

func (p *pausePoint) String() string { return string(*p) }
func (p *pausePoint) Type() string   { return "STEP" }

func (p *pausePoint) Set(text string) error {
	if _, ok := pauses()[pausePoint(text)]; !ok {
		return errors.New("the steps are activate and restart")
	}
	*p = pausePoint(text)
	return nil
}

func (o *trialOptions) addTimes(flags *pflag.FlagSet) {
	flags.DurationVar(&o.soak, "soak", 0, "the time that the new daemon has to run without a failure (default 10s)")
	flags.DurationVar(&o.deadline, "deadline", 0, "the time after which a version that is not kept is rolled back (default 3m)")
}

func (o *trialOptions) addFlags(flags *pflag.FlagSet) {
	o.addTimes(flags)
	flags.BoolVar(&o.allowDowngrade, "allow-downgrade", false, "allow a version older than the running one")
	flags.Var(&o.pauseBefore, "pause-before", "pause before this step, activate or restart, until \"trident operation continue\"")
	flags.BoolVar(&o.allowReadOnlyUsr, "allow-read-only-usr", false, "allow a new version although a package manager can then not write to /usr")
}

func (o *trialOptions) message() *client.Trial {
	t := &client.Trial{AllowDowngrade: o.allowDowngrade, AllowReadOnlyUsr: o.allowReadOnlyUsr, Pause: pauses()[o.pauseBefore]}
	if o.soak != 0 {
		t.Soak = durationpb.New(o.soak)
	}
	if o.deadline != 0 {
		t.Deadline = durationpb.New(o.deadline)
	}
	return t
}

// versionOptions are the options of a command about one version.
type versionOptions struct {
	app     *command.App
	version string
}

// newVersionCommand gives cmd the argument VERSION, which words completes.
func newVersionCommand(a *command.App, cmd *cobra.Command, words func(context.Context, *client.Client) ([]string, error), run func(context.Context, *versionOptions) error) *cobra.Command {
	o := &versionOptions{app: a}
	cmd.Args, cmd.ValidArgsFunction = command.Exactly("VERSION"), a.CompleteWith(words)
	cmd.RunE = command.Run(run, o, &o.version)
	return cmd
}

func stagedVersions(ctx context.Context, c *client.Client) ([]string, error) {
	status, err := c.Status(ctx)
	var words []string
	for _, i := range status.GetImages() {
		words = append(words, terminal.Line(i.GetVersion()))
	}
	return words, err
}

func blockedVersions(ctx context.Context, c *client.Client) ([]string, error) {
	status, err := c.Status(ctx)
	var words []string
	for _, b := range status.GetBlocked() {
		words = append(words, terminal.Line(b.GetVersion())+"\t"+terminal.Line(b.GetReason()))
	}
	return words, err
}
