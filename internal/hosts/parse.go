package hosts

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/nearest"
	"github.com/trident-project/trident/proto/client"
)

const (
	// maxFile is the largest hosts.yaml, in bytes.
	maxFile = 4 << 20
	// maxEndpoints is the most endpoints of one host.
	maxEndpoints = 16
)

// parse reads the text of a file. The returned document is the text with its comments, for a
// later change; an empty text has a document without hosts.
func parse(text []byte) (hosts map[string]Host, doc *yaml.Node, err error) {
	doc = &yaml.Node{}
	if err := yaml.Unmarshal(text, doc); err != nil {
		return nil, nil, errkind.With(errkind.Invalid, errors.New(strings.TrimPrefix(strings.TrimSpace(err.Error()), "yaml: ")))
	}
	if len(doc.Content) == 0 {
		return map[string]Host{}, emptyDocument(), nil
	}
	p := parser{hosts: map[string]Host{}}
	if err := p.root(doc.Content[0]); err != nil {
		return nil, nil, errkind.With(errkind.Invalid, err)
	}
	return p.hosts, doc, nil
}

func emptyDocument() *yaml.Node {
	root := &yaml.Node{Kind: yaml.MappingNode}
	root.Content = append(root.Content, scalar("version"), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: "1"}, scalar("hosts"), &yaml.Node{Kind: yaml.MappingNode})
	return &yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{root}}
}

func scalar(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode}
	n.SetString(text)
	return n
}

type parser struct{ hosts map[string]Host }

// fields calls read for each key of a mapping. A key that read does not know is an error with
// the nearest word of known, unless known is nil.
func fields(n *yaml.Node, what string, known []string, read func(key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return at(n, "%s is not a mapping", what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || value.Kind == yaml.AliasNode || key.Tag == "!!merge":
			return at(key, "%s has an alias, a merge or a key that is not text", what)
		case seen[key.Value]:
			return at(key, "%s has the key %q twice", what, key.Value)
		}
		seen[key.Value] = true
		if known != nil && !slices.Contains(known, key.Value) {
			err := at(key, "%s has the unknown key %q", what, key.Value)
			if meant := nearest.Word(key.Value, known); meant != "" {
				return errkind.WithHint(err, "Did you mean %s?", meant)
			}
			return errkind.WithHint(err, "The keys are %s.", strings.Join(known, ", "))
		}
		if err := read(key, value); err != nil {
			return err
		}
	}
	return nil
}

func at(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", n.Line, fmt.Sprintf(format, args...))
}

func (p *parser) root(n *yaml.Node) error {
	hasVersion := false
	err := fields(n, "the file", []string{"version", "hosts"}, func(key, value *yaml.Node) error {
		if key.Value == "version" {
			hasVersion = true
			if value.Value != "1" {
				return errkind.WithHint(at(value, "version %q is not supported: this Trident reads version 1", value.Value), "Upgrade Trident on this machine.")
			}
			return nil
		}
		if isNull(value) {
			return nil
		}
		return fields(value, "hosts", nil, p.host)
	})
	if err == nil && !hasVersion {
		err = errkind.WithHint(at(n, "the key version is missing"), "Begin the file with: version: 1")
	}
	return err
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func hostKeys() []string {
	return []string{"endpoints", "certificate", "key", "ca", "serverName", "tokenFile", "sshCommand", "remoteCommand", "labels"}
}

func (p *parser) host(name, n *yaml.Node) error {
	if !isHostName(name.Value) {
		return at(name, "%q is not the name of a host: use letters, digits, dots, hyphens and underscores", name.Value)
	}
	what := fmt.Sprintf("host %q", name.Value)
	var h Host
	err := fields(n, what, hostKeys(), func(key, value *yaml.Node) (err error) {
		in := what + ": " + key.Value
		switch key.Value {
		case "endpoints":
			h.Endpoints, err = texts(value, in)
		case "sshCommand":
			h.SSHCommand, err = texts(value, in)
		case "remoteCommand":
			h.RemoteCommand, err = texts(value, in)
		case "labels":
			h.Labels, err = labels(value, in)
		case "certificate":
			h.Certificate, err = text(value, in)
		case "key":
			h.Key, err = text(value, in)
		case "ca":
			h.CA, err = text(value, in)
		case "serverName":
			h.ServerName, err = text(value, in)
		case "tokenFile":
			h.TokenFile, err = text(value, in)
		}
		return err
	})
	if err == nil {
		err = h.check()
		if err != nil {
			err = fmt.Errorf("line %d: %s: %w", name.Line, what, err)
		}
	}
	p.hosts[name.Value] = h
	return err
}

// text returns the value of a key that is a text which is not empty.
func text(n *yaml.Node, what string) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" || strings.Contains(n.Value, "\x00") {
		return "", at(n, "%s is not a text", what)
	}
	return n.Value, nil
}

func texts(n *yaml.Node, what string) (out []string, err error) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return nil, at(n, "%s is not a list of texts", what)
	}
	for _, item := range n.Content {
		word, err := text(item, "an entry of "+what)
		if err != nil {
			return nil, err
		}
		out = append(out, word)
	}
	return out, nil
}

func labels(n *yaml.Node, what string) (map[string]string, error) {
	out := map[string]string{}
	err := fields(n, what, nil, func(key, value *yaml.Node) error {
		if value.Kind != yaml.ScalarNode { // 1 and true are labels too
			return at(value, "%s: %s is not a text", what, key.Value)
		}
		if !isName(key.Value) {
			return at(key, "%s: %q is not the name of a label", what, key.Value)
		}
		l, err := ParseLabel(key.Value + "=" + value.Value)
		if err != nil {
			return at(key, "%s: %v", what, err)
		}
		out[l.Name] = l.Value
		return nil
	})
	return out, err
}

// check reports what of a host contradicts itself, or can never work.
func (h Host) check() error {
	if len(h.Endpoints) == 0 {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "it has no endpoints"), "An endpoint is unix:PATH, ssh://[user@]host[:port] or tls://host:port.")
	}
	if len(h.Endpoints) > maxEndpoints {
		return errkind.Errorf(errkind.Invalid, "it has %d endpoints, and may have %d", len(h.Endpoints), maxEndpoints)
	}
	isOverTLS, isOverSSH := false, false
	for _, e := range h.Endpoints {
		if !IsEndpoint(e) {
			err := errkind.Errorf(errkind.Invalid, "%q is not an endpoint", e)
			return errkind.WithHint(err, "An endpoint is unix:PATH, ssh://[user@]host[:port] or tls://host:port.")
		}
		if _, err := client.Dial(e); err != nil { // it only parses
			return err
		}
		isOverTLS = isOverTLS || strings.HasPrefix(e, "tls://")
		isOverSSH = isOverSSH || strings.HasPrefix(e, "ssh://")
	}
	switch {
	case (h.Certificate == "") != (h.Key == ""):
		return errkind.Errorf(errkind.Invalid, "certificate and key go together")
	case !isOverTLS && (h.Certificate != "" || h.CA != "" || h.ServerName != "" || h.TokenFile != ""):
		return errkind.Errorf(errkind.Invalid, "certificate, key, ca, serverName and tokenFile are for tls:// endpoints, and it has none")
	case !isOverSSH && len(h.SSHCommand)+len(h.RemoteCommand) > 0:
		return errkind.Errorf(errkind.Invalid, "sshCommand and remoteCommand are for ssh:// endpoints, and it has none")
	}
	return nil
}
