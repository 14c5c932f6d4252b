package clienttest

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// defaultUpdates makes a host that has decided nothing.
func (c *Config) defaultUpdates() {
	if c.Policy == nil {
		c.Policy = &selfv1.GetPolicyResponse{}
	}
	if c.Policy.GetPolicy() == nil {
		c.Policy.Policy = &selfv1.Policy{Auto: selfv1.Auto_AUTO_OFF}
	}
	if c.Updates == nil {
		c.Updates = &selfv1.CheckUpdatesResponse{RunningVersion: c.Version, Auto: selfv1.Auto_AUTO_OFF, Reasons: []*selfv1.Reason{
			{Kind: selfv1.ReasonKind_REASON_KIND_NO_FEED, Message: "the policy names no feed"},
		}}
	}
}

func (s selfServer) CheckUpdates(context.Context, *selfv1.CheckUpdatesRequest) (*selfv1.CheckUpdatesResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return proto.CloneOf(s.config.Updates), nil
}

func (s selfServer) GetPolicy(context.Context, *selfv1.GetPolicyRequest) (*selfv1.GetPolicyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return proto.CloneOf(s.config.Policy), nil
}

// SetPolicy checks names, and no values but the bound.
func (s selfServer) SetPolicy(_ context.Context, req *selfv1.SetPolicyRequest) (*selfv1.SetPolicyResponse, error) {
	given := proto.CloneOf(req).GetPolicy().ProtoReflect()
	fields := given.Descriptor().Fields()
	for list, names := range map[string][]string{"set": req.GetSet(), "reset": req.GetReset_()} {
		for _, name := range names {
			if fields.ByName(protoreflect.Name(name)) == nil {
				return nil, invalid(list, "%.80q is not a setting of the policy", name)
			}
		}
	}
	for _, name := range req.GetReset_() {
		if slices.Contains(req.GetSet(), name) {
			return nil, invalid("policy."+name, "the setting %s is named twice", name)
		}
	}
	if slices.Contains(req.GetSet(), "max_bytes") && req.GetPolicy().GetMaxBytes() < 0 {
		return nil, invalid("policy.max_bytes", "%d is less than 0", req.GetPolicy().GetMaxBytes())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Policy.GetPolicy().ProtoReflect()
	for _, name := range slices.Concat(req.GetSet(), req.GetReset_()) {
		now.Clear(fields.ByName(protoreflect.Name(name)))
	}
	for _, name := range req.GetSet() {
		if f := fields.ByName(protoreflect.Name(name)); given.Has(f) {
			now.Set(f, given.Get(f))
		}
	}
	if auto := &s.config.Policy.Policy.Auto; *auto == selfv1.Auto_AUTO_UNSPECIFIED {
		*auto = selfv1.Auto_AUTO_OFF
	}
	set := append(s.config.Policy.Set, req.GetSet()...)
	slices.Sort(set)
	s.config.Policy.Set = slices.DeleteFunc(slices.Compact(set), func(name string) bool { return slices.Contains(req.GetReset_(), name) })
	return &selfv1.SetPolicyResponse{Policy: proto.CloneOf(s.config.Policy.GetPolicy())}, nil
}
