package errkind

import (
	"errors"
	"fmt"
	"testing"

	"github.com/trident-project/trident/proto/errkind"
)

// Both packages make and read the same errors, whichever is the outermost.
func TestErrorsAreThoseOfTheSDK(t *testing.T) {
	cause := errors.New("cause")
	err := WithField(WithHint(WithName(Errorf(Busy, "a: %w", cause), "Datastore"), "wait for %s", "it"), "stage.config")
	if err.Error() != "a: cause" || !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
	if errkind.Of(err) != errkind.Busy || errkind.Name(err) != "Datastore" || errkind.Hint(err) != "wait for it" || errkind.Field(err) != "stage.config" {
		t.Errorf("the SDK reads %s, %q, %q, %q", errkind.Of(err), errkind.Name(err), errkind.Hint(err), errkind.Field(err))
	}
	outer := errkind.Errorf(errkind.Unhealthy, "outer: %w", err)
	if Of(outer) != Unhealthy || Variant(outer) != "Datastore" || Hint(outer) != "wait for it" || Field(outer) != "stage.config" {
		t.Errorf("Trident reads %s, %q, %q, %q", Of(outer), Variant(outer), Hint(outer), Field(outer))
	}
	if err := fmt.Errorf("outer: %w", With(Timeout, errkind.With(errkind.Busy, cause))); Of(err) != Timeout || errkind.Of(err) != Timeout {
		t.Errorf("the outermost kind does not count: %s", Of(err))
	}
}

func TestNilStaysNil(t *testing.T) {
	for _, err := range []error{With(Busy, nil), WithHint(nil, "x"), WithField(nil, "x"), WithName(nil, "X")} {
		if err != nil {
			t.Errorf("nil became %v", err)
		}
	}
}
