// Package efivartest has firmware variables in memory, and the suite that they
// and the real ones must pass, so that tests that use the first say something
// about the second.
package efivartest

import (
	"slices"
	"strings"
	"sync"

	"github.com/trident-project/trident/internal/linux/efivar"
)

// Fake is firmware variables in memory. The zero value has none. Methods may be
// called from many goroutines.
type Fake struct {
	// Hook, if set before the first call, sees each change before it is made: set
	// or delete, and the name of the variable. An error from it is the result.
	Hook func(verb string, n efivar.Name) error

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
	if f.Hook != nil {
		if err := f.Hook("set", n); err != nil {
			return err
		}
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
	if f.Hook != nil {
		if err := f.Hook("delete", n); err != nil {
			return err
		}
	}
	delete(f.vars, n)
	return nil
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
