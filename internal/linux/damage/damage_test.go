package damage

import "testing"

func TestEditsAreMadeOneAfterTheOther(t *testing.T) {
	const base = "0123456789"
	edits := append(At(2, 'a', 'b'), At(9, 'c', 'd')...)
	if got := string(Apply([]byte(base), edits)); got != "01ab45678c" {
		t.Errorf("got %s", got)
	}
	if got := string(Apply([]byte(base), At(12, 'x'))); got != "01x3456789" {
		t.Errorf("got %s", got)
	}
	if got := string(Apply([]byte(base), []byte{0, 0, 0})); got != base {
		t.Errorf("an edit without bytes: %s", got)
	}
	if got := Apply(nil, edits); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}
