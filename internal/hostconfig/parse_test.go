package hostconfig

import (
	"testing"

	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

func mustParse(t testing.TB, text string) *Config {
	t.Helper()
	c, r := Parse([]byte(text), nil)
	if c == nil {
		t.Fatalf("refused:\n%s", hostconfigtest.Lines(r))
	}
	return c
}
