package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// good is an update that goes well, over a restart of the daemon.
func good() clienttest.Config {
	return clienttest.Config{Script: []*operationsv1.Event{
		clienttest.Step(0, "stage", nil), clienttest.Restart("wait"), clienttest.Step(operationsv1.Phase_PHASE_DONE, "record", nil),
	}}
}

// ill is one that does not.
func ill() clienttest.Config {
	failure := &operationsv1.Failure{Reason: "UNHEALTHY", Message: "check: gadget.service died"}
	return clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_UNDONE, "check", failure)}}
}

func roll(t *testing.T, hosts map[string]clienttest.Config, names ...string) (out string, servers map[string]*clienttest.Server, err error) {
	t.Helper()
	servers = map[string]*clienttest.Server{}
	for name, config := range hosts {
		config.HostID = name
		servers[name] = clienttest.New(config)
		t.Cleanup(servers[name].Close)
	}
	yaml := filepath.Join(t.TempDir(), "host.yaml")
	if err := os.WriteFile(yaml, []byte("os: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, target string) (net.Conn, error) {
		if servers[target] == nil {
			return nil, os.ErrPermission
		}
		return servers[target].Dial(ctx)
	}
	var text bytes.Buffer
	err = run(t.Context(), append([]string{yaml}, names...), &text, client.WithTargetDialer(dial))
	return text.String(), servers, err
}

func TestAConfigurationReachesEveryHost(t *testing.T) {
	out, servers, err := roll(t, map[string]clienttest.Config{"a": good(), "b": good(), "c": good()}, "a", "b", "c")
	want := "stage a: done\nstage b: done\nstage c: done\nfinalize a: done\nfinalize b: done\nfinalize c: done\n"
	if diff := cmp.Diff(want, out); diff != "" || err != nil {
		t.Errorf("error %v, -want +got:\n%s", err, diff)
	}
	for name, s := range servers {
		if diff := cmp.Diff([]string{"os: {}\n"}, s.Configs()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheRolloutStopsAtTheFirstRoundThatFails(t *testing.T) {
	out, _, err := roll(t, map[string]clienttest.Config{"a": good(), "b": ill()}, "a", "b", "c")
	want := "stage a: done\nstage b: it went back by itself: UNHEALTHY\nstage c: refused: DENIED\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	host, ok := errors.AsType[*client.HostError](err)
	if !ok || host.Host != "b" || !strings.Contains(err.Error(), "gadget.service died") {
		t.Errorf("error %v", err)
	}
}
