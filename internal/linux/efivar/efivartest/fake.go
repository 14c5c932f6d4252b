// Package efivartest has an in-memory efivar.Store, and the suite that it and the real
// efivarfs must pass. So a test with the in-memory store holds for the real one.
package efivartest

import (
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
)

// Fake is firmware variables in memory. The zero value has none. Methods may be
// called from many goroutines.
type Fake struct {
	// Hook, if set before the first call, sees each change before it is made: set
	// or delete, and the name of the variable. An error from it is the result.
	Hook func(verb string, n efivar.Name) error
	// Memory is how many bytes variables may take in all, 0: any. As in real firmware,
	// the new content of a variable is written before the old one is given up.
	Memory int64
	// Mute: Room does not say how much there is.
	Mute bool
	// ReadOnly: nothing can be set or deleted.
	ReadOnly bool

	mu   sync.Mutex
	vars map[efivar.Name]efivar.Variable
}

var _ efivar.Store = (*Fake)(nil)

// Get implements [efivar.Store].
func (f *Fake) Get(n efivar.Name) (efivar.Variable, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.vars[n]
	if !ok {
		return efivar.Variable{}, efivar.NotThere(n)
	}
	v.Data = slices.Clone(v.Data)
	return v, nil
}

// Set implements [efivar.Store].
func (f *Fake) Set(n efivar.Name, v efivar.Variable) error {
	if err := n.Check(v); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.vars[n]; ok && old.Attributes == v.Attributes && slices.Equal(old.Data, v.Data) {
		return nil
	}
	if err := f.writable(); err != nil {
		return err
	}
	if f.Hook != nil {
		if err := f.Hook("set", n); err != nil {
			return err
		}
	}
	if f.Memory > 0 && n.Cost(len(v.Data)) > f.free() {
		return errkind.Errorf(errkind.NoSpace, "set EFI variable %s: %w", n, syscall.ENOSPC)
	}
	if f.vars == nil {
		f.vars = map[efivar.Name]efivar.Variable{}
	}
	v.Data = slices.Clone(v.Data)
	f.vars[n] = v
	return nil
}

// Delete implements [efivar.Store].
func (f *Fake) Delete(n efivar.Name) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.vars[n]; !ok {
		return nil
	}
	if err := f.writable(); err != nil {
		return err
	}
	if f.Hook != nil {
		if err := f.Hook("delete", n); err != nil {
			return err
		}
	}
	delete(f.vars, n)
	return nil
}

func (f *Fake) writable() error {
	if f.ReadOnly {
		return errkind.Errorf(errkind.Precondition, "the EFI variables cannot be set: %w", syscall.EROFS)
	}
	return nil
}

func (f *Fake) free() int64 {
	free := f.Memory
	for n, v := range f.vars {
		free -= n.Cost(len(v.Data))
	}
	return max(free, 0)
}

// Room implements [efivar.Store].
func (f *Fake) Room() (int64, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.writable(); err != nil {
		return 0, false, err
	}
	if f.Memory == 0 || f.Mute {
		return 0, false, nil
	}
	return f.free(), true, nil
}

// List implements [efivar.Store].
func (f *Fake) List() ([]efivar.Name, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []efivar.Name
	for n := range f.vars {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b efivar.Name) int { return strings.Compare(a.String(), b.String()) })
	return names, nil
}
