package luks_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/luks"
	"github.com/trident-project/trident/internal/linux/run"
)

// tools notes the commands of a Host, and lets them fail with err.
type tools struct {
	args  []string
	stdin []string
	err   error
}

func (r *tools) run(_ context.Context, c run.Command) ([]byte, error) {
	r.args = append(r.args, c.Path+" "+strings.Join(append(c.Args, c.Env...), " "))
	in, err := io.ReadAll(c.Stdin)
	r.stdin = append(r.stdin, string(in))
	if err == nil {
		err = r.err
	}
	return nil, err
}

func TestAKeyGoesToToolsByTheirInputOnly(t *testing.T) {
	t.Parallel()
	const secret = "secret"
	device := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(device, volume(header(0, 1, plain), header(size, 1, plain)), 0o600); err != nil {
		t.Fatal(err)
	}
	v := luks.Volume{Device: device, Name: "data", UUID: uuid}
	for name, do := range map[string]func(luks.Host) error{
		"format": func(h luks.Host) error { return h.Format(t.Context(), v, luks.Key(secret)) },
		"open":   func(h luks.Host) error { return h.Open(t.Context(), v, luks.Key(secret)) },
		"test":   func(h luks.Host) error { return h.Test(t.Context(), v, luks.Key(secret)) },
		"enroll": func(h luks.Host) error {
			_, err := h.Enroll(t.Context(), v, luks.Key(secret), luks.Binding{})
			return err
		},
	} {
		r := &tools{err: &run.ExitError{Tool: "cryptsetup", Status: "exit status 2"}}
		err := do(luks.Host{Run: r.run, Root: fstest.MapFS{}})
		if errkind.Of(err) != errkind.Denied || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Contains(r.stdin, secret) || strings.Contains(strings.Join(r.args, " "), secret) {
			t.Errorf("%s runs %q with %q", name, r.args, r.stdin)
		}
	}
}

func TestAnOpenVolumeIsKnownByItsHeader(t *testing.T) {
	t.Parallel()
	open := func(uuid string) fstest.MapFS {
		return fstest.MapFS{
			"sys/block/dm-0/dm/name": {Data: []byte("other\n")}, "sys/block/dm-0/dm/uuid": {Data: []byte("LVM-x\n")},
			"sys/block/dm-1/dm/name": {Data: []byte("data\n")}, "sys/block/dm-1/dm/uuid": {Data: []byte(uuid + "\n")},
		}
	}
	ours := "CRYPT-LUKS2-" + strings.ReplaceAll(uuid, "-", "") + "-data"
	v := luks.Volume{Device: "/dev/x", Name: "data", UUID: uuid}
	for name, c := range map[string]struct {
		root        fstest.MapFS
		kind        errkind.Kind
		opens, ends int // commands
	}{
		"closed":  {fstest.MapFS{}, "", 1, 0},
		"open":    {open(ours), "", 0, 1},
		"another": {open("CRYPT-LUKS2-00000000000000000000000000000000-data"), errkind.Precondition, 0, 1},
		"no UUID": {open(""), errkind.Precondition, 0, 1},
	} {
		r := &tools{}
		h := luks.Host{Run: r.run, Root: c.root}
		err := h.Open(t.Context(), v, luks.Key("k"))
		if (err == nil) != (c.kind == "") || err != nil && errkind.Of(err) != c.kind || len(r.args) != c.opens {
			t.Errorf("%s: open runs %q: %v", name, r.args, err)
		}
		r.args = nil
		if err := h.Close(t.Context(), v); err != nil || len(r.args) != c.ends {
			t.Errorf("%s: close runs %q: %v", name, r.args, err)
		}
	}
}
