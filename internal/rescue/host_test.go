package rescue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

type versions struct {
	tridentv1.UnimplementedVersionServiceServer
	version string
	err     error
}

func (v versions) Version(context.Context, *tridentv1.VersionRequest) (*tridentv1.VersionResponse, error) {
	return &tridentv1.VersionResponse{Version: v.version}, v.err
}

// serveVersion is a real gRPC server on the socket below a root folder.
func serveVersion(t *testing.T, v versions) string {
	t.Helper()
	root, err := os.MkdirTemp("", "r") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	path := filepath.Join(root, Socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	tridentv1.RegisterVersionServiceServer(s, v)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return root
}

func TestTheVersionIsAskedByHandAsAnyClientWould(t *testing.T) {
	for _, want := range []string{"2.0.0", "1.0.0-rc.1+" + strings.Repeat("x", 50)} {
		h := SystemHost{Root: serveVersion(t, versions{version: want})}
		for range 2 {
			if got, err := h.Version(t.Context()); got != want || err != nil {
				t.Errorf("version %q, %v; want %q", got, err, want)
			}
		}
	}
}

func TestAnInvalidAnswerIsAnError(t *testing.T) {
	for name, v := range map[string]versions{
		"an error":  {err: status.Error(codes.Unavailable, "not now")},
		"no answer": {version: ""},
		"too long":  {version: strings.Repeat("1", 4000)},
	} {
		if got, err := (SystemHost{Root: serveVersion(t, v)}).Version(t.Context()); err == nil {
			t.Errorf("%s: version %q", name, got)
		}
	}
	if got, err := (SystemHost{Root: t.TempDir()}).Version(t.Context()); err == nil {
		t.Errorf("no socket: version %q", got)
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x07\x0a\x052.0.0"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseVersion(b)
		if err == nil && len(v) > 127 {
			t.Errorf("version of %d bytes", len(v))
		}
	})
}

func TestTheUnitsStateIsReadFromSystemctlsWords(t *testing.T) {
	u, err := parseUnit("ActiveState=activating\nNRestarts=4\nMainPID=17\n")
	if err != nil || u != (Unit{Active: "activating", Restarts: 4, PID: 17}) {
		t.Errorf("%+v, %v", u, err)
	}
	for _, text := range []string{"", "NRestarts=1\n", "ActiveState=active\nNRestarts=many\n"} {
		if u, err := parseUnit(text); err == nil {
			t.Errorf("%q: %+v", text, u)
		}
	}
}

func TestRepointChangesOrRemovesTheLink(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, filepath.Dir(Link)), 0o755); err != nil {
		t.Fatal(err)
	}
	h := SystemHost{Root: root}
	for _, want := range []string{"../trident/self/1.0.0.raw", "../trident/self/2.0.0.raw"} {
		if err := h.SetLink(want); err != nil {
			t.Fatal(err)
		}
		if _, got, err := LinkedVersion(root); got != want || err != nil {
			t.Errorf("link to %q, %v", got, err)
		}
	}
	if err := errors.Join(h.SetLink(""), h.SetLink("")); err != nil {
		t.Error(err)
	}
	if _, got, err := LinkedVersion(root); got != "" || err != nil {
		t.Errorf("link to %q, %v", got, err)
	}
}

