package cli

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/proto/client"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

func TestUpstreamsFlagsTakeSeveralValuesOrNone(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"update --allowed-operations stage finalize":        "update --allowed-operations=stage,finalize",
		"update --allowed-operations stage,finalize x":      "update --allowed-operations=stage,finalize x",
		"update x --allowed-operations":                     "update x --allowed-operations=",
		"update --allowed-operations -s f":                  "update --allowed-operations= -s f",
		"update --allowed-operations x.yaml":                "update --allowed-operations=x.yaml",
		"update --allowed-operations=stage finalize":        "update --allowed-operations=stage finalize",
		"offline-initialize --lazy-partitions a:1 b:2 x":    "offline-initialize --lazy-partitions=a:1,b:2 x",
		"offline-initialize --lazy-partitions --disk /d":    "offline-initialize --lazy-partitions= --disk /d",
		"update -- --allowed-operations stage finalize":     "update -- --allowed-operations stage finalize",
		"rollback --allowed-operations stage -v trace":      "rollback --allowed-operations=stage -v trace",
		"rollback --allowed-operations finalize stage --ab": "rollback --allowed-operations=finalize,stage --ab",
	} {
		if got := withValues(strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s: %q, want %s", in, got, want)
		}
	}
}

// Upstream's commands fail for a caller who is not root; ours cannot even ask then.
func TestACallerWhoIsNotRootGetsUpstreamsExitCode(t *testing.T) {
	t.Parallel()
	c, err := client.Dial("unix:///x", client.WithDialer(func(context.Context) (net.Conn, error) { return nil, fs.ErrPermission }))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Version(t.Context())
	err = fmt.Errorf("get status: %w", err)
	if code := exitCode(command.AsUpstream(err)); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if text := command.AsUpstream(err).Error(); !strings.Contains(text, "missing root privileges") || client.Hint(command.AsUpstream(err)) == "" {
		t.Errorf("%s", text)
	}
	if code := exitCode(err); code != exitSetup {
		t.Errorf("exit code of a command of ours: %d", code)
	}
}

// A daemon of upstream's has none of our services, and answers calls of them with a
// code and no text.
func TestUpstreamsDaemonIsDistinguishedFromAFailingDaemon(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]grpc.ServerOption{
		"no text": {grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.Unimplemented, "") })},
		"a text":  nil,
	} {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		g := grpc.NewServer(options...)
		tridentv1.RegisterVersionServiceServer(g, &servicingDaemon{})
		go func() { _ = g.Serve(l) }()
		t.Cleanup(g.Stop)
		for args, lacks := range map[string]string{
			"get status":       "GetHost of trident.host.v1.HostService",
			"rollback --check": "GetHost of trident.host.v1.HostService",
			"self status":      "GetStatus of trident.self.v1.SelfService",
			"operation list":   "List of trident.operations.v1.OperationsService",
			"commit":           "Commit of trident.v1.CommitService",
		} {
			a, _, stderr := commandtest.New()
			code := execute(t.Context(), a, append(strings.Fields(args), "--socket", socket))
			if code != exitFailed || !bytes.Contains(stderr.Bytes(), []byte("the daemon does not have "+lacks)) {
				t.Errorf("%s: %s: exit code %d:\n%s", name, args, code, stderr)
			}
		}
	}
}

func TestRollbackCheckFailsForAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	a, stdout, stderr := commandtest.New()
	code := execute(t.Context(), a, []string{"rollback", "--check", "--socket", (&servicingDaemon{unsound: true}).serve(t)})
	if code != exitFailed || stdout.Len() > 0 || !strings.Contains(stderr.String(), "parse host status in row 7") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// Upstream's tests ask systemd for units by name, and read from their states how the
// command ended.
func TestUpstreamsUnitsAreThereAndRunUpstreamsCommands(t *testing.T) {
	t.Parallel()
	for unit, has := range map[string][]string{
		"trident.service":         {"Type=oneshot", "ExecStart=/usr/bin/trident commit", "WantedBy=multi-user.target"},
		"trident-install.service": {"Type=oneshot", "ExecStart=/usr/bin/trident install"},
		"trident-network.service": {"ExecStart=/usr/bin/trident start-network"},
		"tridentd.service":        nil,
		"tridentd.socket":         {"ListenStream=/run/trident/trident.sock"},
	} {
		text, err := os.ReadFile(filepath.Join("../../systemd", unit))
		if err != nil {
			t.Error(err)
		}
		lines := strings.Split(string(text), "\n")
		for _, want := range has {
			if !slices.Contains(lines, want) {
				t.Errorf("%s has no line %s", unit, want)
			}
		}
	}
}
