package errkind

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"
)

func TestTheOutermostKindCounts(t *testing.T) {
	cause := errors.New("cause")
	err := Errorf(Unhealthy, "prove: %w", fmt.Errorf("call: %w", Errorf(Timeout, "dial: %w", cause)))
	if Of(err) != Unhealthy {
		t.Errorf("kind %s", Of(err))
	}
	if !errors.Is(err, cause) {
		t.Error("cause lost")
	}
	if got, want := err.Error(), "prove: call: dial: cause"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}

func TestAnErrorWithoutAKindIsInternal(t *testing.T) {
	if Of(errors.New("x")) != Internal || Of(nil) != Internal {
		t.Error("want Internal")
	}
}

func TestAFullDiskHasItsKindWhoeverWrote(t *testing.T) {
	for _, errno := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		err := fmt.Errorf("extract: %w", errors.Join(&fs.PathError{Op: "write", Path: "/x", Err: errno}))
		if Of(err) != NoSpace {
			t.Errorf("%v is %s", err, Of(err))
		}
		if err := Errorf(Corrupt, "read: %w", err); Of(err) != Corrupt {
			t.Errorf("%v is %s", err, Of(err))
		}
	}
}

func TestAHintDoesNotChangeTheTextOrTheKind(t *testing.T) {
	err := fmt.Errorf("a: %w", WithHint(With(Busy, errors.New("b")), "wait for %s", "it"))
	if err.Error() != "a: b" || Of(err) != Busy || Hint(err) != "wait for it" {
		t.Errorf("%v, %s, %q", err, Of(err), Hint(err))
	}
	if WithHint(nil, "x") != nil || With(Busy, nil) != nil || WithField(nil, "x") != nil || WithName(nil, "X") != nil {
		t.Error("nil became an error")
	}
}

func TestAFieldAndANameAreKept(t *testing.T) {
	err := fmt.Errorf("read: %w", WithField(WithName(Errorf(Invalid, "missing"), "ParseHostConfiguration"), "stage.config"))
	if Field(err) != "stage.config" || Name(err) != "ParseHostConfiguration" || err.Error() != "read: missing" || Of(err) != Invalid {
		t.Errorf("field %q, name %q, kind %s of %v", Field(err), Name(err), Of(err), err)
	}
	if err := errors.New("x"); Field(err) != "" || Name(err) != "" {
		t.Errorf("%v has a field or a name", err)
	}
}