func TestNewestDropsAnExtensionThatIsNotNewerThanTheBase(t *testing.T) {
	for _, c := range []struct {
		base, link string
		stays      bool
		says       string
	}{
		{"1.0.0", "", false, "no extension"},
		{"1.0.0", "../trident/self/2.0.0.raw", true, "stays: the base is 1.0.0"},
		{"2.0.0", "../trident/self/2.0.0.raw", false, "no longer linked"},
		{"3.0.0", "../trident/self/2.0.0.raw", false, "no longer linked"},
		{"2.0.0", "../trident/self/2.0.0-rc.1.raw", false, "no longer linked"},
		{"", "../trident/self/2.0.0.raw", true, "there is no base"},
		{"3.0.0", "/opt/mine.raw", true, "not an image in the store"},
	} {
		root := t.TempDir()
		h := SystemHost{Root: root}
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(Link)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := h.SetLink(c.link); err != nil {
			t.Fatal(err)
		}
		if c.base != "" {
			if err := os.MkdirAll(filepath.Join(root, filepath.Dir(Base)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, Base), []byte(`{"version":"`+c.base+`"}`), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		said, err := RemoveOutdatedLink(root)
		if err != nil || !strings.Contains(said, c.says) {
			t.Errorf("base %q, link %q: said %q, %v", c.base, c.link, said, err)
		}
		if _, link, _ := LinkedVersion(root); (link != "") != c.stays {
			t.Errorf("base %q, link %q: link is %q now", c.base, c.link, link)
		}
	}
}

func TestABaseThatSaysNoVersionIsAnErrorAndNothingIsDropped(t *testing.T) {
	for _, text := range []string{"", "{}", `{"version":"new"}`, `{"version":`} {
		root := t.TempDir()
		for _, dir := range []string{filepath.Dir(Link), filepath.Dir(Base)} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(SystemHost{Root: root}.SetLink("../trident/self/2.0.0.raw"), os.WriteFile(filepath.Join(root, Base), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		if said, err := RemoveOutdatedLink(root); err == nil {
			t.Errorf("%q: said %q", text, said)
		}
		if v, _, _ := LinkedVersion(root); v != "2.0.0" {
			t.Errorf("%q: the link is gone", text)
		}
	}
}

func TestAFileInThePlaceOfTheLinkIsAnErrorAndStays(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a file":   func(path string) error { return os.WriteFile(path, []byte("noise"), 0o600) },
		"a folder": func(path string) error { return os.MkdirAll(filepath.Join(path, "sub"), 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range []string{filepath.Dir(Link), filepath.Dir(Base)} {
				if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(root, Link)
			if err := errors.Join(make(path), os.WriteFile(filepath.Join(root, Base), []byte(`{"version":"1.0.0"}`), 0o644)); err != nil {
				t.Fatal(err)
			}
			if said, err := RemoveOutdatedLink(root); err == nil || !strings.Contains(err.Error(), path+" is not a link: remove it") {
				t.Errorf("said %q, %v", said, err)
			}
			if _, err := os.Lstat(path); err != nil {
				t.Error(err)
			}
			// Who goes back has to be able to.
			if err := (SystemHost{Root: root}).SetLink("../trident/self/1.5.0.raw"); err != nil {
				t.Error(err)
			}
			if v, _, err := LinkedVersion(root); v != "1.5.0" || err != nil {
				t.Errorf("version %q, %v", v, err)
			}
		})
	}
}

func TestASocketThatIsGoneIsToldFromOneThatDoesNotAnswer(t *testing.T) {
	root := serveVersion(t, versions{version: "2.0.0"})
	if IsSocketDown(root) {
		t.Error("gone")
	}
	path := filepath.Join(root, Socket)
	for name, c := range map[string]struct {
		make func() error
		gone bool
	}{
		"removed":           {func() error { return nil }, true},
		"a file":            {func() error { return os.WriteFile(path, nil, 0o600) }, true},
		"a folder":          {func() error { return os.Mkdir(path, 0o700) }, true},
		"a link to nowhere": {func() error { return os.Symlink("nowhere", path) }, true},
		"one that nobody listens on": {func() error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, true},
		"one that does not answer": {func() error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := errors.Join(os.RemoveAll(path), c.make()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := SystemHost{Root: root}.Version(ctx)
			if errors.Is(err, ErrNoSocket) != c.gone || err == nil || IsSocketDown(root) != c.gone {
				t.Errorf("gone %v, %v; want %v", IsSocketDown(root), err, c.gone)
			}
		})
	}
}

func TestHowProcessesEndedIsReadFromTheJournal(t *testing.T) {
	exits, err := parseExits(`{"EXIT_STATUS":"9","EXIT_CODE":"killed","INVOCATION_ID":"a","_BOOT_ID":"x"}
{"EXIT_STATUS":"KILL","EXIT_CODE":"killed","INVOCATION_ID":"b"}
{"EXIT_STATUS":"6","EXIT_CODE":"dumped","INVOCATION_ID":"c"}
{"EXIT_STATUS":"9","EXIT_CODE":"exited","INVOCATION_ID":"d"}
`)
	want := []Exit{{"a", true}, {"b", true}, {"c", false}, {"d", false}}
	if err != nil || !slices.Equal(exits, want) {
		t.Errorf("%+v, %v", exits, err)
	}
	if exits, err := parseExits("noise\n{\"EXIT_STATUS\":\"1\",\"EXIT_CODE\":\"exited\",\"INVOCATION_ID\":\"e\"}\n"); err == nil || len(exits) != 1 {
		t.Errorf("%+v, %v", exits, err)
	}
}

// fakeSystemctl stands in for the tool: it writes down what it is asked for and
// says that the service is in a state.
func fakeSystemctl(t *testing.T, state string) (calls func() string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s/asked\necho ActiveState=%s\n", dir, state)
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		text, err := os.ReadFile(filepath.Join(dir, "asked"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

func TestADaemonThatDoesNotStopIsKilled(t *testing.T) {
	for state, killed := range map[string]bool{"deactivating": true, "active": false, "activating": false} {
		t.Run(state, func(t *testing.T) {
			asked := fakeSystemctl(t, state)
			if err := (SystemHost{Root: "/", Out: io.Discard}).killIfStopHangs(t.Context(), 10*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(asked(), "kill --signal=SIGKILL tridentd.service"); got != killed {
				t.Errorf("killed: %v, asked for\n%s", got, asked())
			}
		})
	}
}

func TestALineOfTheLogStaysALineWhateverIsInIt(t *testing.T) {
	var out strings.Builder
	SystemHost{Out: &out}.Logf("%s is put aside", "a\nkept 2.0.0\r\x1b[2J")
	if want := "a kept 2.0.0??[2J is put aside\n"; out.String() != want {
		t.Errorf("it says %q, want %q", out.String(), want)
	}
}
