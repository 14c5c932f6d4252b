package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/internal/systemd"
)

func TestThereIsOneDaemonOnARoot(t *testing.T) {
	root := shortDir(t)
	first, err := lock(root)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("lock %s/run/trident/lock: another tridentd runs (pid %d)", root, os.Getpid())
	if _, err := lock(root); err == nil || err.Error() != want || errkind.Of(err) != errkind.Busy {
		t.Errorf("second lock: %v, want %s", err, want)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := lock(root)
	if err != nil {
		t.Fatalf("lock after the first was released: %v", err)
	}
	_ = again.Close()
}

func TestTheMarkerIsThereExactlyWhileWorkIsUnsettled(t *testing.T) {
	root := shortDir(t)
	path := filepath.Join(root, servicing.UnsettledMark)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	set := markUnsettled(root)
	for i, unsettled := range []bool{false, true, true, false, false, true} {
		if err := set(unsettled); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != unsettled {
			t.Errorf("step %d: unsettled %t, marker: %v", i, unsettled, err)
		}
	}
}

func TestAMarkerThatCannotBeWrittenIsAnError(t *testing.T) {
	if err := markUnsettled(filepath.Join(t.TempDir(), "none"))(true); err == nil || !strings.HasPrefix(err.Error(), "mark unsettled work: ") {
		t.Errorf("got %v", err)
	}
}

func TestOurOwnSocketIsForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a/b/s")
	l, err := listenOwn(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if dir, err := os.Stat(filepath.Dir(path)); err != nil || dir.Mode().Perm() != 0o755 {
		t.Errorf("folder %v, %v", dir.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOnlyAStaleSocketIsReplaced(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(t *testing.T, path string)
		want  string
	}{
		{"stale", stale, ""},
		{"answered", func(t *testing.T, path string) {
			l := unixSocket(t, path)
			t.Cleanup(func() { _ = l.Close() })
		}, "another process answers there already"},
		{"file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "the path exists and is not a socket"},
		{"link to a socket", func(t *testing.T, path string) {
			unixSocket(t, path+"2")
			if err := os.Symlink(path+"2", path); err != nil {
				t.Fatal(err)
			}
		}, "the path exists and is not a socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			c.setup(t, path)
			l, err := listenOwn(path)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				_ = l.Close()
				return
			}
			if want := "listen on " + path + ": " + c.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("it was removed: %v", err)
			}
		})
	}
}

func TestATooLongSocketPathIsAnErrorThatSaysSo(t *testing.T) {
	dir := t.TempDir()
	longest := filepath.Join(dir, strings.Repeat("s", maxSocketPath-len(dir)-1))
	l, err := listenOwn(longest)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	const want = ": the path has 108 bytes, and that of a socket can have 107"
	if _, err := listenOwn(longest + "s"); errkind.Of(err) != errkind.Invalid || err.Error() != "listen on "+longest+"s"+want || errkind.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
}

func unixSocket(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// stale leaves a socket file that nobody listens on.
func stale(t *testing.T, path string) {
	t.Helper()
	l := unixSocket(t, path)
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSystemdMustPassTridentsOwnSocket(t *testing.T) {
	dir := t.TempDir()
	n := 0
	unixOne := func(name string) systemd.NamedListener {
		n++
		return systemd.NamedListener{Name: name, Listener: unixSocket(t, fmt.Sprintf("%s/%d", dir, n))}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		passed []systemd.NamedListener
		want   string
	}{
		{"ours", []systemd.NamedListener{unixOne("tridentd.socket")}, ""},
		{"without a name", []systemd.NamedListener{unixOne("unknown")}, ""},
		{"another's", []systemd.NamedListener{unixOne("docker.socket")}, `its name is "docker.socket", not tridentd.socket`},
		{"two", []systemd.NamedListener{unixOne("tridentd.socket"), unixOne("tridentd.socket")}, "systemd passed 2 sockets, not 1"},
		{"tcp", []systemd.NamedListener{{Name: "tridentd.socket", Listener: tcp}}, "it is a tcp socket, not a unix socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := checkInherited(c.passed)
			if c.want == "" {
				if err != nil || l != c.passed[0].Listener {
					t.Errorf("got %v, %v", l, err)
				}
				_ = l.Close()
				return
			}
			if want := "use the socket that systemd passed: " + c.want; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if _, err := c.passed[0].Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("it is still open: %v", err)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	ctx := t.Context()
	logger := slog.New(slog.DiscardHandler)
	store := func(kind, step string, phase operation.Phase) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			s, err := hoststate.Open(ctx, path)
			if err != nil {
				t.Fatal(err)
			}
			op := operation.Operation{ID: "1", Kind: kind, Phase: phase, Plan: []string{step}, Step: step, State: []byte("{}")}
			if err := errors.Join(s.Save(ctx, op), s.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name  string
		setup func(t *testing.T, path string)
		want  string // in the error; empty: it passes
	}{
		{"an empty datastore", func(*testing.T, string) {}, ""},
		{"an upgrade under way", store("self-upgrade", "activate", operation.Doing), ""},
		{"an update of the host under way, which brings this version", store("runtime-update", "self probe", operation.Doing), ""},
		{"a step of another version", store("self-upgrade", "dance", operation.Undoing), `it does not know step "dance" of "self-upgrade"`},
		{"an operation of another version", store("dance", "fetch", operation.Doing), `it does not know step "fetch" of "dance"`},
		{"an operation of another version that has ended", store("dance", "fetch", operation.Done), ""},
		{"no database", func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("rubbish "), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "file is not a database"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "datastore.sqlite")
			c.setup(t, path)
			var out bytes.Buffer
			err := Probe(ctx, Config{Root: "/", Version: "1.2.3", Logger: logger}, path, &out)
			switch {
			case c.want == "" && (err != nil || out.String() != `{"version":"1.2.3","ok":true}`+"\n"):
				t.Errorf("got %q, %v", out.String(), err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || out.Len() != 0):
				t.Errorf("got %q, %v; want %s", out.String(), err, c.want)
			}
		})
	}
}

// The store is below the root folder, which may be deeper than the path of a socket.
func TestAProbeAnswersInAFolderOfAnyDepth(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", maxSocketPath))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Probe(t.Context(), Config{Root: "/", Version: "1.2.3", Logger: slog.New(slog.DiscardHandler)}, filepath.Join(dir, "datastore.sqlite"), &out)
	if err != nil || !strings.Contains(out.String(), `"ok":true`) {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "datastore.sqlite.sock")); err == nil {
		t.Error("the socket is left behind")
	}
}

func TestOnARealHostNobodyButRootMayCall(t *testing.T) {
	if got := alsoUID("/"); got != 0 {
		t.Errorf("also %d", got)
	}
	if got := alsoUID("/tmp/x"); got != uint32(os.Geteuid()) {
		t.Errorf("in a test also %d", got)
	}
}

func TestTheBootIsKnownAndTheProcessIsNew(t *testing.T) {
	a, err := currentLife()
	if err != nil {
		t.Fatal(err)
	}
	b, err := currentLife()
	if err != nil || a.Boot == "" || a.Boot != b.Boot || a.Process == b.Process {
		t.Errorf("%+v and %+v, %v", a, b, err)
	}
}

func TestAHostWithoutSystemdIsKnown(t *testing.T) {
	dir := t.TempDir()
	if err := withoutSystemd("/", dir); err != nil {
		t.Errorf("a host with systemd: %v", err)
	}
	gone := filepath.Join(dir, "none")
	if err := withoutSystemd("/", gone); errkind.Of(err) != errkind.Unsupported || errkind.Hint(err) == "" {
		t.Errorf("a host without systemd: %v", err)
	}
	if err := withoutSystemd(dir, gone); err != nil {
		t.Errorf("a folder: %v", err)
	}
}
