package grpckind_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
)

func TestEveryKindSurvivesTheRoundTrip(t *testing.T) {
	for kind := range codesOfKinds() {
		err := errkind.WithHint(errkind.Errorf(kind, "do it: it broke"), "do something else")
		sent := grpckind.Error(fmt.Errorf("outer: %w", err), map[string]string{grpckind.MetaOperation: "op-1"})
		gotKind, gotHint, gotMeta := grpckind.FromError(sent)
		if gotKind != kind {
			t.Errorf("%s came back as %s", kind, gotKind)
		}
		if gotHint != "do something else" || gotMeta[grpckind.MetaOperation] != "op-1" {
			t.Errorf("%s: hint %q and metadata %v", kind, gotHint, gotMeta)
		}
		if got, want := status.Convert(sent).Message(), "outer: do it: it broke"; got != want {
			t.Errorf("%s: message %q, want %q", kind, got, want)
		}
	}
}

// codesOfKinds has all kinds. Their codes are part of the API: they are written out once
// more here.
func codesOfKinds() map[errkind.Kind]codes.Code {
	return map[errkind.Kind]codes.Code{
		errkind.Internal: codes.Internal, errkind.Invalid: codes.InvalidArgument, errkind.NotFound: codes.NotFound,
		errkind.Exists: codes.AlreadyExists, errkind.Precondition: codes.FailedPrecondition,
		errkind.Busy: codes.Aborted, errkind.Denied: codes.PermissionDenied, errkind.Untrusted: codes.FailedPrecondition,
		errkind.Corrupt: codes.DataLoss, errkind.Incompatible: codes.FailedPrecondition,
		errkind.Forbidden: codes.FailedPrecondition, errkind.TooOld: codes.FailedPrecondition,
		errkind.Blocked: codes.FailedPrecondition, errkind.Unhealthy: codes.Aborted,
		errkind.NoSpace: codes.ResourceExhausted, errkind.TooLarge: codes.ResourceExhausted,
		errkind.Unavailable: codes.Unavailable, errkind.Cancelled: codes.Canceled,
		errkind.Timeout: codes.DeadlineExceeded, errkind.Unsupported: codes.Unimplemented,
		errkind.TLS: codes.FailedPrecondition,
	}
}

func TestEveryKindHasItsCode(t *testing.T) {
	for kind, want := range codesOfKinds() {
		if got := grpckind.Code(kind); got != want {
			t.Errorf("the code of %s is %s, want %s", kind, got, want)
		}
	}
	if got := grpckind.Code("NEW"); got != codes.Internal {
		t.Errorf("the code of an unknown kind is %s", got)
	}
}

func TestAForeignStatusIsReadByItsCode(t *testing.T) {
	for code, want := range map[codes.Code]errkind.Kind{
		codes.Unknown: errkind.Internal, codes.Internal: errkind.Internal, codes.OutOfRange: errkind.Invalid,
		codes.FailedPrecondition: errkind.Precondition, codes.Aborted: errkind.Busy,
		codes.ResourceExhausted: errkind.TooLarge, codes.Unauthenticated: errkind.Denied,
		codes.Unavailable: errkind.Unavailable, codes.Code(99): errkind.Internal,
	} {
		if got, hint, meta := grpckind.FromError(status.Error(code, "x")); got != want || hint != "" || meta != nil {
			t.Errorf("%s is %s %q %v, want %s alone", code, got, hint, meta, want)
		}
	}
}

func TestAnErrorThatIsNoStatusKeepsItsKind(t *testing.T) {
	if got, hint, _ := grpckind.FromError(errkind.WithHint(errkind.Errorf(errkind.TooOld, "x"), "y")); got != errkind.TooOld || hint != "y" {
		t.Errorf("got %s %q", got, hint)
	}
}

func TestErrorsOfContextsHaveAKind(t *testing.T) {
	for err, want := range map[error]errkind.Kind{context.Canceled: errkind.Cancelled, context.DeadlineExceeded: errkind.Timeout} {
		if got, _, _ := grpckind.FromError(grpckind.Error(fmt.Errorf("wait: %w", err), nil)); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}

func TestNilAndStatusesDoNotChange(t *testing.T) {
	if err := grpckind.Error(nil, nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	st := status.Error(codes.Aborted, "x")
	if got := grpckind.Error(st, nil); !errors.Is(got, st) {
		t.Errorf("%v became %v", st, got)
	}
}

func TestReattachNamesTheLastEvent(t *testing.T) {
	err := grpckind.Reattach("op-1", 42)
	kind, _, meta := grpckind.FromError(err)
	want := map[string]string{grpckind.MetaOperation: "op-1", grpckind.MetaSequence: "42"}
	if diff := cmp.Diff(want, meta); diff != "" || kind != errkind.Unavailable || !grpckind.IsReattach(err) {
		t.Errorf("kind %s, reattach %t (-want +got):\n%s", kind, grpckind.IsReattach(err), diff)
	}
	if grpckind.IsReattach(status.Error(codes.Unavailable, "REATTACH")) {
		t.Error("the status of somebody else is read as ours")
	}
}

func TestALongOrBrokenMessageStillTravels(t *testing.T) {
	for _, text := range []string{strings.Repeat("ä", 1<<20), "bytes \xff\xfe of a tool"} {
		sent := status.Convert(grpckind.Error(errors.New(text), map[string]string{"k": "\xff"}))
		if n := len(sent.Message()); n > 9<<10 || !utf8.ValidString(sent.Message()) {
			t.Errorf("a message of %d bytes became one of %d, valid: %t", len(text), n, utf8.ValidString(sent.Message()))
		}
		if len(sent.Details()) != 1 {
			t.Errorf("%.10q lost its details", text)
		}
	}
}

func TestAFieldOfTheRequestIsNamedInTheDetails(t *testing.T) {
	sent := grpckind.Error(errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: it is missing"), "stage.config"), nil)
	for _, d := range status.Convert(sent).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			got := bad.GetFieldViolations()
			if len(got) != 1 || got[0].GetField() != "stage.config" || got[0].GetDescription() != "read the request: it is missing" {
				t.Errorf("violations %v", got)
			}
			return
		}
	}
	t.Errorf("%v has no BadRequest", sent)
}

func TestUpstreamsServicesAnswerWithUpstreamsCodes(t *testing.T) {
	for _, c := range []struct {
		err     error
		code    codes.Code
		kind    errkind.Kind
		message string
	}{
		{errkind.Errorf(errkind.Busy, "another operation is running: X"), codes.Unavailable, errkind.Busy, "Servicing is active: another operation is running: X"},
		{errkind.WithName(errkind.Errorf(errkind.Timeout, "broken"), "Datastore"), codes.Unknown, errkind.Timeout, "broken"},
		{errkind.Errorf(errkind.NotFound, "x"), codes.NotFound, errkind.NotFound, "x"},
	} {
		sent := grpckind.UpstreamError(c.err, codes.Unknown, map[string]string{grpckind.MetaOperation: "op-1"})
		kind, _, meta := grpckind.FromError(sent)
		if status.Code(sent) != c.code || kind != c.kind || status.Convert(sent).Message() != c.message {
			t.Errorf("%v became %v of kind %s, want %s %s", c.err, sent, kind, c.code, c.kind)
		}
		if meta[grpckind.MetaOperation] != "op-1" || meta[grpckind.MetaName] != errkind.Name(c.err) {
			t.Errorf("%v has the metadata %v", c.err, meta)
		}
	}
	if grpckind.UpstreamError(nil, codes.Unknown, nil) != nil {
		t.Error("nil became an error")
	}
}
