package run

import (
	"testing"

	"github.com/trident-project/trident/internal/hosttest"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

func TestToolsOfTheHostHaveTheUmaskOfALogin(t *testing.T) {
	const ask = "umask"
	for range 50 { // whichever thread it is
		out, err := Host{}.Run(t.Context(), "sh", "-c", ask)
		if string(out) != "0022\n" || err != nil {
			t.Fatalf("a tool of the host has %q, %v", out, err)
		}
		out, err = Output(t.Context(), Command{Path: "sh", Args: []string{"-c", ask}})
		if string(out) != "0077\n" || err != nil {
			t.Fatalf("this process has %q, %v", out, err)
		}
	}
}
