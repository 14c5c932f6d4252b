package rescue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A judge is what the rescuer remembers of its looks.
//
// It blames the target only for what it has seen the target do. All else is a
// reason to return to the previous version, and none to block this one:
// blameless is set then.
type judge struct {
	start     time.Time
	spent     time.Duration // on this trial in this boot, before start
	gaveUp    time.Time     // when the daemon was first seen to have given the target up
	blameless bool

	answered bool      // the target, at some time
	inARow   int       // answers of the target
	strange  int       // answers of a third version, in a row
	silent   time.Time // since when nobody answers; zero while somebody does
	gone     int       // looks in a row at which the socket was not there
	repaired time.Time // when the socket was last made again

	looked  bool // last is set
	last    Unit
	merging bool    // systemd might start the target at the look before
	process process // that runs, or ran last
	inquest *inquest
	known   map[string]bool // runs whose end has been looked into, or was before meet
	strikes int             // ends of the target that nobody excuses
}

// A process is what is known of one process of the daemon.
type process struct {
	pid      int
	run      string
	target   bool // it was started from the target
	answered bool // it answered as the target
}

// An inquest is about processes of the target that have ended since the look
// before.
type inquest struct {
	first process // the first one; not the target's perhaps
	ended int     // how many of the target's
	looks int
}

func (j *judge) witnessed() bool { return j.inARow >= witnessAfter }

// look takes one look at the host and returns why the target is to be given up,
// or "".
func (j *judge) look(ctx context.Context, h Host, r Record) string {
	if !j.looked {
		if u, err := ask(ctx, h.Unit); err == nil {
			j.meet(ctx, h, u, r)
		}
	}
	elapsed := j.spent + time.Since(j.start)
	version, verr := ask(ctx, h.Version)
	unit, uerr := ask(ctx, h.Unit)
	if ctx.Err() != nil {
		return ""
	}
	switch {
	case r.Returning: // the daemon gave it up and goes back by itself, if it can
		if j.gaveUp.IsZero() {
			j.gaveUp = time.Now()
		}
		if time.Since(j.gaveUp) > returnWait {
			return r.Reason
		}
		return ""
	case r.Watches > maxWatches:
		j.blameless = true
		return fmt.Sprintf("it was not kept in %d boots", r.Watches-1)
	case elapsed > r.deadline():
		// One that was killed again and again, or that is well, has done nothing wrong.
		j.blameless = !j.isSilent()
		return fmt.Sprintf("it was not kept within %s: %s", r.deadline(), describe(version, verr, unit, uerr))
	case j.repair(ctx, h, verr):
		return ""
	}
	j.count(version, verr, unit, r)
	if j.strange >= strangeBefore {
		return fmt.Sprintf("version %s answers instead of %s", version, r.Target.Version)
	}
	if j.answered && j.isSilent() {
		return fmt.Sprintf("it answered and then no more: %v", verr)
	}
	if uerr != nil {
		return ""
	}
	if unit.Active == "failed" && (r.Activating || r.Restarting || j.answered) {
		return "its service failed"
	}
	if !j.looked {
		j.meet(ctx, h, unit, r)
	}
	j.follow(unit, r, verr == nil && version == r.Target.Version)
	return j.judgeEnds(ctx, h)
}

// repair has the socket made again where it is gone, and reports whether it did
// or still waits for that. The trial begins anew then.
func (j *judge) repair(ctx context.Context, h Host, verr error) bool {
	if !errors.Is(verr, ErrNoSocket) {
		j.gone = 0
		return false
	}
	j.gone++
	j.inARow, j.silent = 0, time.Time{}
	if j.gone < goneBefore || !j.repaired.IsZero() && time.Since(j.repaired) < repairEvery {
		return true
	}
	h.Logf("%v: making it again", verr)
	if err := h.Restart(ctx); err != nil {
		h.Logf("%v", err)
	}
	j.repaired, j.looked, j.inquest, j.gone = time.Now(), false, nil, 0
	return true
}

func (j *judge) isSilent() bool { return !j.silent.IsZero() && time.Since(j.silent) >= silentBefore }

func (j *judge) count(version string, err error, u Unit, r Record) {
	switch {
	case err != nil && !j.process.target && (u.Active == "deactivating" || !r.Restarting && !j.answered):
		j.inARow, j.silent = 0, time.Time{} // the one before the target is silent
		return
	case err != nil:
		j.inARow = 0
		if j.silent.IsZero() {
			j.silent = time.Now()
		}
		return
	case version == r.Target.Version:
		j.answered, j.inARow, j.strange = true, j.inARow+1, 0
	case version == r.Previous.Version:
		j.inARow, j.strange, j.process.target = 0, 0, false
	default:
		j.inARow, j.strange = 0, j.strange+1
	}
	j.silent = time.Time{}
}

