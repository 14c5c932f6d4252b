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
	start       time.Time
	spentBefore time.Duration // on this trial in this boot, before start
	gaveUpAt    time.Time     // when the daemon was first seen to have given the target up
	blameless   bool

	hasAnswered    bool      // the target, at some time
	answersInARow  int       // answers of the target
	foreignAnswers int       // answers of a third version, in a row
	silentSince    time.Time // since when nobody answers; zero while somebody does
	socketMisses   int       // looks in a row at which the socket was not there
	repairedAt     time.Time // when the socket was last made again

	hasLast        bool // last is set
	last           Unit
	targetMayStart bool    // systemd might start the target at the look before
	process        process // that runs, or ran last
	inquest        *inquest
	knownRuns      map[string]bool // runs whose end has been looked into, or was before meet
	strikes        int             // ends of the target that nobody excuses
}

// A process is what is known of one process of the daemon.
type process struct {
	pid         int
	run         string
	isTarget    bool // it was started from the target
	hasAnswered bool // it answered as the target
}

// An inquest is about processes of the target that have ended since the look
// before.
type inquest struct {
	first    process // the first one; not the target's perhaps
	endings  int     // how many of the target's
	attempts int
}

func (j *judge) isWitnessed() bool { return j.answersInARow >= witnessAfter }

