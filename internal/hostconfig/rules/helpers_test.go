package rules

import (
	"testing"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/samples"
)

type change = samples.Change

func parse(text string) (*hostconfig.Config, hostconfig.Report) {
	return hostconfig.Parse([]byte(text), Check)
}

func mustParse(t testing.TB, text string) *hostconfig.Config {
	t.Helper()
	c, r := parse(text)
	if c == nil {
		t.Fatalf("refused:\n%s", samples.Lines(r))
	}
	return c
}
