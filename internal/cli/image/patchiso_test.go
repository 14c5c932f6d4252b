package image

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/isopatch"
)

func TestAnISOIsPatched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, text string) string {
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	original := "x" + isopatch.Magic + ":/etc/c:" + strings.Repeat("#", 50) + "\nz"
	iso, source := put("iso", original), put("source", "a: 1")
	run := func(args ...string) (string, error) {
		a, stdout, _ := commandtest.New()
		cmd := newPatchISOCommand(a, patchISO)
		cmd.SetArgs(args)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		return stdout.String(), err
	}
	if out, err := run(iso); err != nil || !strings.Contains(out, "/etc/c") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := run(iso, "--file", at("new"), "--patch", source+":/etc/c"); err != nil || !strings.Contains(out, "/etc/c") {
		t.Errorf("%q, %v", out, err)
	}
	made, err := os.ReadFile(at("new"))
	if err != nil || !bytes.HasPrefix(made, []byte("xa: 1\n###")) || !bytes.HasSuffix(made, []byte("#\nz")) || len(made) != len(original) {
		t.Errorf("%q, %v", made, err)
	}
	if now, _ := os.ReadFile(iso); string(now) != original {
		t.Error("the ISO itself has changed")
	}
	if out, err := run(iso, "--file", "-", "--patch", source+":/etc/c"); err != nil || out != string(made) {
		t.Errorf("%q, %v", out, err)
	}
	for want, args := range map[string][]string{
		"name the image to write with --file":     {iso, "--patch", source + ":/etc/c"},
		"there is no --patch":                     {iso, "--in-place"},
		"must be SOURCE:PATH":                     {iso, "--in-place", "--patch", source},
		"read --patch":                            {iso, "--in-place", "--patch", source + "x:/etc/c"},
		"open the ISO":                            {iso + "x"},
		"the image has no placeholder for /etc/d": {iso, "--in-place", "--patch", source + ":/etc/d"},
		"/iso": {iso, "--file", iso, "--patch", source + ":/etc/c"},
	} {
		if _, err := run(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, and want %s", err, want)
		}
	}
	if now, _ := os.ReadFile(iso); string(now) != original {
		t.Error("the ISO has changed by a command that has failed")
	}
	if _, err := run(iso, "--in-place", "--patch", source+":/etc/c"); err != nil {
		t.Error(err)
	}
	if now, _ := os.ReadFile(iso); string(now) != string(made) {
		t.Errorf("in place: %q", now)
	}
	if _, err := run(iso, "--in-place", "--patch", source+":/etc/c"); err == nil || !strings.Contains(err.Error(), "no placeholder") {
		t.Error(err)
	}
}
