package client

import (
	"context"

	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// CheckUpdates returns the version that the host's update feed offers to the host, and for
// each other version why the host does not take it. A feed that cannot be read is a reason in
// the result, and not an error. The daemon has the capability update-feed if it has this verb
// and the next ones.
func (c *Client) CheckUpdates(ctx context.Context) (*Updates, error) {
	return c.self().CheckUpdates(ctx, &selfv1.CheckUpdatesRequest{})
}

// Policy returns what the owner of the host has decided about new versions, and which fields
// come from where. The URL of the feed is without its secrets.
func (c *Client) Policy(ctx context.Context) (*PolicyOrigin, error) {
	return c.self().GetPolicy(ctx, &selfv1.GetPolicyRequest{})
}

// SetPolicy sets the fields of p that set names, and resets those that reset names to what the
// host's update.conf says. It returns the policy in effect after that. Names are those of the
// message: "feed", "max_bytes". After an error nothing has changed.
func (c *Client) SetPolicy(ctx context.Context, p *Policy, set, reset []string) (*Policy, error) {
	resp, err := c.self().SetPolicy(ctx, &selfv1.SetPolicyRequest{Policy: p, Set: set, Reset_: reset})
	return resp.GetPolicy(), err
}
