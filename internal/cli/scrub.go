package cli

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// removed stands for a secret in what is shown to others.
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

// withoutSecrets is a text in which nothing looks like a secret: no user and no
// query in a URL, no private key, no value of a variable that is named like one.
func withoutSecrets(text string) string {
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

// documentWithoutSecrets is the same for YAML and JSON, where the values of keys
// that are named like secrets go as well, whatever they are. A text that is
// neither is treated as a text.
func documentWithoutSecrets(text string) string {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || doc.Kind == 0 {
		return withoutSecrets(text)
	}
	clean(&doc, 0)
	out, err := dumpYAML(&doc)
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
		if cleaned := withoutSecrets(n.Value); cleaned != n.Value {
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

// isSecret judges a value by its key. A yes or no tells nobody anything.
func isSecret(key string, value *yaml.Node) bool {
	if value.Kind == yaml.ScalarNode && (value.Tag == "!!bool" || value.Tag == "!!null" || value.Value == "locked") {
		return false
	}
	return secretName.MatchString(strings.TrimSpace(key))
}
