package hostconfig

import (
	"strings"
	"testing"
)

func TestAPathInThePlaceOfAURLIsNamed(t *testing.T) {
	for _, text := range []string{"/srv/os.cosi", "./os.cosi"} {
		if _, _, err := parseURL(text); err == nil || !strings.Contains(err.Error(), "is a path, not a URL; a file of the host is named as in file:///") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What is stored for a URL is a URL for readers that are strict, too.
func TestAURLIsKeptInAStrictForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"HTTP://Example.org/x": "http://Example.org/x", "http:a/b": "http://a/b", `https:\\a\b`: "https://a/b", "file:///a b": "file:///a%20b",
		"http://a/%zz": "http://a/%25zz", "http://a/%20": "http://a/%20", "file:": "file:///", "file:a": "file:///a", "file://localhost/x": "file:///x",
		"oci://r.example/x:1": "oci://r.example/x:1", "https://u:p@a:0443/x?y#z": "https://u:p@a:443/x?y#z", " http://a\n/b ": "http://a/b",
	} {
		got, _, err := parseURL(text)
		if err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
		if again, _, err := parseURL(got); err != nil || again != got {
			t.Errorf("%q is read as %q, %v", got, again, err)
		}
	}
}
