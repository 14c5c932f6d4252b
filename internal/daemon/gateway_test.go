package daemon

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

// gatewayHost returns the root of a host with the user of the gateway, who is the user of this
// test, and with a policy.
func gatewayHost(t *testing.T) (root string) {
	t.Helper()
	root = shortDir(t)
	for name, text := range map[string]string{
		"etc/passwd": fmt.Sprintf("root:x:0:0::/:/bin/sh\n%s:x:%d:%d::/:/bin/false\n", gatewayUser, os.Geteuid(), os.Getegid()),
		"etc/trident/gateway.yaml": "rights:\n- {identity: \"dns:reader\", rights: [read]}\n- {identity: \"dns:operator\", rights: [operate]}\n" +
			"revoked: {identities: [\"dns:gone\"]}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// waitForSocket waits until the daemon has opened the socket for the gateway.
func waitForSocket(t *testing.T, root string) string {
	t.Helper()
	path := filepath.Join(root, gatewaySocket)
	for ctx := soon(t); ctx.Err() == nil; {
		if info, err := os.Lstat(path); err == nil && info.Mode().Perm() == 0o660 {
			return path
		}
	}
	t.Fatal("the daemon did not open the socket for the gateway")
	return ""
}

func TestTheGatewaysSocketIsForIdentitiesWithinThePolicy(t *testing.T) {
	root := gatewayHost(t)
	main, _ := start(t, testConfig(root))
	conn := dial(t, waitForSocket(t, root))
	version, self := tridentv1.NewVersionServiceClient(conn), selfv1.NewSelfServiceClient(conn)
	for _, tt := range []struct {
		who  []string
		code codes.Code
	}{
		{[]string{"dns:reader"}, codes.OK},
		{nil, codes.PermissionDenied},
		{[]string{"dns:reader", "dns:reader"}, codes.PermissionDenied},
		{[]string{"dns:nobody"}, codes.PermissionDenied},
		{[]string{"dns:gone"}, codes.PermissionDenied},
		{[]string{"root"}, codes.PermissionDenied},
		{[]string{""}, codes.PermissionDenied},
	} {
		ctx := soon(t)
		for _, w := range tt.who {
			ctx = metadata.AppendToOutgoingContext(ctx, wire.HeaderAskedBy, w)
		}
		if _, err := version.Version(ctx, &tridentv1.VersionRequest{}); status.Code(err) != tt.code {
			t.Errorf("%q: %v", tt.who, err)
		}
	}
	as := func(who string) metadata.MD { return metadata.Pairs(wire.HeaderAskedBy, who) }
	if _, err := self.Unblock(metadata.NewOutgoingContext(soon(t), as("dns:reader")), &selfv1.UnblockRequest{Version: "1.0.0"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a reader operates: %v", err)
	}
	if _, err := self.Unblock(metadata.NewOutgoingContext(soon(t), as("dns:operator")), &selfv1.UnblockRequest{Version: "1.0.0"}); status.Code(err) == codes.PermissionDenied {
		t.Errorf("an operator may not operate: %v", err)
	}
	// On the socket of root nobody names an identity.
	own := tridentv1.NewVersionServiceClient(dial(t, main))
	if _, err := own.Version(metadata.NewOutgoingContext(soon(t), as("dns:reader")), &tridentv1.VersionRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a caller pretends an identity: %v", err)
	}
	// A change of the policy counts at once.
	if err := os.WriteFile(filepath.Join(root, "etc/trident/gateway.yaml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := version.Version(metadata.NewOutgoingContext(soon(t), as("dns:reader")), &tridentv1.VersionRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the old policy counts: %v", err)
	}
}

func TestAnOperationRecordsWhoAskedForIt(t *testing.T) {
	root := gatewayHost(t)
	main, _ := start(t, testConfig(root))
	conn := dial(t, waitForSocket(t, root))
	ctx := metadata.AppendToOutgoingContext(soon(t), wire.HeaderAskedBy, "dns:operator")
	update, err := tridentv1.NewUpdateServiceClient(conn).UpdateStage(ctx, &tridentv1.StageUpdateRequest{
		Config: &tridentv1.HostConfiguration{Config: "os: {additionalFiles: [{destination: /etc/x, content: y}]}\n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = update.Recv()
	}
	all, err := operationsv1.NewOperationsServiceClient(dial(t, main)).List(soon(t), &operationsv1.ListRequest{})
	if err != nil || len(all.GetOperations()) == 0 {
		t.Fatalf("%v, %v", all, err)
	}
	if got := all.GetOperations()[0].GetAskedBy(); got != "dns:operator" {
		t.Errorf("asked by %q", got)
	}
}

func TestWithoutAGatewayThereIsNoSocketForOne(t *testing.T) {
	for name, prepare := range map[string]func(root string) error{
		"no policy": func(root string) error { return os.Remove(filepath.Join(root, "etc/trident/gateway.yaml")) },
		"no user": func(root string) error {
			return os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/:/bin/sh\n"), 0o644)
		},
		"no users": func(root string) error { return os.Remove(filepath.Join(root, "etc/passwd")) },
		"no ID": func(root string) error {
			return os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(gatewayUser+":x:me:0::/:\n"), 0o644)
		},
	} {
		root := gatewayHost(t)
		if err := prepare(root); err != nil {
			t.Fatal(err)
		}
		d, err := New(t.Context(), testConfig(root))
		if err != nil {
			t.Fatal(err)
		}
		if l, _ := d.gateway.open(d.listener); l != nil {
			t.Errorf("%s: there is a listener", name)
		}
		if _, err := os.Lstat(filepath.Join(root, gatewaySocket)); !strings.Contains(fmt.Sprint(err), fs.ErrNotExist.Error()) && err == nil {
			t.Errorf("%s: there is a socket", name)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRootIsNeverTheGateway(t *testing.T) {
	if _, _, ok, err := userOf("/", "root"); ok || err == nil {
		t.Errorf("%t, %v", ok, err)
	}
}

func TestTheSocketForTheGatewayEndsWithTheDaemon(t *testing.T) {
	root := gatewayHost(t)
	_, stop := start(t, testConfig(root))
	path := waitForSocket(t, root)
	stop()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left")
	}
}
