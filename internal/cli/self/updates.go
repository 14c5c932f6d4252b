package self

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

type checkUpdatesOptions struct{ app *command.App }

func newCheckUpdatesCommand(a *command.App, run func(context.Context, *checkUpdatesOptions) error) *cobra.Command {
	o := &checkUpdatesOptions{app: a}
	return &cobra.Command{
		Use:   "check-updates",
		Short: "Show which version the update feed offers, and why not the others",
		Example: `  trident self check-updates
  trident self check-updates --output json`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
}

func checkUpdates(ctx context.Context, o *checkUpdatesOptions) error {
	return command.Print(ctx, o.app, "check for updates", func(c *client.Client) (*client.Updates, error) { return c.CheckUpdates(ctx) }, writeUpdates)
}

func writeUpdates(w *terminal.Table, u *client.Updates) {
	w.Field("Running", "%s", u.GetRunningVersion())
	w.Field("Feed", "%s", cmp.Or(u.GetFeed(), "none"))
	w.Field("Channel", "%s", cmp.Or(u.GetChannel(), "none"))
	offer := u.GetOffer()
	if offer == nil {
		w.Field("Offer", "none")
	} else {
		w.Field("Offer", "%s, published %s", offer.GetVersion(), terminal.FormatTime(offer.GetPublishTime()))
		w.Field("Size", "%s, of which %s have to be fetched", bytesize.Plain(offer.GetSize()), bytesize.Plain(offer.GetTransferSize()))
		if offer.GetStaged() {
			w.Field("Staged", "yes")
		}
	}
	for _, r := range u.GetReasons() {
		w.Field("Why", "%s", r.GetMessage())
	}
	if u.GetRefreshTime() != nil {
		w.Field("Read", "%s", terminal.FormatTime(u.GetRefreshTime()))
		w.Field("Valid until", "%s", terminal.FormatTime(u.GetExpireTime()))
	}
	w.Field("By itself", "%s", autoText(u.GetAuto()))
	for _, r := range u.GetAutoReasons() {
		w.Field("Why", "%s", r.GetMessage())
	}
	if len(u.GetOthers()) > 0 {
		w.Line("")
	}
	// Fields, because a terminal breaks them between words, and cuts the rows of a table.
	for _, r := range u.GetOthers() {
		text := fmt.Sprintf("%s, published %s:", bytesize.Plain(r.GetSize()), terminal.FormatTime(r.GetPublishTime()))
		for _, reason := range r.GetReasons() {
			text += " " + reason.GetMessage()
		}
		w.Field("Not "+r.GetVersion(), "%s", text)
	}
}

// autoText says what Trident does by itself with a version that is on offer.
func autoText(a selfv1.Auto) string {
	switch a {
	case selfv1.Auto_AUTO_CHECK:
		return "check: report a new version"
	case selfv1.Auto_AUTO_STAGE:
		return "stage: fetch and check a new version"
	case selfv1.Auto_AUTO_ACTIVATE:
		return "activate: activate a new version on trial"
	}
	return "off: nothing"
}
