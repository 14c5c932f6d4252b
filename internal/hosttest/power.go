package hosttest

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

var (
	// ErrDead is the error of a change by a process that has ended, or without power.
	ErrDead = errors.New("the power is off")
	// ErrFull is the error of a change that finds the disk full.
	ErrFull error = &os.PathError{Op: "write", Path: "full", Err: unix.ENOSPC}
)

// Power is the power switch of a made-up host. Every change of the host is a Touch. Power
// counts them, and cuts the power before or after one of them, or has one find the disk full.
// The host embeds Power, and guards its own state with Mu as well.
type Power struct {
	Mu        sync.Mutex
	Touches   int      // how many changes there were
	CutAt     int      // the change at which the power is cut; 0 for none
	After     bool     // cut the power after that change, not before it
	FailAt    int      // the change that finds the disk full; 0 for none
	FullAfter string   // the name of the change whose successor finds the disk full
	Trace     []string // the names of the changes
	rests     map[int]bool
	counter   uint32 // of the datastore, after the last change
}

// Prepare begins a run of changes, and cuts the power at one of them.
func (p *Power) Prepare(cutAt int, after bool) {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	p.Touches, p.CutAt, p.After, p.FailAt, p.Trace = 0, cutAt, after, 0, nil
}

// A Toucher is who changes the host. Power calls its functions with Mu locked.
type Toucher struct {
	// IsDead reports whether it has ended, or the power is off.
	IsDead func() bool
	// Cut switches the power off; IsDead is true from then on.
	Cut func()
	// Before, if set, is called before each change, when Touches counts it.
	Before func()
	// Datastore is the path of the datastore of the host, for Rests; "" for none.
	Datastore string
}

// Touch makes a change of the host, unless the power is cut before it. It returns ErrDead if
// the change was not made, or if nobody is left who could learn of it.
func (p *Power) Touch(by Toucher, name string, change func() error) error {
	p.Mu.Lock()
	if by.IsDead() {
		p.Mu.Unlock()
		return ErrDead
	}
	p.Touches++
	hit := p.Touches == p.CutAt
	full := p.Touches == p.FailAt || p.FullAfter != "" && len(p.Trace) > 0 && p.Trace[len(p.Trace)-1] == p.FullAfter
	p.Trace = append(p.Trace, name)
	if by.Before != nil {
		by.Before()
	}
	if p.CutAt == 0 && by.Datastore != "" {
		p.noteRest(by.Datastore)
	}
	if hit && !p.After {
		by.Cut()
		p.Mu.Unlock()
		return ErrDead
	}
	p.Mu.Unlock()
	if full {
		return ErrFull
	}
	err := change()
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.CutAt == 0 && by.Datastore != "" {
		p.counter = changeCounter(by.Datastore)
	}
	if hit && !by.IsDead() {
		by.Cut()
	}
	if by.IsDead() {
		return ErrDead
	}
	return err
}

// Rests returns the changes of a run without a cut before which nothing was written since the
// change before. A cut before such a change leaves what the cut after the change before leaves.
func (p *Power) Rests() map[int]bool { return p.rests }

func (p *Power) noteRest(datastore string) {
	if p.rests == nil {
		p.rests = map[int]bool{}
	}
	p.rests[p.Touches] = p.Touches > 1 && changeCounter(datastore) == p.counter
}

// changeCounter returns the count of transactions in the header of a datastore (SQLite file
// format, 1.3.8), or 0 without a datastore.
func changeCounter(datastore string) uint32 {
	f, err := os.Open(datastore)
	if err != nil {
		return 0
	}
	defer f.Close()
	var b [4]byte
	if _, err := f.ReadAt(b[:], 24); err != nil {
		return 0
	}
	return binary.BigEndian.Uint32(b[:])
}
