package jsonrpc

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// An error that wraps one of tridentd says what it adds and the message, without the words of gRPC.
func TestAWrappedErrorOfTridentdKeepsItsMessage(t *testing.T) {
	inner := status.Error(codes.InvalidArgument, "read the journal: max_priority is 77")
	for want, err := range map[string]error{
		"read the journal: max_priority is 77":            &endedAt{inner, "c"},
		"subscribe: read the journal: max_priority is 77": fmt.Errorf("subscribe: %w", inner),
	} {
		if got := toFault(err); got.Message != want || got.Code != int(codes.InvalidArgument) {
			t.Errorf("%+v, not %q", got, want)
		}
	}
}
