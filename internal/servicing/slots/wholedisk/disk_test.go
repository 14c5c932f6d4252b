package wholedisk

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

func TestADiskThatIsNotProvenGetsNoTable(t *testing.T) {
	t.Parallel()
	r := operation.Rehearse("x", diskRecord{Parts: []record.Part{{Name: "partition 1", Done: true, SHA384: "a"}}}, func(slog.Level, string) {})
	if err := (&Service{}).writeTable(t.Context(), r, nil); err == nil || !strings.Contains(err.Error(), "partition 1 was not written, or does not have the verified content") {
		t.Errorf("a table without a proof: %v", err)
	}
}

func TestOnlyPlainHTTPCausesAWarning(t *testing.T) {
	t.Parallel()
	if byHTTP("HTTP://h/x") == "" || byHTTP("https://h/x") != "" {
		t.Error("plain http and https are not told apart")
	}
}
