package hosts

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/settingsfile"
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
func parse(text []byte) (hosts map[string]Host, node *yaml.Node, err error) {
	hosts = map[string]Host{}
	doc, err := settingsfile.Parse(text, settingsfile.Format{MaxBytes: maxFile})
	if err != nil {
		return nil, nil, err
	}
	if doc.IsEmpty() {
		return hosts, emptyDocument(), nil
	}
	version := ""
	err = doc.Read(settingsfile.Keys{
		"version": settingsfile.Parsed(&version, parseVersion),
		"hosts":   settingsfile.Mapping(settingsfile.Keys{settingsfile.Others: readHost(hosts)}),
	})
	if err == nil && version == "" {
		err = errkind.WithHint(doc.Errorf("has no version"), "Begin the file with: version: 1")
	}
	if err != nil {
		return nil, nil, err
	}
	return hosts, doc.Node(), nil
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

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func parseVersion(text string) (string, error) {
	if text != "1" {
		err := fmt.Errorf("%.80q is not supported: this Trident reads version 1", text)
		return "", errkind.WithHint(err, "Upgrade Trident on this machine.")
	}
	return text, nil
}

// readHost reads a host into hosts.
func readHost(hosts map[string]Host) func(settingsfile.Value) error {
	return func(v settingsfile.Value) error {
		if !isHostName(v.Name()) {
			return v.Errorf("%.80q is not the name of a host: use letters, digits, dots, hyphens and underscores", v.Name())
		}
		var h Host
		err := v.Read(settingsfile.Keys{
			"endpoints":     readWords(&h.Endpoints),
			"certificate":   readWord(&h.Certificate),
			"key":           readWord(&h.Key),
			"ca":            readWord(&h.CA),
			"serverName":    readWord(&h.ServerName),
			"tokenFile":     readWord(&h.TokenFile),
			"sshCommand":    readWords(&h.SSHCommand),
			"remoteCommand": readWords(&h.RemoteCommand),
			"labels":        readLabels(&h.Labels),
		})
		if err != nil {
			return err
		}
		if err := h.check(); err != nil {
			return v.Errorf("%w", err)
		}
		hosts[v.Name()] = h
		return nil
	}
}

// readWord reads a text that is not empty.
func readWord(to *string) func(settingsfile.Value) error {
	return func(v settingsfile.Value) error {
		err := settingsfile.Text(to)(v)
		if err == nil && *to == "" {
			err = v.Errorf("is empty")
		}
		return err
	}
}

// readWords reads a list that has a text.
func readWords(to *[]string) func(settingsfile.Value) error {
	return func(v settingsfile.Value) error {
		err := settingsfile.List(to, readWord)(v)
		if err == nil && len(*to) == 0 {
			err = v.Errorf("is an empty list")
		}
		return err
	}
}

func readLabels(to *map[string]string) func(settingsfile.Value) error {
	labels := map[string]string{}
	*to = labels
	return settingsfile.Mapping(settingsfile.Keys{settingsfile.Others: func(v settingsfile.Value) error {
		text, err := v.Text() // 1 and true are labels too
		if err != nil {
			return err
		}
		if !isName(v.Name()) {
			return v.Errorf("%.80q is not the name of a label", v.Name())
		}
		l, err := ParseLabel(v.Name() + "=" + text)
		if err != nil {
			return v.Errorf("%w", err)
		}
		labels[l.Name] = l.Value
		return nil
	}})
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
