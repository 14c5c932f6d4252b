package hoststate

import (
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
)

// YAML returns the status as upstream writes and reads it.
func (s Status) YAML() ([]byte, error) {
	if s.Phase == nil {
		return nil, errkind.Errorf(errkind.Invalid, "write host status: the status has no phase")
	}
	if p, err := PhaseOf(s.Phase.State()); err != nil || p != s.Phase {
		return nil, errkind.Errorf(errkind.Invalid, "write host status: unknown phase %T(%.80[1]q)", s.Phase)
	}
	if s.InstallIndex < 0 || s.ABActiveVolume != "" && s.ABActiveVolume != VolumeA && s.ABActiveVolume != VolumeB {
		return nil, errkind.Errorf(errkind.Invalid, "write host status: volume %.80q, install index %d", s.ABActiveVolume, s.InstallIndex)
	}
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, spec := range []struct {
		key, text string
		always    bool
	}{{"spec", s.Spec, true}, {"specOld", s.SpecOld, false}} {
		n, err := parseSpec(spec.text)
		if err != nil {
			return nil, fmt.Errorf("write host status: %s: %w", spec.key, err)
		}
		if spec.always || len(n.Content) > 0 {
			putField(m, spec.key, n)
		}
	}
	putField(m, "servicingState", textNode(s.Phase.State()))
	if s.LastError != nil {
		putField(m, "lastError", s.LastError.node())
	}
	putMap(m, "partitionPaths", s.PartitionPaths)
	if s.ABActiveVolume != "" {
		putField(m, "abActiveVolume", textNode(string(s.ABActiveVolume)))
	}
	putMap(m, "diskUuids", s.DiskUUIDs)
	putField(m, "installIndex", intNode(s.InstallIndex))
	if s.ManagementOS {
		putField(m, "isManagementOs", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
	}
	if s.TridentVersion != "" {
		putField(m, "tridentVersion", textNode(s.TridentVersion))
	}
	m.Content = append(m.Content, s.unknownFields...)
	return dump(m)
}

// YAML returns the link as upstream shows it in the rollback chain.
func (l Link) YAML() ([]byte, error) {
	spec, err := parseSpec(l.Spec)
	if err != nil {
		return nil, fmt.Errorf("write rollback: spec: %w", err)
	}
	m := &yaml.Node{Kind: yaml.MappingNode}
	putField(m, "kind", textNode(string(l.Kind)))
	putField(m, "spec", spec)
	volume := nullNode()
	if l.ABActiveVolume != "" {
		volume = textNode(string(l.ABActiveVolume))
	}
	putField(m, "abActiveVolume", volume)
	putField(m, "installIndex", intNode(l.InstallIndex))
	return dump(m)
}

// ParseStatus parses a status that upstream or this package wrote. It keeps
// unknown fields. Errors are of kind Corrupt.
func ParseStatus(data []byte) (Status, error) {
	s, err := parseStatus(data)
	if err != nil {
		err = damaged(err)
	}
	return s, err
}

func parseStatus(data []byte) (Status, error) {
	if len(data) > maxStatus {
		return Status{}, fmt.Errorf("the status has more than %d bytes", maxStatus)
	}
	m, err := parseMapping(data)
	if err != nil {
		return Status{}, err
	}
	var s Status
	seen := map[string]bool{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		if seen[key.Value] {
			return Status{}, fmt.Errorf("%.80q occurs twice", key.Value)
		}
		seen[key.Value] = true
		if isNull(value) && key.Value != "servicingState" {
			continue
		}
		if err := s.set(key, value); err != nil {
			return Status{}, fmt.Errorf("%s: %w", key.Value, err)
		}
	}
	for _, key := range []string{"spec", "servicingState"} {
		if !seen[key] {
			return Status{}, fmt.Errorf("the field %s is missing", key)
		}
	}
	return s, nil
}

func (s *Status) set(key, value *yaml.Node) (err error) {
	if key.Kind != yaml.ScalarNode {
		return fmt.Errorf("key in line %d: %w", key.Line, errNotText)
	}
	switch key.Value {
	case "spec":
		s.Spec, err = specText(value)
	case "specOld":
		s.SpecOld, err = specText(value)
	case "servicingState":
		s.Phase, err = PhaseOf(value.Value)
	case "lastError":
		s.LastError = lastErrorOf(value)
	case "partitionPaths":
		s.PartitionPaths, err = stringMap(value)
	case "abActiveVolume":
		s.ABActiveVolume = Volume(value.Value)
		if s.ABActiveVolume != VolumeA && s.ABActiveVolume != VolumeB {
			err = fmt.Errorf("unknown volume %.80q", value.Value)
		}
	case "diskUuids":
		s.DiskUUIDs, err = stringMap(value)
	case "installIndex":
		if err = value.Decode(&s.InstallIndex); err == nil && s.InstallIndex < 0 {
			err = fmt.Errorf("%d is negative", s.InstallIndex)
		}
	case "isManagementOs":
		err = value.Decode(&s.ManagementOS)
	case "tridentVersion":
		if value.Kind != yaml.ScalarNode {
			err = errNotText
		}
		s.TridentVersion = value.Value
	default:
		s.unknownFields = append(s.unknownFields, key, value)
	}
	return err
}
