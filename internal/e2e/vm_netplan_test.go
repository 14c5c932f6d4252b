//go:build vm

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/e2e/lab"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	v1preview "github.com/trident-project/trident/proto/trident/v1preview"
)

// network returns a Host Configuration with a network device of its own, followed by more.
// The configuration leaves the device of the lab alone.
func network(addresses, more string) string {
	return fmt.Sprintf("os:\n netplan:\n  version: 2\n  renderer: networkd\n  dummy-devices:\n   dm0: {addresses: [%s]}\n%s", addresses, more)
}

// addresses are those of the device, and of the lab's.
func (g *guest) addresses() string {
	g.t.Helper()
	return g.sh(`for d in dm0 eth0; do ip -o address show dev $d scope global 2>/dev/null | sed 's/.* inet6\? \([^ ]*\) .*/\1/' | sort; done`)
}

// networkFiles are the files that netplan reads, and those that it has made of them.
func (g *guest) networkFiles() string {
	g.t.Helper()
	return g.sh("find /etc/netplan /run/systemd/network -type f -exec stat --format '%A %U:%G' {} + -exec sha256sum {} +")
}

func TestANetworkIsConfiguredChangedAndRolledBackAtRunTime(t *testing.T) {
	t.Parallel()
	g := startOn(t, lab.Networked())
	c := g.upstreamClient()
	const (
		runtime = tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE
		own     = "10.0.2.15/24" // the lab's init has set it up
	)
	has := func(addresses ...string) {
		t.Helper()
		if diff := cmp.Diff(strings.Join(append(addresses, own), "\n"), g.addresses()); diff != "" {
			t.Errorf("addresses (-want +got)\n%s", diff)
		}
		state, err := v1preview.NewStatusServiceClient(c.conn).GetServicingState(c.ctx(), &v1preview.GetServicingStateRequest{})
		if err != nil || state.GetState() != v1preview.ServicingState_PROVISIONED {
			t.Errorf("the state is %v, %v", state.GetState(), err)
		}
	}
	if diff := cmp.Diff(own, g.addresses()); diff != "" {
		t.Fatal(diff)
	}

	// The rollback of the first network leaves nothing.
	const unhealthy = "health:\n checks:\n  - {name: no, runOn: [all], content: \"ip address show dev dm0 | grep 192.0.2.3 && exit 3\"}\n"
	first := c.update(network("192.0.2.3/24", unhealthy))
	if first.GetError().GetKind() != tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR || !strings.Contains(first.GetError().GetMessage(), "exit status 3") {
		t.Errorf("completed: %v", first)
	}
	if got := g.sh("ls /etc/netplan /run/systemd/network /sys/class/net"); strings.Contains(got, "trident") || strings.Contains(got, "dm0") {
		t.Errorf("this is left: %s", got)
	}

	c.checkSucceeded(c.update(network("192.0.2.1/24", "")), runtime)
	has("192.0.2.1/24")
	c.checkSucceeded(c.update(network(`192.0.2.2/24, "2001:db8::2/64"`, "")), runtime)
	has("192.0.2.2/24", "2001:db8::2/64")

	before := g.networkFiles()
	for name, bad := range map[string]struct {
		config, why string
		kind        tridentv1.TridentErrorKind
	}{
		"what netplan does not understand": {
			network("192.0.2.300/24", ""), "192.0.2.300/24", tridentv1.TridentErrorKind_SERVICING_ERROR,
		},
		"what is not healthy": {
			network("192.0.2.3/24", unhealthy),
			"exit status 3", tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR,
		},
	} {
		got := c.update(bad.config)
		if got.Status != tridentv1.StatusCode_STATUS_CODE_FAILURE || got.GetError().GetKind() != bad.kind || !strings.Contains(got.GetError().GetMessage(), bad.why) {
			t.Errorf("%s: completed: %v", name, got)
		}
		has("192.0.2.2/24", "2001:db8::2/64")
		if diff := cmp.Diff(before, g.networkFiles()); diff != "" {
			t.Errorf("%s: files have changed (-before +after)\n%s", name, diff)
		}
	}

	c.checkSucceeded(c.rollback(), tridentv1.ServicingKind_SERVICING_KIND_MANUAL_ROLLBACK_RUNTIME)
	has("192.0.2.1/24")
	g.reboot()
	g.sh("/usr/lib/systemd/systemd-networkd-wait-online --interface dm0:routable --timeout 120") // which no unit here waits for
	has("192.0.2.1/24")

	c.checkSucceeded(c.update("os: {}\n"), runtime)
	has()
	if got := g.sh("ls /etc/netplan /sys/class/net"); strings.Contains(got, "trident") || strings.Contains(got, "dm0") {
		t.Errorf("this is left: %s", got)
	}
}
