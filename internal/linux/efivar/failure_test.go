package efivar_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
)

// broken is a Store whose List and Get fail, unless names says what List returns.
type broken struct {
	efivartest.Fake
	names   []efivar.Name
	listErr error
	getErr  error
}

func (b *broken) List() ([]efivar.Name, error) { return b.names, b.listErr }

func (b *broken) Get(efivar.Name) (efivar.Variable, error) { return efivar.Variable{}, b.getErr }

func TestAFirmwareThatCannotBeReadIsNotTakenForAnEmptyOne(t *testing.T) {
	t.Parallel()
	failure := errors.New("the firmware does not answer")
	entry := efivar.Name{Name: "Boot0001", Vendor: efivar.Global}
	noList, noGet := &broken{listErr: failure}, &broken{names: []efivar.Name{entry}, getErr: failure}
	for name, read := range map[string]func() error{
		"entries without a list":  func() error { _, err := efivar.Entries(noList); return err },
		"entries without content": func() error { _, err := efivar.Entries(noGet); return err },
		"a free number":           func() error { _, err := efivar.FreeNumber(noList); return err },
		"the boot order":          func() error { _, err := efivar.BootOrder(noGet); return err },
		"the next entry":          func() error { _, _, err := efivar.BootNext(noGet); return err },
		"a text of systemd-boot":  func() error { _, err := efivar.LoaderText(noGet, efivar.EntryDefault); return err },
	} {
		if err := read(); !errors.Is(err, failure) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone := &broken{names: []efivar.Name{entry}, getErr: efivar.NotThere(entry)} // deleted since List
	if entries, err := efivar.Entries(gone); err != nil || len(entries) != 0 {
		t.Errorf("an entry that is gone: %v, %v", entries, err)
	}
}

func TestABootOrderOfAnOddLengthIsCorrupt(t *testing.T) {
	t.Parallel()
	s := &efivartest.Fake{}
	if err := s.Set(efivar.Name{Name: "BootOrder", Vendor: efivar.Global}, efivar.Variable{Attributes: efivar.BootVariables, Data: []byte{1, 0, 2}}); err != nil {
		t.Fatal(err)
	}
	if order, err := efivar.BootOrder(s); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("%v, %v", order, err)
	}
}

func TestTheFreeNumberIsBehindAllThatAreTaken(t *testing.T) {
	t.Parallel()
	s := &broken{}
	for i := range 1 << 10 {
		s.names = append(s.names, efivar.Name{Name: "Boot" + efivar.Number(i).String(), Vendor: efivar.Global})
	}
	if n, err := efivar.FreeNumber(s); n != 1<<10 || err != nil {
		t.Errorf("%v, %v", n, err)
	}
}

func TestALoadOptionThatCannotBeWrittenChangesNoEntry(t *testing.T) {
	t.Parallel()
	s := &efivartest.Fake{}
	bad := efivar.Entry{Number: 1, LoadOption: efivar.LoadOption{Description: "a\x00b"}}
	if err := efivar.SetEntry(s, bad); errkind.Of(err) != errkind.Invalid {
		t.Errorf("%v", err)
	}
	if names, err := s.List(); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestAHostWithoutVariablesHasNoneAndTakesNone(t *testing.T) {
	t.Parallel()
	var s efivar.Store = efivar.None{}
	n := efivar.Name{Name: "BootNext", Vendor: efivar.Global}
	if _, err := s.Get(n); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get: %v", err)
	}
	if err := efivar.SetBootNext(s, 1); errkind.Of(err) != errkind.Precondition {
		t.Errorf("set: %v", err)
	}
	if err := s.Delete(n); err != nil {
		t.Errorf("delete: %v", err)
	}
	if names, err := s.List(); len(names) != 0 || err != nil {
		t.Errorf("list: %v, %v", names, err)
	}
	if _, known, err := s.Room(); known || errkind.Of(err) != errkind.Precondition {
		t.Errorf("room: %v, %v", known, err)
	}
}

func TestANameThatCouldBeAPathIsRefused(t *testing.T) {
	t.Parallel()
	d := efivar.Dir(t.TempDir())
	for _, n := range []efivar.Name{{Name: "../x", Vendor: efivar.Global}, {Name: "x", Vendor: "none"}, {Name: "", Vendor: efivar.Global}} {
		_, err := d.Get(n)
		set, del := d.Set(n, efivar.Variable{Attributes: efivar.BootVariables, Data: []byte{1}}), d.Delete(n)
		for verb, err := range map[string]error{"get": err, "set": set, "delete": del} {
			if errkind.Of(err) != errkind.Invalid {
				t.Errorf("%s %q: %v", verb, n, err)
			}
		}
	}
	gone := efivar.Dir(string(d) + "/none")
	if _, err := gone.List(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("list: %v", err)
	}
	if _, _, err := gone.Room(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("room: %v", err)
	}
}

// efivarfs may be damaged, or be another file system.
func TestAFolderThatIsNotOneOfVariablesIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 4097 {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := efivar.Dir(dir).List(); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("%d names, %v", len(names), err)
	}
	name := efivar.Name{Name: "BootNext", Vendor: efivar.Global}
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, name.String()), 0o755); err != nil {
		t.Fatal(err)
	}
	d := efivar.Dir(dir)
	if v, err := d.Get(name); err == nil || errkind.Of(err) == errkind.NotFound {
		t.Errorf("a folder is the variable %v, %v", v, err)
	}
	if err := d.Set(name, efivar.Variable{Attributes: efivar.BootVariables, Data: []byte{1}}); err == nil {
		t.Error("a folder was set")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := efivar.Dir(file).List(); err == nil {
		t.Error("the names in a file were listed")
	}
	if err := efivar.Dir(file).Delete(name); err == nil {
		t.Error("a variable was deleted below a file")
	}
}
