package cli

import (
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
)

// A person reads why the value of a flag is wrong; the person does not know the packages of Go.
func TestAWrongNumberIsExplainedWithoutGo(t *testing.T) {
	for line, want := range map[string]string{
		"host logs --lines 999999999999": `invalid argument "999999999999" for "--lines" flag: the number is too large or too small`,
		"host logs --lines x":            `invalid argument "x" for "--lines" flag: it must be a whole number`,
		"host logs --since garbage":      `invalid argument "garbage" for "--since" flag: it must be a number with a unit`,
		"host load --timeout soon":       `invalid argument "soon" for "--timeout" flag: it must be a number with a unit`,
	} {
		a, _, stderr := commandtest.New()
		if code := execute(t.Context(), a, strings.Fields(line)); code != exitFailed || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: %d, %s", line, code, stderr)
		}
	}
}
