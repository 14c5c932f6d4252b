package machine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/cli/terminal"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func TestNoTextOfAMountActsOnTheTerminal(t *testing.T) {
	const evil = commandtest.Evil
	shares := &machinev1.ListSharesResponse{Shares: []*machinev1.Share{{What: evil, Where: evil, Type: evil, Options: []string{evil}, Unit: evil}}}
	commandtest.Clean(t, 2, func(a *command.App) { _ = a.Show(shares, func(w *terminal.Table) { writeShares(w, shares) }) })
	users := &machinev1.ListHoldersResponse{Holders: []*machinev1.Holder{{Command: evil, Path: evil, Pid: 1}}, Truncated: true}
	commandtest.Clean(t, 3, func(a *command.App) { _ = a.Show(users, func(w *terminal.Table) { writeHolders(w, users) }) })
}

func TestHoldersAreATable(t *testing.T) {
	a, stdout, _ := commandtest.New()
	out := &machinev1.ListHoldersResponse{Holders: []*machinev1.Holder{
		{Kind: machinev1.HolderKind_HOLDER_KIND_OPEN_FILE, Pid: 7, Command: "tail", Path: "/mnt/x/log"}, {Kind: machinev1.HolderKind_HOLDER_KIND_MOUNT, Path: "/mnt/x/y"},
	}}
	if err := a.Show(out, func(w *terminal.Table) { writeHolders(w, out) }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"7", "open file", "/mnt/x/log", "mount", "-"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}
}

func TestCredentialsComeFromAFile(t *testing.T) {
	if _, err := commandtest.Parse(t, newMountCommand, "//nas/x", "/srv/x", "--username", "ann"); err == nil || !strings.Contains(err.Error(), "password-file") {
		t.Error(err)
	}
	o, err := commandtest.Parse(t, newMountCommand, "//nas/x", "/srv/x", "--type", "cifs", "--option", "ro", "--option", "vers=3", "--persistent")
	if err != nil || o.what != "//nas/x" || o.where != "/srv/x" || o.fsType != "cifs" || len(o.options) != 2 || !o.persistent {
		t.Fatalf("%+v, %v", o, err)
	}
	file := filepath.Join(t.TempDir(), "password")
	for text, want := range map[string]string{"secret\n": "secret", "a b\r\nmore\n": "a b", "\nx": "", strings.Repeat("x", maxPassword+1): ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readPassword(context.Background(), file)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: %q, %v", text, got, err)
		}
	}
}
