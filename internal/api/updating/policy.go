// Package updating has the calls of the API about the update feed and the policy of the host's
// owner: it converts requests, calls the services, and converts their results.
package updating

import (
	"cmp"
	"context"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/updates/settings"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// namesInAPI has the settings whose names in the API differ from those in update.conf.
func namesInAPI() map[string]string {
	return map[string]string{"maxBytes": "max_bytes", "allowReadOnlyUsr": "allow_read_only_usr"}
}

// GetPolicy returns the policy in effect and where it comes from. The feed is without secrets.
func (s *Server) GetPolicy(ctx context.Context) (*selfv1.GetPolicyResponse, error) {
	view, err := s.Settings.Read(ctx)
	if err != nil {
		return nil, err
	}
	return &selfv1.GetPolicyResponse{
		Policy: policyToWire(view.Policy), Set: namesToWire(view.Stored), Configured: namesToWire(view.Configured),
	}, nil
}

// SetPolicy stores and resets settings, and returns the policy in effect.
func (s *Server) SetPolicy(ctx context.Context, req *selfv1.SetPolicyRequest) (*selfv1.SetPolicyResponse, error) {
	set, err := namesFromWire("set", req.GetSet())
	if err != nil {
		return nil, err
	}
	reset, err := namesFromWire("reset", req.GetReset_())
	if err != nil {
		return nil, err
	}
	p, err := policyFromWire(req.GetPolicy())
	if err != nil {
		return nil, err
	}
	after, err := s.Settings.Change(ctx, p, set, reset)
	if err != nil {
		if field := errkind.Field(err); field != "" {
			err = errkind.WithField(err, "policy."+nameToWire(field))
		}
		return nil, err
	}
	return &selfv1.SetPolicyResponse{Policy: policyToWire(after)}, nil
}

func nameToWire(name string) string {
	return cmp.Or(namesInAPI()[name], name)
}

func namesToWire(names []string) []string {
	var out []string
	for _, name := range names {
		out = append(out, nameToWire(name))
	}
	return out
}

func namesFromWire(field string, names []string) ([]string, error) {
	byWire, known := map[string]string{}, []string{}
	for _, name := range settings.Names() {
		byWire[nameToWire(name)] = name
		known = append(known, nameToWire(name))
	}
	var out []string
	for _, name := range names {
		setting, ok := byWire[name]
		if !ok {
			err := errkind.Errorf(errkind.Invalid, "read the request: %s names %.80q, which is not a setting of the policy", field, name)
			return nil, errkind.WithField(errkind.WithHint(err, "the settings are %s", strings.Join(known, ", ")), field)
		}
		out = append(out, setting)
	}
	return out, nil
}
