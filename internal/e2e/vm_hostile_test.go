//go:build vm

package e2e

import (
	"strings"
	"testing"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	v1preview "github.com/trident-project/trident/proto/trident/v1preview"
)

// Health checks that start background processes, one of them in a session of its own.
const (
	forks = "  - name: forks\n    runOn: [runtime-update]\n    content: |\n      sleep 7777 &\n      setsid sleep 7777 &\n      exit 3\n"
	hangs = "  - name: hangs\n    runOn: [runtime-update]\n    content: |\n      setsid sleep 7777 &\n      touch /run/hangs\n      sleep 7777\n"
)

func TestWhatAConfigurationStartsEndsWithItAndWhatTheHostCannotDoIsSaid(t *testing.T) {
	t.Parallel()
	g := start(t)
	c := g.upstreamClient()
	c.checkSucceeded(c.update(hostConfig([]extensionOf{g.tool("one")}, nil, "")), tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE)
	two := g.tool("two")
	asItWas := func() {
		t.Helper()
		c.checkHost("one", "", v1preview.ServicingState_PROVISIONED)
		if got := g.sh("pgrep --full '[s]leep 7777' || true"); got != "" {
			t.Errorf("processes %s are left", got)
		}
	}
	failed := func(config string, kind tridentv1.TridentErrorKind, subkind, message string) {
		t.Helper()
		got := c.update(config)
		if got.Status != tridentv1.StatusCode_STATUS_CODE_FAILURE || got.GetError().GetKind() != kind || got.GetError().GetSubkind() != subkind ||
			!strings.Contains(got.GetError().GetMessage(), message) {
			t.Errorf("completed: %v", got)
		}
		asItWas()
	}
	failed(hostConfig([]extensionOf{two}, nil, forks), tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR, "health-checks-failed", "exit status 3")
	failed("os:\n netplan: {version: 2, ethernets: {eth0: {dhcp4: true}}}\n",
		tridentv1.TridentErrorKind_EXECUTION_ENVIRONMENT_MISCONFIGURATION_ERROR, "missing-binary", "netplan")

	op := c.begun(hostConfig([]extensionOf{two}, nil, hangs))
	g.sh("timeout 180 sh -c 'until test -e /run/hangs; do sleep 0.2; done'")
	if _, err := g.api.Cancel(c.ctx(), op); err != nil {
		t.Fatal(err)
	}
	ended, err := g.api.Watch(c.ctx(), op, 0, nil)
	if ended.GetPhase() != operationsv1.Phase_PHASE_UNDONE || ended.GetFailure().GetReason() != "CANCELLED" {
		t.Errorf("ended %v, %v", ended, err)
	}
	asItWas()
}