// observe takes one look at the host and returns why the target is to be given up,
// or "".
func (j *judge) observe(ctx context.Context, h Host, r Record) string {
	if !j.hasLast {
		if u, err := callWithTimeout(ctx, h.Unit); err == nil {
			j.startTracking(ctx, h, u, r)
		}
	}
	elapsed := j.spentBefore + time.Since(j.start)
	version, verr := callWithTimeout(ctx, h.Version)
	unit, uerr := callWithTimeout(ctx, h.Unit)
	if ctx.Err() != nil {
		return ""
	}
	switch {
	case r.Returning: // the daemon gave it up and goes back by itself, if it can
		if j.gaveUpAt.IsZero() {
			j.gaveUpAt = time.Now()
		}
		if time.Since(j.gaveUpAt) > returnTimeout {
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
	j.countAnswer(version, verr, unit, r)
	if j.foreignAnswers >= foreignLimit {
		return fmt.Sprintf("version %s answers instead of %s", version, r.Target.Version)
	}
	if j.hasAnswered && j.isSilent() {
		return fmt.Sprintf("it answered and then no more: %v", verr)
	}
	if uerr != nil {
		return ""
	}
	if unit.Active == "failed" && (r.Activating || r.Restarting || j.hasAnswered) {
		return "its service failed"
	}
	if !j.hasLast {
		j.startTracking(ctx, h, unit, r)
	}
	j.trackProcess(unit, r, verr == nil && version == r.Target.Version)
	return j.judgeEnds(ctx, h)
}

// repair has the socket made again where it is gone, and reports whether it did
// or still waits for that. The trial begins anew then.
func (j *judge) repair(ctx context.Context, h Host, verr error) bool {
	if !errors.Is(verr, ErrNoSocket) {
		j.socketMisses = 0
		return false
	}
	j.socketMisses++
	j.answersInARow, j.silentSince = 0, time.Time{}
	if j.socketMisses < socketMissLimit || !j.repairedAt.IsZero() && time.Since(j.repairedAt) < repairEvery {
		return true
	}
	h.Logf("%v: making it again", verr)
	if err := h.Restart(ctx); err != nil {
		h.Logf("%v", err)
	}
	j.repairedAt, j.hasLast, j.inquest, j.socketMisses = time.Now(), false, nil, 0
	return true
}

func (j *judge) isSilent() bool {
	return !j.silentSince.IsZero() && time.Since(j.silentSince) >= silenceLimit
}

func (j *judge) countAnswer(version string, err error, u Unit, r Record) {
	switch {
	case err != nil && !j.process.isTarget && (u.Active == "deactivating" || !r.Restarting && !j.hasAnswered):
		j.answersInARow, j.silentSince = 0, time.Time{} // the one before the target is silent
		return
	case err != nil:
		j.answersInARow = 0
		if j.silentSince.IsZero() {
			j.silentSince = time.Now()
		}
		return
	case version == r.Target.Version:
		j.hasAnswered, j.answersInARow, j.foreignAnswers = true, j.answersInARow+1, 0
	case version == r.Previous.Version:
		j.answersInARow, j.foreignAnswers, j.process.isTarget = 0, 0, false
	default:
		j.answersInARow, j.foreignAnswers = 0, j.foreignAnswers+1
	}
	j.silentSince = time.Time{}
}

// startTracking takes what runs now for the beginning: what has ended before is not looked
// into.
func (j *judge) startTracking(ctx context.Context, h Host, u Unit, r Record) {
	j.hasLast, j.last, j.targetMayStart, j.knownRuns = true, u, r.Activating || r.Restarting, map[string]bool{}
	// Whatever runs in a later boot was started from what the link said by then.
	j.process = process{pid: u.PID, run: u.Run, isTarget: j.targetMayStart && r.Watches > 1}
	exits, _ := j.unknownExits(ctx, h)
	j.markKnown(exits)
}

// trackProcess compares what systemd says with the look before: whose process has
// ended, and what was started from which version.
//
// A process is the target's if it has answered as the target, or if systemd has
// started it by itself once that could be the target. The process that a
// restart has ended is that of the look before, so the old daemon may be killed
// and the target may come up in its place without any blame. systemd counts
// restarts anew when a job restarts the service, and does not count it when one
// that went by itself is started again by its socket.
func (j *judge) trackProcess(u Unit, r Record, answers bool) {
	before, merged := j.last, j.targetMayStart || j.hasAnswered
	j.last, j.targetMayStart = u, r.Activating || r.Restarting
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
			j.process.hasAnswered, j.process.isTarget = true, true
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
	if first.isTarget && !byJob {
		ended++
	}
	j.process = process{pid: u.PID, run: u.Run, isTarget: merged}
	j.answersInARow = 0
	switch {
	case ended == 0:
	case j.inquest == nil:
		j.inquest = &inquest{first: first, endings: ended}
	default:
		j.inquest.endings += ended
	}
}

// judgeEnds asks how the processes of the target ended that follow has found,
// and counts those ends that nobody excuses.
func (j *judge) judgeEnds(ctx context.Context, h Host) string {
	q := j.inquest
	if q == nil {
		return j.judgeStrikes()
	}
	q.attempts++
	exits, ok := j.unknownExits(ctx, h)
	if ok && len(exits) < q.endings && q.attempts < inquestAttempts {
		return j.judgeStrikes() // the journal is written a moment later
	}
	j.inquest = nil
	j.markKnown(exits)
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
		j.silentSince = time.Time{}
	}
	if q.first.hasAnswered && (first == nil || !first.Killed) {
		j.blameless = first == nil
		return "it stopped after it had answered"
	}
	j.strikes += max(0, q.endings-killed)
	return j.judgeStrikes()
}

// unknownExits lists how processes ended that nobody has looked into yet, if the host
// knows.
func (j *judge) unknownExits(ctx context.Context, h Host) (fresh []Exit, ok bool) {
	historian, ok := h.(ExitReader)
	if !ok {
		return nil, false
	}
	exits, err := callWithTimeout(ctx, historian.Exits)
	if err != nil {
		h.Logf("%v", err)
	}
	for _, e := range exits {
		if !j.knownRuns[e.Run] {
			fresh = append(fresh, e)
		}
	}
	return fresh, err == nil
}

func (j *judge) markKnown(exits []Exit) {
	for _, e := range exits {
		j.knownRuns[e.Run] = true
	}
}

func (j *judge) judgeStrikes() string {
	if j.strikes >= crashLimit {
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
