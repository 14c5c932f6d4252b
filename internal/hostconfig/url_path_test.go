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
