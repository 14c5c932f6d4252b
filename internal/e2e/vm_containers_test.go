//go:build vm

package e2e

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/product"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/wire"
)

// containerFixture has the container images, and what else the guest installs.
func containerFixture(t *testing.T) *fixture {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "share")
	maker, err := product.New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{dir: dir, maker: maker}
	if f.trident, err = maker.Daemon(t.Context(), "./cmd/trident", "9.0.0-test"); err != nil {
		t.Fatal(err)
	}
	const script = `set -e
make --no-print-directory containers VERSION=1.0.0 ARCHES=amd64 >&2
cp dist/containers/1.0.0/*.tar systemd/tridentd.socket systemd/tridentd-resume.path docs/examples/container/tridentd.container "$1"
cp "$(packaging/keys | head -n 1)" "$1/trident.crt"`
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script, "bash", dir)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make the images: %v\n%s", err, out)
	}
	return f
}

// upstreamsRun is the command with which upstream runs its container.
const upstreamsRun = `podman run --name trident_container --pull=never --rm --privileged \
 -v /etc/trident:/etc/trident -v /etc/pki:/etc/pki:ro -v /var/lib/trident:/var/lib/trident -v /var/log:/var/log \
 -v /:/host -v /dev:/dev -v /run:/run -v /sys:/sys --pid host --ipc host localhost/trident:1.0.0 `

// said runs a command in the guest and returns its output, with its exit code in the last line.
func (g *guest) said(command string) string {
	g.t.Helper()
	return g.sh("{ " + command + "\n} 2>&1; echo code $?")
}

// The two containers service the host that runs them: one as a service that a socket starts,
// one as a command.
func TestContainersServiceTheirHost(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	f := containerFixture(t)
	lap("images")
	b, err := lab.Image(t.Context(), lab.Podman())
	if err != nil {
		t.Fatal(err)
	}
	vm, err := lab.Boot(t.Context(), b, lab.Options{Share: f.dir})
	if err != nil {
		t.Fatal(err)
	}
	g := drive(t, f, vm)
	g.booted()
	lap("booted")
	for _, image := range []string{"trident-daemon", "trident"} { // one after the other: each takes a while
		g.sh("podman load --quiet --input /share/" + image + "_1.0.0_amd64.tar")
	}
	g.sh(`set -e
# Without nftables, podman cannot make networks of containers.
mkdir -p /etc/containers/containers.conf.d
printf '[containers]\nnetns = "host"\n' >/etc/containers/containers.conf.d/network.conf
mkdir -p /etc/containers/systemd /etc/verity.d /etc/trident /etc/pki /var/lib/trident
cp /share/trident.crt /etc/verity.d
cp /share/tridentd.container /etc/containers/systemd
cp /share/tridentd.socket /share/tridentd-resume.path /etc/systemd/system
systemctl daemon-reload
systemctl start tridentd.socket tridentd-resume.path`)
	lap("loaded")
	if out := g.sh("podman images --format '{{.Repository}}:{{.Tag}}' | sort"); out != "localhost/trident-daemon:1.0.0\nlocalhost/trident:1.0.0" {
		t.Errorf("images: %s", out)
	}
	g.servedByAContainer(lap)
	g.commandInAContainer(lap)
	g.refusedContainers()
	lap("refused")
}

// servedByAContainer updates the host through the socket that starts the container.
func (g *guest) servedByAContainer(lap func(string)) {
	g.t.Helper()
	if out, errs, code := g.trident("update", g.file(hostConfig([]extensionOf{g.tool("one")}, nil, ""))); code != 0 {
		g.t.Fatalf("update: %d: %s%s\n%s", code, out, errs, g.sh("journalctl --no-pager -u tridentd.service | tail -n 50"))
	}
	lap("updated by the service")
	if got := g.sh("tool; cat /usr/.systemd-sysext/extensions; podman ps --format '{{.Names}}'"); got != "one\ntool\ntridentd" {
		g.t.Errorf("after the update: %s", got)
	}
	server, err := g.api.Server(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	for _, name := range wire.SelfServicing() {
		if slices.Contains(server.GetCapabilities(), name) {
			g.t.Errorf("a container has the capability %s", name)
		}
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	_, err = g.api.Upgrade(ctx, client.Source{Path: "/share/none.raw"}, trial(time.Second), nil)
	if client.Kind(err) != client.KindUnsupported || !strings.Contains(err.Error(), "runs in a container") || !strings.Contains(client.Hint(err), "pull a new image") {
		g.t.Errorf("an upgrade of Trident: %v; %s", err, client.Hint(err))
	}
	g.sh("systemctl stop tridentd.service")
	if out, errs, code := g.trident("rollback"); code != 0 {
		g.t.Errorf("rollback by the next container: %d: %s%s", code, out, errs)
	}
	if got := g.sh("command -v tool || echo none"); got != "none" {
		g.t.Errorf("after the rollback: %s", got)
	}
	lap("rolled back by the next container")
}

// commandInAContainer updates the host as upstream's container does.
func (g *guest) commandInAContainer(lap func(string)) {
	g.t.Helper()
	if got := g.said("podman run --rm --privileged -v /:/host localhost/trident:1.0.0 get"); !strings.Contains(got, "another tridentd runs") || !strings.HasSuffix(got, "code 1") {
		g.t.Errorf("beside the service: %s", got)
	}
	g.sh("systemctl stop tridentd-resume.path tridentd.socket tridentd.service") // the path unit would start the service for the operation of the command
	text := hostConfig([]extensionOf{g.tool("two")}, nil, "")
	if err := g.Put(g.t.Context(), "/etc/trident/hostconf.yaml", strings.NewReader(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if got := g.said(upstreamsRun + "update /etc/trident/hostconf.yaml --verbosity TRACE"); !strings.HasSuffix(got, "code 0") {
		g.t.Fatalf("update: %s", got)
	}
	if got := g.sh("tool"); got != "two" {
		g.t.Errorf("after the update: %s", got)
	}
	// podman removes a container after its command has returned.
	g.sh("timeout 60 sh -c 'while podman ps --all --noheading | grep .; do sleep 1; done'")
	lap("updated by the command")
}

// refusedContainers starts containers that cannot service the host.
func (g *guest) refusedContainers() {
	g.t.Helper()
	for command, want := range map[string]string{
		"podman run --rm localhost/trident:1.0.0 --help":                         "code 0",
		"podman run --rm localhost/trident:1.0.0 get":                            "does not see the host's root folder at /host",
		"podman run --rm -v /:/host localhost/trident:1.0.0 get":                 "--privileged",
		"podman run --rm --privileged -v /usr:/host localhost/trident:1.0.0 get": "/host is not the root folder of the host",
		"podman run --rm localhost/trident-daemon:1.0.0":                         "does not see the host's root folder at /host",
	} {
		got := g.said(command)
		if !strings.Contains(got, want) || want != "code 0" && (!strings.HasSuffix(got, "code 1") || strings.Count(got, "\n") > 2) {
			g.t.Errorf("%s: %s\nwant %s", command, got, want)
		}
	}
}
