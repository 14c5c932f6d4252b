package redfish

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Boot turns the machine off, inserts the image at the URL, which the controller fetches, into
// its virtual CD, and turns the machine on, so that it boots once from the CD. After a failure
// the machine may be off.
func (c *Client) Boot(ctx context.Context, image string) error {
	return c.wrap("boot the machine by Redfish", c.boot(ctx, image))
}

func (c *Client) boot(ctx context.Context, image string) error {
	s, err := c.system(ctx)
	if err != nil {
		return err
	}
	cd, err := c.cd(ctx, s)
	if err != nil {
		return err
	}
	if err := c.turnOff(ctx, s); err != nil {
		return err
	}
	if cd.Inserted {
		if err := c.post(ctx, cd.Actions.Eject.Target, struct{}{}); err != nil {
			return fmt.Errorf("eject the previous medium: %w", err)
		}
	}
	if err := c.post(ctx, cd.Actions.Insert.Target, map[string]any{"Image": image, "Inserted": true, "WriteProtected": true}); err != nil {
		return fmt.Errorf("insert the live image: %w", err)
	}
	once := map[string]any{"Boot": map[string]string{
		"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Cd", "BootSourceOverrideMode": "UEFI",
	}}
	if s, err = c.systemAt(ctx, s.path); err != nil { // for its ETag
		return err
	}
	if err := c.send(ctx, http.MethodPatch, s.path, once, s.etag); err != nil {
		return fmt.Errorf("set the boot source: %w", err)
	}
	if err := c.post(ctx, s.Actions.Reset.Target, map[string]string{"ResetType": "On"}); err != nil {
		return fmt.Errorf("turn the machine on: %w", err)
	}
	return nil
}

// Eject takes the live image out of the virtual CD. It does nothing if there is none.
func (c *Client) Eject(ctx context.Context) error {
	s, err := c.system(ctx)
	if err != nil {
		return c.wrap("eject the live image", err)
	}
	cd, err := c.cd(ctx, s)
	if err == nil && cd.Inserted {
		err = c.post(ctx, cd.Actions.Eject.Target, struct{}{})
	}
	return c.wrap("eject the live image", err)
}

// turnOff turns the machine off and waits until it is.
func (c *Client) turnOff(ctx context.Context, s *system) error {
	if s.PowerState == "Off" {
		return nil
	}
	if err := c.post(ctx, s.Actions.Reset.Target, map[string]string{"ResetType": "ForceOff"}); err != nil {
		return fmt.Errorf("turn the machine off: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, powerTime, errkind.Errorf(errkind.Timeout, "the machine is not off after %s", powerTime))
	defer cancel()
	tick := time.NewTicker(c.pause)
	defer tick.Stop()
	for {
		now, err := c.systemAt(ctx, s.path)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil && now.PowerState == "Off" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("turn the machine off: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}
