//go:build vm

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/product"
	"github.com/trident-project/trident/proto/client"
)

// apiSocket is the path of the socket of the API in a guest.
const apiSocket = "/run/trident/trident.sock"

// Versions of the fixture. The package has 1.0.0.
const (
	base  = "1.0.0"
	good  = "2.0.0"
	good2 = "2.1.0"
)

// faults are the bad versions by the name of their fault (package faulty).
var faults = map[string]string{"exits": "3.0.1", "hangs": "3.0.2", "lies": "3.0.3", "crashes": "3.0.4", "datastore": "3.0.5"}

// fixture is what all scenarios share: the products, and a saved guest with the package
// installed.
type fixture struct {
	dir       string // of products; also /share in the guests
	maker     *product.Maker
	trident   string // the command, built for this machine
	installed *lab.Snapshot
	work      string
}

// shared makes the fixture once.
var shared = sync.OnceValues(func() (*fixture, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	work, err := workFolder()
	if err != nil {
		return nil, err
	}
	f := &fixture{dir: filepath.Join(work, "share"), work: work}
	if f.maker, err = product.New(ctx, f.dir); err != nil {
		return nil, err
	}
	return f, errors.Join(f.makeProducts(ctx), f.install(ctx))
})

// workFolder is the folder of everything that tests share. TestMain removes it.
var workFolder = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "trident-e2e-") })

func TestMain(m *testing.M) {
	code := m.Run()
	if work, err := workFolder(); err != nil || os.RemoveAll(work) != nil {
		code = max(code, 1)
	}
	os.Exit(code)
}

func (f *fixture) makeProducts(ctx context.Context) error {
	var errs []error
	add := func(_ string, err error) { errs = append(errs, err) }
	add(f.maker.Stub())
	for _, v := range []string{base, "1.5.0", "4.0.0"} {
		add(f.maker.RPM(ctx, v))
		if v != "4.0.0" {
			add(f.maker.Gateway(ctx, v))
		}
	}
	add(f.maker.Image(ctx, good))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	add(f.maker.Good(ctx, good2))
	for fault, version := range faults {
		add(f.maker.Faulty(ctx, version, fault))
	}
	var err error
	f.trident, err = f.maker.Daemon(ctx, "./cmd/trident", "9.0.0-test")
	return errors.Join(append(errs, err)...)
}

// installScript installs the package as an administrator does.
const installScript = `set -e
		rpm --install /share/systemd-stub.rpm /share/trident-1.0.0-1.x86_64.rpm
		systemctl start tridentd.socket tridentd-resume.path trident-update.timer
		systemctl enable systemd-sysext.service
		mkdir -p /var/lib/extensions`

// install boots a guest, installs the package by rpm and saves the guest.
func (f *fixture) install(ctx context.Context) error {
	b, err := lab.Image(ctx, lab.Trixie())
	if err != nil {
		return err
	}
	vm, err := lab.Boot(ctx, b, lab.Options{Share: f.dir})
	if err != nil {
		return err
	}
	defer vm.Close()
	if err := vm.WaitBoot(ctx); err != nil {
		return err
	}
	out, err := vm.Run(ctx, installScript, nil)
	if err != nil {
		return errors.Join(err, errors.New(out), errors.New(vm.Evidence(ctx)))
	}
	f.installed, err = vm.Save(ctx, filepath.Join(f.work, "installed"))
	return err
}

// A guest is a host with Trident that a test drives from outside.
type guest struct {
	*lab.VM
	t   *testing.T
	api *client.Client
	// socket is the guest's API on this machine.
	socket string
	f      *fixture
}

// start loads the installed guest.
func start(t *testing.T) *guest {
	t.Helper()
	f, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	vm, err := lab.Load(t.Context(), f.installed)
	if err != nil {
		t.Fatal(err)
	}
	return drive(t, f, vm)
}

func drive(t *testing.T, f *fixture, vm *lab.VM) *guest {
	t.Helper()
	began := time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(vm.Evidence(context.Background()))
		}
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("took %.1f s", time.Since(began).Seconds())
	})
	socket, err := vm.Forward(apiSocket)
	if err != nil {
		t.Fatal(err)
	}
	api, err := client.Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	return &guest{VM: vm, t: t, api: api, socket: socket, f: f}
}

// inSubtest returns the same guest for a subtest.
func (g *guest) inSubtest(t *testing.T) *guest {
	other := *g
	other.t = t
	return &other
}

// sh runs a command in the guest, which has to succeed, and returns its output.
func (g *guest) sh(command string) string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 4*time.Minute)
	defer cancel()
	out, err := g.Run(ctx, command, nil)
	if err != nil {
		g.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(out)
}

// trident runs the command on this machine against the guest.
func (g *guest) trident(args ...string) (stdout, stderr string, code int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.f.trident, append([]string{"--socket", g.socket}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// trial returns a short trial, so that scenarios end soon.
func trial(soak time.Duration) *client.Trial {
	return &client.Trial{
		Soak: durationpb.New(soak), Deadline: durationpb.New(90 * time.Second), AllowReadOnlyUsr: true,
	}
}

// upgrade upgrades to an image on the guest's own disk.
func (g *guest) upgrade(name string, soak time.Duration, fn func(*client.Event)) (*client.Operation, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Minute)
	defer cancel()
	return g.api.Upgrade(ctx, client.Source{Path: "/share/" + name}, trial(soak), fn)
}

// patientTrial returns a trial of a good version with a deadline for a busy machine.
func patientTrial() *client.Trial {
	t := trial(2 * time.Second)
	t.Deadline = durationpb.New(4 * time.Minute)
	return t
}

// mustUpgrade upgrades to a good version.
func (g *guest) mustUpgrade(name string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Minute)
	defer cancel()
	if _, err := g.api.Upgrade(ctx, client.Source{Path: "/share/" + name}, patientTrial(), nil); err != nil {
		g.t.Fatal(err)
	}
}

// checkVersion checks which version runs, in the API and in the merged extensions.
func (g *guest) checkVersion(version string) {
	g.t.Helper()
	st, err := g.api.Status(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	active, merged := version, "trident"
	if version == st.BaseVersion {
		active, merged = "", ""
	}
	if st.RunningVersion != version || st.ActiveVersion != active || st.Merged != (active != "") || st.Verity != (active != "") || st.Operation != nil {
		g.t.Errorf("status %v, want version %s", st, version)
	}
	if got := g.sh("grep -x trident /usr/.systemd-sysext/extensions 2>/dev/null || true"); got != merged {
		g.t.Errorf("merged %q, want %q", got, merged)
	}
	if got := g.sh("tridentd --version; findmnt -n -o SOURCE /usr || true"); !strings.Contains(got, version) {
		g.t.Errorf("/usr has %q, want %s", got, version)
	}
}
