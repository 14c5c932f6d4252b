package efivartest

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
)

// vendor is of the suite only, so that it can run on a real machine.
const vendor efivar.Vendor = "5b9a2c1e-7d43-4a0b-9e65-0d8f1c3b7a24"

// Suite tests what every [efivar.Store] does. The variables of the suite are in a
// name space of their own, and deleted at its end.
func Suite(t *testing.T, s efivar.Store) {
	name := func(n string) efivar.Name { return efivar.Name{Name: n, Vendor: vendor} }
	t.Cleanup(func() {
		for _, n := range []string{"One", "Two-Two"} {
			if err := s.Delete(name(n)); err != nil {
				t.Error(err)
			}
		}
	})
	value := func(text string) efivar.Variable {
		return efivar.Variable{Attributes: efivar.BootVariables, Data: []byte(text)}
	}
	expect := func(n, want string) {
		t.Helper()
		v, err := s.Get(name(n))
		if err != nil || v.Attributes != efivar.BootVariables || string(v.Data) != want {
			t.Errorf("%s is %+v, %v; want %q", n, v, err, want)
		}
	}
	set := func(n, text string) {
		t.Helper()
		if err := s.Set(name(n), value(text)); err != nil {
			t.Fatal(err)
		}
		expect(n, text)
	}
	if _, err := s.Get(name("One")); !errors.Is(err, fs.ErrNotExist) || errkind.Of(err) != errkind.NotFound {
		t.Errorf("a variable that was never set: %v", err)
	}
	if err := s.Delete(name("One")); err != nil {
		t.Errorf("delete what is not there: %v", err)
	}
	for _, text := range []string{"first", "a longer second", "a longer second", "3"} {
		set("One", text)
	}
	set("Two-Two", "two")
	names, err := s.List()
	if err != nil || !slices.Contains(names, name("One")) || !slices.Contains(names, name("Two-Two")) {
		t.Errorf("list: %v, %v", names, err)
	}
	if err := s.Delete(name("One")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(name("One")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a deleted variable: %v", err)
	}
	if names, err := s.List(); err != nil || slices.Contains(names, name("One")) {
		t.Errorf("list after delete: %v, %v", names, err)
	}
	expect("Two-Two", "two")
	set("One", "again")
	if room, known, err := s.Room(); err != nil || known && room <= 0 {
		t.Errorf("room: %d, %v, %v", room, known, err)
	}
	if err := efivar.Probe(s, name("One").Cost(512)); err != nil {
		t.Errorf("probe: %v", err)
	}
	if now, err := s.List(); err != nil || len(now) != len(names) {
		t.Errorf("a probe leaves %v of %v, %v", now, names, err)
	}
	refusals(t, s, value("x"))
	v, err := s.Get(name("One"))
	if err == nil {
		v.Data[0] = 'A'
	}
	expect("One", "again") // a result is the caller's
}

func refusals(t *testing.T, s efivar.Store, v efivar.Variable) {
	t.Helper()
	for _, n := range []efivar.Name{
		{Name: "", Vendor: vendor}, {Name: "../x", Vendor: vendor}, {Name: "a\x00", Vendor: vendor},
		{Name: "x", Vendor: "/etc"}, {Name: "x", Vendor: "5B9A2C1E-7d43-4a0b-9e65-0d8f1c3b7a24"},
	} {
		if err := s.Set(n, v); errkind.Of(err) != errkind.Invalid {
			t.Errorf("set %q: %v", n, err)
		}
	}
	for _, size := range []int{0, efivar.MaxData + 1} {
		v.Data = make([]byte, size)
		if err := s.Set(efivar.Name{Name: "One", Vendor: vendor}, v); errkind.Of(err) != errkind.Invalid {
			t.Errorf("set %d bytes: %v", size, err)
		}
	}
}
