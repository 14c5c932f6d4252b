package command

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func TestPassphrasesOnTheCommandLine(t *testing.T) {
	file, dir := host(t, "127.0.0.1:0")
	set := func(in string, args ...string) (string, error) {
		cmd := Command()
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(io.Discard)
		cmd.SetIn(strings.NewReader(in))
		cmd.SetArgs(append([]string{"passphrase", "set", "-c", file}, args...))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	out, err := set("correct horse battery\n")
	if err != nil || !strings.Contains(out, `passphrase:admin has no right yet`) {
		t.Errorf("%s, %v", out, err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "etc/trident/gateway/passphrases.json"))
	if err != nil || !strings.Contains(string(data), "$argon2id$v=19$m=19456,t=2,p=1$") || strings.Contains(string(data), "horse") {
		t.Errorf("%s, %v", data, err)
	}
	text, _ := os.ReadFile(file)
	if err := os.WriteFile(file, append(text, "rights: [{identity: \"passphrase:ops\", rights: [read]}]\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err = set("correct horse battery", "ops"); err != nil || out != "passphrase:ops has the rights: read\n" {
		t.Errorf("%s, %v", out, err)
	}
	for _, in := range []string{"", "short\n", "two lines\nof a passphrase\n", strings.Repeat("x", 5000)} {
		if _, err := set(in); errkind.Of(err) != errkind.Invalid || strings.Contains(err.Error(), "lines") && strings.Contains(err.Error(), "two") {
			t.Errorf("%.20q: %v", in, err)
		}
	}
	if _, err := run(t.Context(), "passphrase", "remove", "ops", "-c", file); err != nil {
		t.Error(err)
	}
	if _, err := run(t.Context(), "passphrase", "remove", "ops", "-c", file); errkind.Of(err) != errkind.NotFound {
		t.Errorf("removed twice: %v", err)
	}
}
