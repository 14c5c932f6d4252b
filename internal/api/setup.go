package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/handles"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	"github.com/trident-project/trident/proto/wire"
)

// Limits of what a client may state about itself.
const (
	maxClientText   = 128
	maxRequirements = 256
	leastMessage    = 16 << 10 // a smaller limit would exclude most answers
)

type setupServer struct {
	setupv1.UnimplementedSetupServiceServer
	version, daemon string
	hostID          func() string
	packages, can   []string
	missing         map[string]error // why a capability of other daemons is missing
}

// needsSystemd are the capabilities that a host without systemd cannot have.
func needsSystemd() []string {
	return []string{wire.MachineMounts, wire.MachinePower, wire.MachineUnits}
}

// missingOf returns the capabilities that a server with this configuration lacks, and why.
func missingOf(c Config) map[string]error {
	missing := map[string]error{}
	if c.NoSystemd != nil {
		for _, name := range needsSystemd() {
			missing[name] = c.NoSystemd
		}
	}
	if c.Fixed != nil {
		for _, name := range wire.SelfServicing() {
			missing[name] = c.Fixed
		}
	}
	return missing
}

// capabilities returns the capabilities of a server without the missing ones.
func capabilities(missing map[string]error, changesHost bool) []string {
	return slices.DeleteFunc(wire.Capabilities(changesHost), func(name string) bool { return missing[name] != nil })
}

// Handshake records what the client states, if the daemon has the required capabilities.
func (s *setupServer) Handshake(ctx context.Context, req *setupv1.HandshakeRequest) (*setupv1.HandshakeResponse, error) {
	client, err := clientFromWire(req)
	if err != nil {
		return nil, err
	}
	if err := s.has(req.GetRequiredCapabilities()); err != nil {
		return nil, err
	}
	if session := sessionOf(ctx); session != nil {
		session.introduce(client, req.GetLimits().GetMaxMessageBytes())
	}
	return &setupv1.HandshakeResponse{
		ServerVersion: s.version, ApiPackages: s.packages, Capabilities: s.can, Limits: limitsToWire(),
		HostId: s.hostID(), DaemonId: s.daemon,
	}, nil
}

// has fails with Precondition if a required capability is missing, and names all of them.
func (s *setupServer) has(required []string) error {
	if len(required) > maxRequirements {
		return errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: %d required capabilities, %d are the most", len(required), maxRequirements), "required_capabilities")
	}
	var lacking []string
	for _, name := range required {
		if !slices.Contains(s.can, name) && !slices.Contains(lacking, name) {
			lacking = append(lacking, shorten(name))
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	err := errkind.Errorf(errkind.Precondition, "tridentd %s lacks what the client requires: %s", s.version, strings.Join(lacking, ", "))
	hint := "upgrade Trident on this host, or use an older client"
	if i := slices.IndexFunc(lacking, func(name string) bool { return s.missing[name] != nil }); i >= 0 {
		why := s.missing[lacking[i]]
		err, hint = errkind.With(errkind.Precondition, fmt.Errorf("%w: %w", err, why)), errkind.Hint(why)
	}
	return grpckind.Error(errkind.WithHint(err, "%s", hint),
		map[string]string{grpckind.MetaCapabilities: strings.Join(lacking, ",")})
}

// clientFromWire returns the client's name in a form fit for the log.
func clientFromWire(req *setupv1.HandshakeRequest) (string, error) {
	if n := req.GetLimits().GetMaxMessageBytes(); n != 0 && n < leastMessage {
		return "", errkind.WithField(
			errkind.Errorf(errkind.Invalid, "read the request: max_message_bytes is %d, it must be 0 or at least %d", n, leastMessage), "limits.max_message_bytes")
	}
	return strings.TrimSpace(shorten(req.GetClientName()) + " " + shorten(req.GetClientVersion())), nil
}

func shorten(s string) string {
	if len(s) > maxClientText {
		s = s[:maxClientText]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

func limitsToWire() *setupv1.Limits {
	return &setupv1.Limits{
		MaxMessageBytes: maxMessage, MaxChunkBytes: maxChunk, MaxStreams: maxStreams, MaxConnections: maxConnections,
		MaxHandles: handles.MaxOpen, MaxHandleBytes: handles.MaxBytes, MaxConfigBytes: handles.MaxConfig, MaxList: maxLimit,
	}
}

// packagesOf returns the packages of Trident's API that a server serves.
func packagesOf(s *grpc.Server) []string {
	var out []string
	for service := range s.GetServiceInfo() {
		pkg := service[:strings.LastIndexByte(service, '.')]
		if strings.HasPrefix(pkg, "trident.") && !slices.Contains(out, pkg) {
			out = append(out, pkg)
		}
	}
	slices.Sort(out)
	return out
}
