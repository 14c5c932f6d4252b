package diagnose

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// removed replaces a secret.
const removed = "<removed>"

var (
	// secretName is a key or variable whose value nobody else should see.
	secretName = regexp.MustCompile(`(?i)passw|passphrase|secret|token|credential|api_?key|private|psk|^keys?$|key$|keys$|^auth$|bearer|cookie|sas$`)
	// assignment is one in a shell script or an environment, or in a log line.
	assignment = regexp.MustCompile(`(?i)\b([a-z0-9_-]*(?:passw|passphrase|secret|token|credential|api[_-]?key|private[_-]?key|psk)[a-z0-9_-]*)(\s*[=:]\s*)("[^"\n]*"|'[^'\n]*'|[^\s"',;&|]+)`)
	// urlForm is a URL with something after its path, or somebody before its host.
	urlForm = regexp.MustCompile(`\b([a-z][a-z0-9+.-]*://)([^\s/?#"'<>@]*@)?([^\s?#"'<>]*)([?#][^\s"'<>]*)?`)
	pemForm = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`)
	header  = regexp.MustCompile(`(?i)\b(authorization\s*:\s*\w+\s+)\S+`)
)

// WithoutSecrets returns text without what looks like a secret: the user and the query
// of a URL, private keys, the values of variables whose names say that they are secret.
// Other parts of the text do not change.
func WithoutSecrets(text string) string {
	text = pemForm.ReplaceAllString(text, removed)
	text = header.ReplaceAllString(text, "${1}"+removed)
	text = urlForm.ReplaceAllStringFunc(text, func(url string) string {
		m := urlForm.FindStringSubmatch(url)
		if m[2] != "" {
			m[2] = removed + "@"
		}
		if m[4] != "" {
			m[4] = m[4][:1] + removed
		}
		return m[1] + m[2] + m[3] + m[4]
	})
	return assignment.ReplaceAllString(text, "${1}${2}"+removed)
}

// DocumentWithoutSecrets does what WithoutSecrets does, and removes from YAML and JSON
// the whole values of keys whose names say that they are secret, and all comments. It
// returns YAML. A text that is neither YAML nor JSON is treated as by WithoutSecrets.
func DocumentWithoutSecrets(text string) string {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || doc.Kind == 0 {
		return WithoutSecrets(text)
	}
	clean(&doc, 0)
	out, err := yaml.Dump(&doc, yaml.WithLineWidth(-1))
	if err != nil {
		return removed + "\n"
	}
	return string(out)
}

// maxScrubDepth bounds the recursion over a document.
const maxScrubDepth = 200

func clean(n *yaml.Node, depth int) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	if depth > maxScrubDepth || n.Kind == yaml.AliasNode {
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: removed}
		return
	}
	if n.Kind == yaml.ScalarNode {
		if cleaned := WithoutSecrets(n.Value); cleaned != n.Value {
			n.SetString(cleaned)
		}
		return
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && isSecret(n.Content[i-1].Value, c) {
			*c = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: removed}
			continue
		}
		clean(c, depth+1)
	}
}

// isSecret reports whether a value is secret, by the name of its key. A boolean, null
// and "locked" never are.
func isSecret(key string, value *yaml.Node) bool {
	if value.Kind == yaml.ScalarNode && (value.Tag == "!!bool" || value.Tag == "!!null" || value.Value == "locked") {
		return false
	}
	return secretName.MatchString(strings.TrimSpace(key))
}