// meet takes what runs now for the beginning: what has ended before is not looked
// into.
func (j *judge) meet(ctx context.Context, h Host, u Unit, r Record) {
	j.looked, j.last, j.merging, j.known = true, u, r.Activating || r.Restarting, map[string]bool{}
	// Whatever runs in a later boot was started from what the link said by then.
	j.process = process{pid: u.PID, run: u.Run, target: j.merging && r.Watches > 1}
	exits, _ := j.exits(ctx, h)
	j.learn(exits)
}

// follow compares what systemd says with the look before: whose process has
// ended, and what was started from which version.
//
// A process is the target's if it has answered as the target, or if systemd has
// started it by itself once that could be the target. The process that a
// restart has ended is that of the look before, so the old daemon may be killed
// and the target may come up in its place without any blame. systemd counts
// restarts anew when a job restarts the service, and does not count it when one
// that went by itself is started again by its socket.
func (j *judge) follow(u Unit, r Record, answers bool) {
	before, merged := j.last, j.merging || j.answered
	j.last, j.merging = u, r.Activating || r.Restarting
	ended, byJob := u.Restarts-before.Restarts, u.Restarts < before.Restarts
	if byJob {
		ended = u.Restarts
	}
	other := u.PID != 0 && j.process.pid != 0 && u.PID != j.process.pid
	if ended == 0 && !other && !byJob {
		if u.PID != 0 {
			j.process.pid, j.process.run = u.PID, u.Run
		}
		if answers && u.PID == before.PID {
			j.process.answered, j.process.target = true, true
		}
		return
	}
	first := j.process
	if !byJob { // which ends a process that nobody blames, and the others after it
		ended = max(ended, 1) - 1
	}
	if !merged {
		ended = 0
	}
	if first.target && !byJob {
		ended++
	}
	j.process = process{pid: u.PID, run: u.Run, target: merged}
	j.inARow = 0
	switch {
	case ended == 0:
	case j.inquest == nil:
		j.inquest = &inquest{first: first, ended: ended}
	default:
		j.inquest.ended += ended
	}
}

// judgeEnds asks how the processes of the target ended that follow has found,
// and counts those ends that nobody excuses.
func (j *judge) judgeEnds(ctx context.Context, h Host) string {
	q := j.inquest
	if q == nil {
		return j.judgeStrikes()
	}
	q.looks++
	exits, ok := j.exits(ctx, h)
	if ok && len(exits) < q.ended && q.looks < inquestLooks {
		return j.judgeStrikes() // the journal is written a moment later
	}
	j.inquest = nil
	j.learn(exits)
	killed, first := 0, (*Exit)(nil)
	for i, e := range exits {
		if e.Killed {
			killed++
		}
		if e.Run == q.first.run {
			first = &exits[i]
		}
	}
	if killed > 0 {
		j.silent = time.Time{}
	}
	if q.first.answered && (first == nil || !first.Killed) {
		j.blameless = first == nil
		return "it stopped after it had answered"
	}
	j.strikes += max(0, q.ended-killed)
	return j.judgeStrikes()
}

// exits lists how processes ended that nobody has looked into yet, if the host
// knows.
func (j *judge) exits(ctx context.Context, h Host) (fresh []Exit, ok bool) {
	historian, ok := h.(Historian)
	if !ok {
		return nil, false
	}
	exits, err := ask(ctx, historian.Exits)
	if err != nil {
		h.Logf("%v", err)
	}
	for _, e := range exits {
		if !j.known[e.Run] {
			fresh = append(fresh, e)
		}
	}
	return fresh, err == nil
}

func (j *judge) learn(exits []Exit) {
	for _, e := range exits {
		j.known[e.Run] = true
	}
}

func (j *judge) judgeStrikes() string {
	if j.strikes >= crashesBefore {
		return fmt.Sprintf("systemd had to restart it %d times", j.strikes)
	}
	return ""
}

func describe(version string, verr error, unit Unit, uerr error) string {
	switch {
	case verr == nil:
		return fmt.Sprintf("version %s answers", version)
	case uerr != nil:
		return fmt.Sprintf("it does not answer (%v)", verr)
	}
	return fmt.Sprintf("it does not answer (%v) and its service is %s", verr, unit.Active)
}
