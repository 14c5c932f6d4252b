package slot

import (
	"encoding/json"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func TestASlotIsWrittenAndReadAsTheHostStatusHasIt(t *testing.T) {
	t.Parallel()
	for text, s := range map[string]Slot{"volume-a": A, "volume-b": B} {
		if s.String() != text {
			t.Errorf("%d is written %s", s, s)
		}
		if got, err := Parse(text); got != s || err != nil {
			t.Errorf("%s is read as %v, %v", text, got, err)
		}
		data, err := json.Marshal(Pair[Slot]{s, s.Other()})
		var back Pair[Slot]
		if err != nil || json.Unmarshal(data, &back) != nil || back.A != s || back.B != s.Other() {
			t.Errorf("%s: %v, back as %v", data, err, back)
		}
	}
	for _, bad := range []string{"", "a", "A", "volume-c", "volume-a "} {
		if s, err := Parse(bad); errkind.Of(err) != errkind.Invalid || s.Valid() {
			t.Errorf("%q is read as %v, %v", bad, s, err)
		}
	}
}

func TestAPairHasAHalfForEachSlot(t *testing.T) {
	t.Parallel()
	p := Pair[string]{"one", "two"}
	if p.Of(A) != "one" || p.Of(B) != "two" || p.Other(A) != "two" || p.Other(B) != "one" {
		t.Errorf("%s %s %s %s", p.Of(A), p.Of(B), p.Other(A), p.Other(B))
	}
	if A.Other() != B || B.Other() != A {
		t.Error("the other slot is not the other one")
	}
}

func TestNoSlotIsNeverGuessed(t *testing.T) {
	t.Parallel()
	if _, err := json.Marshal(Slot(0)); err == nil {
		t.Error("the zero slot has a text")
	}
	for name, f := range map[string]func(){
		"Of":    func() { Pair[int]{1, 2}.Of(0) },
		"Other": func() { Pair[int]{1, 2}.Other(0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of no slot is something", name)
				}
			}()
			f()
		}()
	}
}
