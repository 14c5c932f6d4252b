package command

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
)

// run runs a command line in this process.
func run(ctx context.Context, args ...string) (string, error) {
	cmd := Command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

// host makes the files of a gateway below a folder, and returns its settings file.
func host(t *testing.T, listen string) (file, dir string) {
	t.Helper()
	dir = t.TempDir()
	if _, err := run(t.Context(), "setup", "--root", dir, "--name", "localhost"); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "etc/trident/gateway")
	text := fmt.Sprintf("listen: [%q]\nsocket: %s/s\ntls: {certificate: %[3]s/server.crt, key: %[3]s/server.key, clientCA: %[3]s/ca.crt}\ntokens: %[3]s/tokens.json\naudit: {file: %[2]s/audit.log}\nhttp: {passphrases: %[3]s/passphrases.json}\n", listen, dir, keys)
	file = filepath.Join(dir, "serve.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, dir
}

func TestTokensOnTheCommandLine(t *testing.T) {
	file, dir := host(t, "127.0.0.1:0")
	text, err := run(t.Context(), "token", "add", "ci", "--right", "operate,secret", "--days", "2", "-c", file)
	if err != nil || !strings.HasPrefix(text, "trident_") {
		t.Fatalf("%q, %v", text, err)
	}
	out, err := run(t.Context(), "token", "list", "--output", "json", "-c", file)
	var all []listed
	if err != nil || json.Unmarshal([]byte(out), &all) != nil || len(all) != 1 || all[0].Name != "ci" || all[0].State != "valid" || len(all[0].Rights) != 2 {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := run(t.Context(), "token", "revoke", "ci", "-c", file); err != nil {
		t.Error(err)
	}
	if out, err = run(t.Context(), "token", "list", "-c", file); err != nil || !strings.Contains(out, "ci     revoked  operate,secret") {
		t.Errorf("%s, %v", out, err)
	}
	for _, tt := range []struct {
		args string
		kind errkind.Kind
		hint string
	}{
		{"token revoke ci", errkind.Exists, ""},
		{"token revoke nobody", errkind.NotFound, "see trident-gateway token list"},
		{"token add x --right root", errkind.Invalid, "the rights are"},
		{"token add x --days 0", errkind.Invalid, ""},
		{"token add", errkind.Invalid, "see: trident-gateway token add --help"},
		{"token ad x", errkind.Invalid, "see: trident-gateway token --help"},
		{"token list --output xml", errkind.Invalid, "see:"},
		{"token", errkind.Invalid, "see:"},
		{"", errkind.Invalid, "see: trident-gateway --help"},
		{"dance", errkind.Invalid, "see:"},
		{"serve now", errkind.Invalid, "see:"},
		{"serve --dance", errkind.Invalid, "see:"},
		{"setup", errkind.Invalid, "see:"}, // with --config
	} {
		if _, err := run(t.Context(), append(strings.Fields(tt.args), "-c", file)...); errkind.Of(err) != tt.kind || !strings.Contains(errkind.Hint(err), tt.hint) {
			t.Errorf("%s: %v, hint %q", tt.args, err, errkind.Hint(err))
		}
	}
	if _, err := run(t.Context(), "token", "list", "-c", filepath.Join(dir, "none")); errkind.Of(err) != errkind.NotFound || !strings.Contains(errkind.Hint(err), "trident-gateway setup") {
		t.Errorf("no settings: %v", err)
	}
}

func TestCheck(t *testing.T) {
	file, dir := host(t, "127.0.0.1:0")
	if out, err := run(t.Context(), "check", "-c", file); err != nil || !strings.Contains(out, "valid") {
		t.Errorf("%s, %v", out, err)
	}
	keys := filepath.Join(dir, "etc/trident/gateway")
	for name, want := range map[string]string{"server.crt": "server.crt", "server.key": "server.key", "ca.crt": "ca.crt", "tokens.json": "tokens"} {
		path := filepath.Join(keys, name)
		old, _ := os.ReadFile(path)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t.Context(), "check", "-c", file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a broken %s: %v", name, err)
		}
		if old == nil {
			_ = os.Remove(path)
		} else if err := os.WriteFile(path, old, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"server.crt", "server.key", "ca.crt"} {
		path := filepath.Join(keys, name)
		if err := os.Rename(path, path+".x"); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t.Context(), "check", "-c", file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("without %s: %v", name, err)
		}
		if err := os.Rename(path+".x", path); err != nil {
			t.Fatal(err)
		}
	}
}

// tridentd refuses settings and tokens that others can write, and names check as the command
// that says what is wrong.
func TestCheckFindsFilesThatOthersCanWrite(t *testing.T) {
	file, dir := host(t, "127.0.0.1:0")
	if _, err := run(t.Context(), "token", "add", "ci", "-c", file); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, filepath.Join(dir, "etc/trident/gateway/tokens.json")} {
		for mode, isFault := range map[os.FileMode]bool{0o644: false, 0o664: true, 0o666: true, 0o640: false} {
			if err := os.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
			_, err := run(t.Context(), "check", "-c", file)
			if (errkind.Of(err) == errkind.Denied && strings.Contains(errkind.Hint(err), name)) != isFault || (err != nil) != isFault {
				t.Errorf("%s with %o: %v", name, mode, err)
			}
		}
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckFindsAPrivateKeyThatEveryUserCanRead(t *testing.T) {
	file, dir := host(t, "127.0.0.1:0")
	key := filepath.Join(dir, "etc/trident/gateway/server.key")
	for mode, isFault := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t.Context(), "check", "-c", file); (err != nil) != isFault || isFault && !strings.Contains(err.Error(), "every user of this host can read the private key") {
			t.Errorf("with %o: %v", mode, err)
		}
	}
}

func TestTheLifeOfATokenHasBounds(t *testing.T) {
	file, _ := host(t, "127.0.0.1:0")
	for _, days := range []string{"-1", "0", "36501", "999999999"} { // 999999999 days are more than a time.Duration
		_, err := run(t.Context(), "token", "add", "ci", "--days", days, "-c", file)
		if err == nil || err.Error() != "--days is "+days+", it must be from 1 to 36500" {
			t.Errorf("--days %s: %v", days, err)
		}
	}
}

// serve tells systemd that it is ready, serves, and ends with success.
func TestServeUntilItIsStopped(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	file, dir := host(t, address)
	if _, err := run(t.Context(), "serve", "-c", file, "--load-file", ""); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a taken address: %v", err)
	}
	_ = l.Close()
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := run(ctx, "serve", "-c", file, "--wake-file", "", "--load-file", filepath.Join(dir, "load"))
		done <- err
	}()
	buf := make([]byte, 64)
	if n, err := ready.Read(buf); err != nil || string(buf[:n]) != "READY=1" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	ca, _ := os.ReadFile(filepath.Join(dir, "etc/trident/gateway/ca.crt"))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEveryCommandHasAHelpAndAnExample(t *testing.T) {
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Example == "" && !cmd.HasSubCommands() {
			t.Errorf("%s has no help or no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(Command())
}
