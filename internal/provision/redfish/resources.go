package redfish

import (
	"context"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// link is a reference to another resource.
type link struct {
	ID string `json:"@odata.id"`
}

type action struct {
	Target string `json:"target"`
}

// system is what the client reads of a ComputerSystem.
type system struct {
	ID           string `json:"Id"`
	PowerState   string
	VirtualMedia link
	Actions      struct {
		Reset action `json:"#ComputerSystem.Reset"`
	}
	Links struct{ ManagedBy []link }

	path, etag string
}

// media is what the client reads of a VirtualMedia.
type media struct {
	MediaTypes []string
	Inserted   bool
	Actions    struct {
		Insert action `json:"#VirtualMedia.InsertMedia"`
		Eject  action `json:"#VirtualMedia.EjectMedia"`
	}
}

// system finds the system to boot.
func (c *Client) system(ctx context.Context) (*system, error) {
	var root struct{ Systems link }
	if _, err := c.get(ctx, "/redfish/v1/", &root); err != nil {
		return nil, err
	}
	members, err := c.members(ctx, root.Systems.ID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range members {
		s, err := c.systemAt(ctx, m.ID)
		if err != nil {
			return nil, err
		}
		if s.ID == c.options.System || (c.options.System == "" && len(members) == 1) {
			return s, nil
		}
		ids = append(ids, s.ID)
	}
	err = errkind.Errorf(errkind.NotFound, "the service has %d systems, and none of them is %q", len(ids), c.options.System)
	if len(ids) > 0 {
		err = errkind.WithHint(err, "Choose one with --redfish-system: %s", strings.Join(ids, ", "))
	}
	return nil, err
}

func (c *Client) systemAt(ctx context.Context, path string) (*system, error) {
	s := &system{path: path}
	var err error
	s.etag, err = c.get(ctx, path, s)
	return s, err
}

// cd finds the virtual CD of a system: among its own media, or else those of its managers.
func (c *Client) cd(ctx context.Context, s *system) (*media, error) {
	var places []string
	if s.VirtualMedia.ID != "" {
		places = append(places, s.VirtualMedia.ID)
	}
	for _, m := range s.Links.ManagedBy[:min(len(s.Links.ManagedBy), maxManagers)] {
		var manager struct{ VirtualMedia link }
		if _, err := c.get(ctx, m.ID, &manager); err != nil {
			return nil, err
		}
		if manager.VirtualMedia.ID != "" {
			places = append(places, manager.VirtualMedia.ID)
		}
	}
	for _, place := range places {
		members, err := c.members(ctx, place)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			var one media
			if _, err := c.get(ctx, m.ID, &one); err != nil {
				return nil, err
			}
			isCD := slices.Contains(one.MediaTypes, "CD") || slices.Contains(one.MediaTypes, "DVD")
			if isCD && one.Actions.Insert.Target != "" {
				return &one, nil
			}
		}
	}
	return nil, errkind.Errorf(errkind.Unsupported, "the system %s has no virtual CD that takes an image (#VirtualMedia.InsertMedia)", s.ID)
}

func (c *Client) members(ctx context.Context, path string) ([]link, error) {
	var collection struct{ Members []link }
	if _, err := c.get(ctx, path, &collection); err != nil {
		return nil, err
	}
	return collection.Members[:min(len(collection.Members), maxMembers)], nil
}
