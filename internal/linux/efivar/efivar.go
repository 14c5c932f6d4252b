// Package efivar reads and writes the variables of UEFI firmware, and the
// structures in them that say what boots.
//
// It uses efivarfs directly. A tool would have to be in every image, its output is for
// people, and a power-cut test could not stop it between two of its writes. Package
// boot knows what the firmware and systemd-boot do with the variables.
package efivar

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"

	"github.com/trident-project/trident/internal/errkind"
)

// Vendor is the GUID of a name space of variables, in lower case.
type Vendor string

// The name spaces that say what boots.
const (
	Global Vendor = "8be4df61-93ca-11d2-aa0d-00e098032b8c" // UEFI 2.10, 3.3
	Loader Vendor = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" // The Boot Loader Interface
)

// Name is the full name of a variable.
type Name struct {
	Name   string
	Vendor Vendor
}

// String returns the name of the variable's file in efivarfs.
func (n Name) String() string { return n.Name + "-" + string(n.Vendor) }

// Attributes say where the firmware keeps a variable and who can read it (UEFI 2.10, 8.2).
type Attributes uint32

// The attributes that variables about booting have, and all of them together.
const (
	NonVolatile   Attributes = 1 << 0
	BootService   Attributes = 1 << 1
	Runtime       Attributes = 1 << 2
	BootVariables            = NonVolatile | BootService | Runtime
)

// Variable is the content of a variable.
type Variable struct {
	Attributes Attributes
	Data       []byte
}

// Store has the variables of a firmware. A variable is old or new, also after a power
// cut: firmware guarantees that (UEFI 2.10, 8.2), and [Dir] writes each in one call. A
// Store is safe for concurrent use.
type Store interface {
	// Get returns a variable. Its error is fs.ErrNotExist if the variable does not exist.
	Get(Name) (Variable, error)
	// Set makes or replaces a variable. It does not write a variable that is the same
	// already, because flash wears out. Data must not be empty.
	Set(Name, Variable) error
	// Delete deletes a variable. It returns nil if the variable does not exist.
	Delete(Name) error
	// List returns all names, sorted by their text.
	List() ([]Name, error)
	// Room returns how many bytes the firmware has free for variables, whose costs are
	// those of [Name.Cost]. Known is false if the firmware does not report it; then use
	// [Probe]. Room fails, with errkind.Precondition, if no variable can be set.
	Room() (bytes int64, known bool, err error)
}

// overhead is the memory for a variable besides its name and data, in bytes: EDK II has
// a header of 60 bytes and aligns to 4.
const overhead = 64

// Cost returns how many bytes of the firmware's memory a variable with size bytes of data
// needs.
func (n Name) Cost(size int) int64 { return int64(overhead + 2*(len(n.Name)+1) + size) }

// probe is the variable of Probe.
var probe = Name{"TridentRoom", Loader}

// Probe returns an error if the firmware refuses a new variable that costs that many bytes.
// It sets one variable of that cost, with at most MaxData bytes of data, and deletes
// it, and deletes one that a power cut has left.
func Probe(s Store, bytes int64) error {
	size := min(max(bytes-probe.Cost(0), 1), MaxData)
	err := s.Delete(probe)
	if err == nil {
		err = s.Set(probe, Variable{BootVariables, make([]byte, size)})
	}
	return errors.Join(err, s.Delete(probe))
}

// None is the Store of a host without access to the variables of its firmware. It has no
// variables, and Set and Room fail with errkind.Precondition.
type None struct{}

var _ Store = None{}

// Get implements [Store].
func (None) Get(n Name) (Variable, error) { return Variable{}, NotThere(n) }

// Set implements [Store].
func (None) Set(n Name, _ Variable) error {
	return failed("set", n, errkind.Errorf(errkind.Precondition, "this host gives no access to the variables of its firmware"))
}

// Delete implements [Store].
func (None) Delete(Name) error { return nil }

// List implements [Store].
func (None) List() ([]Name, error) { return nil, nil }

// Room implements [Store].
func (None) Room() (int64, bool, error) {
	return 0, false, errkind.Errorf(errkind.Precondition, "this host gives no access to the variables of its firmware")
}

// Bounds for variables that are read or set: bytes of data, bytes of a name, variables.
// The store of real firmware has 64 KiB to 256 KiB in all.
const (
	MaxData  = 64 << 10
	maxName  = 512
	maxNames = 4096
)

// Check returns an error of kind Invalid if Set would refuse the name or the size of v.
func (n Name) Check(v Variable) error {
	if len(v.Data) == 0 || len(v.Data) > MaxData {
		return errkind.Errorf(errkind.Invalid, "set EFI variable %s: it would have %d bytes, and may have 1 to %d", n, len(v.Data), MaxData)
	}
	return n.check()
}

// ParseName reads the name of a file in efivarfs.
func ParseName(file string) (Name, error) {
	const guid = len(Global)
	cut := len(file) - guid - 1
	if cut < 1 || file[cut] != '-' {
		return Name{}, errkind.Errorf(errkind.Invalid, "read %q as the name of an EFI variable: it does not end in a GUID", file)
	}
	n := Name{file[:cut], Vendor(strings.ToLower(file[cut+1:]))}
	return n, n.check()
}

// check fails for a name that is too long or that could be a path.
func (n Name) check() error {
	bad := func(r rune) bool { return r == '/' || !unicode.IsPrint(r) }
	if n.Name == "" || len(n.Name) > maxName || strings.ContainsFunc(n.Name, bad) || !isGUID(string(n.Vendor)) {
		return errkind.Errorf(errkind.Invalid, "%q is not a name of an EFI variable", n.String())
	}
	return nil
}

func isGUID(s string) bool {
	for i, r := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (r == '-') || !dash && !strings.ContainsRune("0123456789abcdef", r) {
			return false
		}
	}
	return len(s) == len(Global)
}

// NotThere returns the error of Store.Get for a variable that does not exist.
func NotThere(n Name) error {
	return errkind.Errorf(errkind.NotFound, "get EFI variable %s: %w", n, fs.ErrNotExist)
}

func failed(verb string, n Name, err error) error {
	return fmt.Errorf("%s EFI variable %s: %w", verb, n, err)
}
