package hostconfig

import (
	"testing"

	"github.com/trident-project/trident/internal/hostconfig/internal/samples"
)

func mustParse(t testing.TB, text string) *Config {
	t.Helper()
	c, r := Parse([]byte(text), nil)
	if c == nil {
		t.Fatalf("refused:\n%s", samples.Lines(r))
	}
	return c
}
