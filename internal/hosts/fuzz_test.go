package hosts

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A file that can be read can be changed, and keeps all other hosts.
func FuzzParse(f *testing.F) {
	f.Add([]byte("# x\nversion: 1\nhosts:\n  a: # y\n    endpoints: [ssh://root@a, tls://a:1]\n    ca: ca\n    certificate: c\n    key: k\n    serverName: s\n" +
		"    tokenFile: t\n    sshCommand: [ssh]\n    remoteCommand: [x]\n    labels: {env: prod, n: 7}\n"))
	f.Add([]byte("version: 1\nhosts: {a: {endpoints: ['unix:/a']}}"))
	f.Add([]byte("version: 1\nhosts: &a {b: *a}"))
	f.Add([]byte("version: 1\nhosts:\n  ? [a]\n  : b\n<<: x"))
	f.Add([]byte("version: 1\n---\nversion: 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		before, doc, err := parse(text)
		if err != nil {
			return
		}
		if _, ok := before["added"]; ok {
			return
		}
		addTo(listOf(doc), "added", Host{Endpoints: []string{"ssh://x"}, Labels: map[string]string{"a": "b"}})
		out, err := textOf(doc)
		if err != nil {
			t.Fatalf("a file that can be read cannot be changed: %v", err)
		}
		after, _, err := parse(out)
		if err != nil {
			t.Fatal(err)
		}
		delete(after, "added")
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("other hosts changed: %s\n%s", diff, out)
		}
	})
}
