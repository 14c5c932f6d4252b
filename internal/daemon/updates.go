package daemon

import (
	"context"
	"slices"

	"github.com/trident-project/trident/internal/api/updating"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/selfservice"
	"github.com/trident-project/trident/internal/updates"
	"github.com/trident-project/trident/internal/updates/settings"
)

// settingsOf returns the policy of the host's owner.
func settingsOf(c Config, store *hoststate.Store) settings.Settings {
	return settings.Settings{Root: c.Root, Store: store}
}

// updatesOf returns the calls about the update feed.
func updatesOf(c Config, store *hoststate.Store, self *selfservice.Service) *updating.Server {
	owner := settingsOf(c, store)
	return &updating.Server{Settings: owner, Finder: updates.New(updates.Config{
		Root: c.Root, Version: c.Version, Policy: owner.Policy, Logger: c.Logger,
		Self: func(ctx context.Context, p updates.Policy) (updates.Self, error) { return versionsOf(ctx, self, p) },
	})}
}

// versionsOf returns the versions of Trident on this host, and what keeps Trident from
// activating another one by itself under the policy p.
func versionsOf(ctx context.Context, self *selfservice.Service, p updates.Policy) (updates.Self, error) {
	status, err := self.Status(ctx)
	if err != nil {
		return updates.Self{}, err
	}
	out := updates.Self{
		Active: status.Active, Base: status.Base, Failed: failedAttempt(status.Last),
		Unfit: self.CanActivate(selfservice.Trial{AllowReadOnlyUsr: p.AllowReadOnlyUsr}),
	}
	for _, i := range status.Images {
		out.Images = append(out.Images, updates.Image{Version: i.Version, RootHash: i.RootHash})
	}
	for _, b := range status.Blocked {
		out.Blocked = append(out.Blocked, updates.Blocked{Version: b.Version, Reason: b.Reason})
	}
	return out, nil
}

// failedAttempt returns the attempt to stage or activate a version that last has failed; nil if
// last is not one.
func failedAttempt(last *selfservice.Entry) *updates.Failed {
	if last == nil || last.Failure == nil || !slices.Contains([]string{"self-stage", "self-upgrade", "self-activate"}, last.Kind) {
		return nil
	}
	return &updates.Failed{Version: last.To, SHA256: last.SHA256, Kind: last.Failure.Kind, Message: last.Failure.Message, At: last.End}
}
