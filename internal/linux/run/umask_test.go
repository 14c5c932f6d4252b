package run

import (
	"testing"

	"golang.org/x/sys/unix"
)

// unitUmask is that of tridentd.service; it is here for all tests.
var _ = unix.Umask(0o077)

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
