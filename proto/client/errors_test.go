package client_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

func TestAnOperationThatFailedIsAnErrorWithKindAndHint(t *testing.T) {
	failure := &operationsv1.Failure{Reason: "UNTRUSTED", Message: "upgrade Trident: the image is not signed", Hint: "sign it"}
	s := clienttest.New(clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(undone, "verify", failure)}})
	op, err := dial(t, s).Upgrade(t.Context(), client.Source{URL: "http://x/y"}, nil, nil)
	failed, ok := errors.AsType[*client.OperationError](err)
	if !ok || failed.Operation != op || op.GetPhase() != undone {
		t.Fatalf("operation %v, error %v", op, err)
	}
	got := []string{err.Error(), string(client.Kind(err)), client.Hint(err)}
	want := []string{"upgrade Trident: the image is not signed", "UNTRUSTED", "sign it"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestAnOperationThatDoesNotSayWhyItFailedIsStillAnError(t *testing.T) {
	s := clienttest.New(clienttest.Config{Script: []*operationsv1.Event{clienttest.Step(undone, "verify", nil)}})
	_, err := dial(t, s).Rollback(t.Context(), nil, nil)
	if err == nil || client.Kind(err) != "INTERNAL" || !strings.Contains(err.Error(), "op-1") {
		t.Errorf("error %v of kind %s", err, client.Kind(err))
	}
}

func TestARefusedOperationIsNotBegunAgain(t *testing.T) {
	refusal := grpckind.Error(errkind.WithHint(errkind.Errorf(errkind.Busy, "upgrade Trident: operation op-7 is running"), "wait for it"), nil)
	s := clienttest.New(clienttest.Config{Refuse: refusal})
	c := dial(t, s)
	_, err := c.Activate(t.Context(), "2.0.0", nil, nil)
	if client.Kind(err) != "BUSY" || client.Hint(err) != "wait for it" || !client.Retriable(err) {
		t.Errorf("error %v, kind %s, hint %q", err, client.Kind(err), client.Hint(err))
	}
	if got, want := err.Error(), "upgrade Trident: operation op-7 is running"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestASocketThatNobodyServesIsAnErrorAtOnceThatSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "s")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	tests := map[string]struct {
		err  error // of the dialer; nil dials for real
		path string
		kind client.ErrorKind
		hint string
	}{
		"missing":   {path: filepath.Join(dir, "none.sock"), kind: "UNAVAILABLE", hint: "systemctl enable --now tridentd.socket"},
		"stale":     {path: stale, kind: "UNAVAILABLE", hint: "systemctl restart tridentd.socket"},
		"forbidden": {path: "/x", err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", os.ErrPermission)}, kind: "DENIED", hint: "as root"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var options []client.Option
			if tt.err != nil {
				options = append(options, client.WithDialer(func(context.Context) (net.Conn, error) { return nil, tt.err }))
			}
			c, err := client.Dial("unix://"+tt.path, options...)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, callErr := c.Version(ctx)
			_, streamErr := c.Rollback(ctx, nil, nil)
			_, watchErr := c.Watch(ctx, "x", 0, nil)
			for i, err := range []error{callErr, streamErr, watchErr} {
				connect, ok := errors.AsType[*client.ConnectError](err)
				if !ok || connect.Target != tt.path || client.Kind(err) != tt.kind || !strings.Contains(client.Hint(err), tt.hint) {
					t.Errorf("call %d: error %v, kind %s, hint %q", i, err, client.Kind(err), client.Hint(err))
				}
			}
		})
	}
}

func TestErrorsOfServicesWithoutAVerbHaveKindsToo(t *testing.T) {
	c := dial(t, clienttest.New(clienttest.Config{}))
	if _, err := healthpb.NewHealthClient(c.Conn()).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	err := c.Conn().Invoke(t.Context(), "/x.Y/Z", &emptypb.Empty{}, &emptypb.Empty{})
	if client.Kind(err) != "UNSUPPORTED" || status.Code(err) != codes.Unimplemented || strings.Contains(err.Error(), "rpc error") {
		t.Errorf("error %v, kind %s", err, client.Kind(err))
	}
}

func TestAnEmptyTargetIsRefused(t *testing.T) {
	if _, err := client.Dial("unix://"); err == nil {
		t.Error("no error")
	}
}

func TestATooLongSocketPathIsAnErrorThatSaysSo(t *testing.T) {
	path := "/" + strings.Repeat("s", 107)
	_, err := client.Dial(path)
	want := "connect to tridentd at " + path + ": the path has 108 bytes, and that of a socket can have 107"
	if client.Kind(err) != "INVALID" || err.Error() != want || client.Hint(err) == "" {
		t.Errorf("got %v (%s), want %s", err, client.Kind(err), want)
	}
}

func TestNoErrorHasNoKind(t *testing.T) {
	if client.Kind(nil) != "" || client.Hint(nil) != "" || client.Retriable(nil) {
		t.Errorf("kind %q, hint %q", client.Kind(nil), client.Hint(nil))
	}
}

// Upstream's daemon has fewer kinds of errors, and puts a hint in the line below the message.
func TestAFailureInUpstreamsFormHasAKindAndAHint(t *testing.T) {
	t.Parallel()
	for kind, want := range map[tridentv1.TridentErrorKind]client.ErrorKind{
		tridentv1.TridentErrorKind_EXECUTION_ENVIRONMENT_MISCONFIGURATION_ERROR: client.KindPrecondition,
		tridentv1.TridentErrorKind_INITIALIZATION_ERROR:                         client.KindPrecondition,
		tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR:                          client.KindUnhealthy,
		tridentv1.TridentErrorKind_INVALID_INPUT_ERROR:                          client.KindInvalid,
		tridentv1.TridentErrorKind_UNSUPPORTED_CONFIGURATION_ERROR:              client.KindUnsupported,
		tridentv1.TridentErrorKind_SERVICING_ERROR:                              client.KindInternal,
	} {
		err := &client.OperationError{Trident: &tridentv1.TridentError{Kind: kind, ErrorMessage: "it failed", Message: "it failed\nTry again."}}
		if client.Kind(err) != want || client.Hint(err) != "Try again." || err.Error() != "it failed" {
			t.Errorf("%s: %q, hint %q, kind %s", kind, err, client.Hint(err), client.Kind(err))
		}
	}
	many := &client.OperationError{Trident: &tridentv1.TridentError{ErrorMessage: "it failed", Message: "it failed\none\ntwo"}}
	if client.Hint(many) != "" || many.Error() != "it failed\none\ntwo" {
		t.Errorf("several lines are no hint: %q, hint %q", many, client.Hint(many))
	}
}
