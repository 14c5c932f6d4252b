package api

import (
	"context"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/wire"
)

// A Policy says what the remote identities that a gateway names may do. Allow returns nil if
// who may call a method now, and an error of kind Denied if not.
type Policy interface {
	Allow(who, method string, now time.Time) error
}

// noPolicy is the policy of a daemon without one: nobody may do anything.
type noPolicy struct{}

func (noPolicy) Allow(string, string, time.Time) error {
	return errkind.Errorf(errkind.Denied, "this tridentd does not serve gateways")
}

// askedBy returns the remote identity for which the gateway makes a call, or "" for a call
// of a local process. Anybody else who names an identity is refused, so that nobody
// believes that the name has an effect.
func askedBy(ctx context.Context, c *call) (string, error) {
	given := metadata.ValueFromIncomingContext(ctx, wire.HeaderAskedBy)
	switch {
	case !c.peer.isGateway && len(given) == 0:
		return "", nil
	case !c.peer.isGateway:
		return "", errkind.WithHint(
			errkind.Errorf(errkind.Denied, "%s: only the gateway of this host may name a remote identity (%s)", c.method, wire.HeaderAskedBy),
			"call without this header")
	case len(given) != 1:
		return "", errkind.Errorf(errkind.Denied, "%s: the gateway has to name one remote identity (%s), and named %d", c.method, wire.HeaderAskedBy, len(given))
	}
	return given[0], nil
}
