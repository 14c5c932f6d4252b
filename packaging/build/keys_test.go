package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A key without its certificate, and a certificate without its key where an image is
// to be signed, are errors: nobody wants the development key, or no signature, instead.
func TestAKeyAndItsCertificateGoTogether(t *testing.T) {
	crt, key := filepath.Join(t.TempDir(), "c.crt"), filepath.Join(t.TempDir(), "k.key")
	for _, name := range []string{crt, key} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		script, key, crt string
		out, fault       string
	}{
		{"../keys", key, "", "", "TRIDENT_SIGN_CERT"},
		{"../sysext", key, "", "", "TRIDENT_SIGN_CERT"},
		{"../stage", key, "", "", "TRIDENT_SIGN_CERT"},
		{"../sysext", "", crt, "", "TRIDENT_SIGN_KEY"},
		{"../keys", key + ".none", crt, "", "k.key.none cannot be read"},
		{"../keys", "", crt, crt + "\n\n", ""},
		{"../keys", key, crt, crt + "\n" + key + "\n", ""},
	} {
		cmd := exec.CommandContext(t.Context(), c.script, "1.2.3", "amd64")
		if c.script == "../keys" {
			cmd = exec.CommandContext(t.Context(), c.script)
		}
		cmd.Env = append(os.Environ(), "TRIDENT_SIGN_KEY="+c.key, "TRIDENT_SIGN_CERT="+c.crt)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if (err != nil) != (c.fault != "") || string(out) != c.out || !strings.Contains(stderr.String(), c.fault) {
			t.Errorf("%s with key %q and certificate %q: %v, said %q and %q", c.script, c.key, c.crt, err, out, stderr.String())
		}
	}
}
