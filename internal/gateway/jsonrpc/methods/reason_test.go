package methods

import (
	"encoding/json"
	"testing"
)

// A person reads what is wrong with parameters; the person does not know the types of Go.
func TestAWrongParameterIsNamedWithoutGo(t *testing.T) {
	for text, want := range map[string]string{
		`{"since":"x"}`:    `"x" is not a time as in RFC 3339, such as 2026-11-30T00:00:00Z`,
		`{"unit":5}`:       "unit is a number, not a text",
		`{"priority":"a"}`: "priority is a string, not a whole number that fits",
		`{"priority":1.5}`: "priority is a number 1.5, not a whole number that fits",
	} {
		var j Journal
		if err := json.Unmarshal([]byte(text), &j); err == nil || Reason(err) != want {
			t.Errorf("%s: %v, not %q", text, Reason(err), want)
		}
	}
}
