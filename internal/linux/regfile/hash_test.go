package regfile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

func TestTheSHA384IsOfAllBytes(t *testing.T) {
	// FIPS 180-4, the example of SHA-384 with one block.
	const abc = "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
	if got, err := SHA384(t.Context(), iotest.OneByteReader(strings.NewReader("abc"))); got != abc || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	broken := errors.New("broken")
	if got, err := SHA384(t.Context(), iotest.ErrReader(broken)); got != "" || !errors.Is(err, broken) {
		t.Errorf("%s, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := SHA384(ctx, strings.NewReader("abc")); got != "" || !errors.Is(err, context.Canceled) {
		t.Errorf("%s, %v", got, err)
	}
}
