package daemon

import (
	"context"

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
		Self: func(ctx context.Context) (updates.Self, error) { return versionsOf(ctx, self) },
	})}
}

// versionsOf returns the versions of Trident on this host.
func versionsOf(ctx context.Context, self *selfservice.Service) (updates.Self, error) {
	status, err := self.Status(ctx)
	if err != nil {
		return updates.Self{}, err
	}
	out := updates.Self{Active: status.Active, Base: status.Base}
	for _, i := range status.Images {
		out.Images = append(out.Images, updates.Image{Version: i.Version, RootHash: i.RootHash})
	}
	for _, b := range status.Blocked {
		out.Blocked = append(out.Blocked, updates.Blocked{Version: b.Version, Reason: b.Reason})
	}
	return out, nil
}
