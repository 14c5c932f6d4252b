package self

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

type autoUpdateOptions struct {
	command.FollowOptions
}

const autoUpdateLong = `Auto-update does what the policy says under auto: nothing, report a new version, stage it,
or activate it on trial. The timer trident-update.timer runs it. The daemon runs the
operation, also if this command ends. The command succeeds if nothing is to be done.`

func newAutoUpdateCommand(a *command.App, run func(context.Context, *autoUpdateOptions) error) *cobra.Command {
	o := &autoUpdateOptions{command.FollowOptions{App: a}}
	return &cobra.Command{
		Use:     "auto-update",
		Short:   "Do with a new version what the policy says",
		Long:    autoUpdateLong,
		Example: "  trident self auto-update",
		Hidden:  true,
		Args:    command.Exactly(),
		RunE:    command.Run(run, o),
	}
}

func autoUpdate(ctx context.Context, o *autoUpdateOptions) error {
	var next *autoStep
	err := o.App.Ask(ctx, "update Trident by the policy", func(c *client.Client) error {
		p, err := c.Policy(ctx)
		if err != nil || p.GetPolicy().GetAuto() <= selfv1.Auto_AUTO_OFF {
			return err
		}
		u, err := c.CheckUpdates(ctx)
		if err == nil {
			next = nextStep(u, p.GetPolicy().GetAllowReadOnlyUsr())
			o.App.Say("%s", terminal.Line(next.says))
		}
		return err
	})
	if err != nil || next == nil || next.verb == nil {
		return err
	}
	err = o.Follow(ctx, "update Trident by the policy", false, next.verb)
	if client.Kind(err) == client.KindBusy { // the next run does it
		o.App.Say("another operation is running: %s", terminal.Line(err.Error()))
		return nil
	}
	return err
}

// An autoStep is what is to be done now. Without a verb it is nothing.
type autoStep struct {
	says string
	verb command.Verb
}

// nextStep decides from an answer that the daemon has decided by the policy: the offer, and
// what may be done with it at this time. allowReadOnlyUsr is the consent of the policy.
func nextStep(u *client.Updates, allowReadOnlyUsr bool) *autoStep {
	offer := u.GetOffer()
	if offer == nil {
		says := "no new version is offered"
		for _, r := range u.GetReasons() {
			says += ": " + r.GetMessage()
		}
		return &autoStep{says: says}
	}
	says, trial := "version "+offer.GetVersion()+" of Trident is offered", &client.Trial{AllowReadOnlyUsr: allowReadOnlyUsr}
	if offer.GetStaged() {
		says += " and staged"
	}
	for _, r := range u.GetAutoReasons() {
		says += ": " + r.GetMessage()
	}
	switch {
	case u.GetAuto() == selfv1.Auto_AUTO_ACTIVATE && offer.GetStaged():
		return &autoStep{says, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
			return c.Activate(ctx, offer.GetVersion(), trial, fn)
		}}
	case u.GetAuto() == selfv1.Auto_AUTO_ACTIVATE:
		return &autoStep{says, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
			return c.Upgrade(ctx, client.Source{Feed: true}, trial, fn)
		}}
	case u.GetAuto() == selfv1.Auto_AUTO_STAGE && !offer.GetStaged():
		return &autoStep{says, func(ctx context.Context, c *client.Client, fn func(*client.Event)) (*client.Operation, error) {
			return c.Stage(ctx, client.Source{Feed: true}, false, fn)
		}}
	}
	return &autoStep{says: says}
}
