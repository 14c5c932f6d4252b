package daemon

import (
	"testing"

	"github.com/trident-project/trident/internal/operation"
)

func TestTheStatusLineOfTheUnitSaysWhyAnOperationIsHalted(t *testing.T) {
	t.Parallel()
	op := operation.Operation{ID: "1", Summary: "stage trident", Step: "verify"}
	if got, want := statusOf(op), "stage trident: verify (1)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	op.Halted = &operation.Halt{Cause: &operation.Failure{Message: "write journal:\ndisk is full"}}
	if got, want := statusOf(op), "Halted, and tries again: write journal: disk is full; stage trident: verify (1)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
