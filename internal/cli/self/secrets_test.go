package self

import (
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/fetch"
)

func TestTheSecretsOfAURLAreNotShown(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"http://ann:s3cret@h:1/a%20b?sig=x#y":     "http://h:1/a%20b",
		"oci://ann:s3cret@h/a:1":                  "oci://h/a:1",
		"ftp://ann:s3cret@h/a":                    "ftp://h/a",
		"https://ann:s3cret@h:no port/debian.raw": "https://…",
	} {
		if got := fetch.Redact(given); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
	for _, o := range []sourceOptions{{source: "ftp://ann:s3cret@h/a"}, {source: "https://ann:s3cret@h/a", onHost: true}} {
		if _, _, err := o.open(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
