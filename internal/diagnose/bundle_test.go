package diagnose

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/outfile"
)

func TestABundleIsBoundedAndListsWhatItLacks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "b")
	big := bytes.Repeat([]byte("x"), MaxFile+3)
	big[len(big)-1] = '!'
	err := Write(t.Context(), outfile.File{Path: name, Mode: 0o600}, time.Unix(0, 0), func(b *Bundle) error {
		b.Failed("tool", errors.New("run https://a:b@c/?d: token=abc"))
		for range maxBundle/MaxFile + 1 {
			if err := b.Add("big", "big", big); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	files, err := hosttest.ReadTarZstd(name)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(files["trident-diagnostics/report.json"], &r); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, f := range r.CollectedFiles {
		total += f.Size
		if !f.Truncated || f.Size > MaxFile {
			t.Errorf("%+v", f)
		}
	}
	if total > maxBundle || len(r.CollectionFailures) != 1 || strings.Contains(r.CollectionFailures[0].Error, "abc") || strings.Contains(r.CollectionFailures[0].Error, "a:b") {
		t.Errorf("%d bytes, failures %v", total, r.CollectionFailures)
	}
}

func TestABundleThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("broken")
	err := Write(t.Context(), outfile.File{Path: filepath.Join(dir, "b"), Mode: 0o600}, time.Unix(0, 0), func(*Bundle) error { return broken })
	left, rerr := os.ReadDir(dir)
	if !errors.Is(err, broken) || rerr != nil || len(left) > 0 {
		t.Errorf("error %v, left %v", err, left)
	}
}

func TestSecretsAreRemovedAndTheRestStays(t *testing.T) {
	for text, want := range map[string]string{
		"GET https://joe:pw@host:8080/a/b?sig=x#y ok": "GET https://<removed>@host:8080/a/b?<removed> ok",
		"https://host/a":                    "https://host/a",
		"export DB_PASSWORD='a b' next":     "export DB_PASSWORD=<removed> next",
		"token: abc, mode: fast":            "token: <removed>, mode: fast",
		"Authorization: Bearer abc.def":     "Authorization: Bearer <removed>",
		"-----BEGIN PRIVATE KEY-----\nx\ny": "<removed>",
		"a -----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY----- b": "a <removed> b",
		"the step verify failed: not signed":                                    "the step verify failed: not signed",
	} {
		if got := WithoutSecrets(text); got != want {
			t.Errorf("%q\n got %q\nwant %q", text, got, want)
		}
		if again := WithoutSecrets(WithoutSecrets(text)); again != want {
			t.Errorf("%q twice is %q", text, again)
		}
	}
	document := "os:\n  users:\n    - name: a # secret remark\n      password: {type: locked, hash: x}\n      sshPublicKeys: [k1]\n      sshMode: key-only\n" +
		"apiKey: 7\nprivate: true\nurl: https://h/?q\n"
	want := "os:\n  users:\n  - name: a\n    password: <removed>\n    sshPublicKeys: <removed>\n    sshMode: key-only\n" +
		"apiKey: <removed>\nprivate: true\nurl: https://h/?<removed>\n"
	if got := DocumentWithoutSecrets(document); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
