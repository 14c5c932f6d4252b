package command

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/password"
)

func TestAConsoleTokenOnTheCommandLine(t *testing.T) {
	file, dir := host(t, "127.0.0.1:0")
	path := filepath.Join(dir, "console.json")
	cmd := Command()
	var out, notes bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&notes)
	cmd.SetArgs([]string{"console", "-c", file, "--console-file", path})
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSuffix(out.String(), "\n")
	if strings.ContainsAny(token, " \n") || !strings.Contains(notes.String(), "one login until") || !strings.Contains(notes.String(), `identity: "console:root"`) {
		t.Errorf("%q, %q", &out, &notes)
	}
	if err := password.NewConsole(path).Use(token, time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := run(t.Context(), "console", "-c", file, "--console-file", filepath.Join(dir, "none/console.json")); errkind.Of(err) != errkind.Precondition || !strings.Contains(errkind.Hint(err), "systemctl start") {
		t.Errorf("without a gateway: %v", err)
	}
}
