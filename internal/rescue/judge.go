package rescue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A judge is what the rescuer remembers of its observations of one trial.
//
// A judge blames the target only for what the rescuer saw the target do. Any other
// reason returns the host to the previous version without blocking the target: the
// judge sets blameless then.
type judge struct {
	start       time.Time
	spentBefore time.Duration // time spent on this trial in this boot before start
	gaveUpAt    time.Time     // when the rescuer first saw that the daemon had given the target up
	blameless   bool

	hasAnswered    bool      // the target answered at least once
	answersInARow  int       // consecutive answers of the target
	foreignAnswers int       // consecutive answers of a third version
	silentSince    time.Time // when the first unanswered call was made; zero while a daemon answers
	socketMisses   int       // consecutive observations without a socket
	repairedAt     time.Time // when the rescuer last recreated the socket

	hasLast        bool // last is set
	last           Unit
	targetMayStart bool    // systemd could have started the target at the previous observation
	process        process // the running process, or the last one that ran
	inquest        *inquest
	knownRuns      map[string]bool // runs whose end was judged, or happened before startTracking
	strikes        int             // ends of the target that count against it
}

// A process is what the rescuer knows of one process of the daemon.
type process struct {
	pid         int
	run         string
	isTarget    bool // systemd started the process from the target
	hasAnswered bool // the process answered with the target's version
}

// An inquest collects processes of the target that ended since the previous
// observation.
type inquest struct {
	first    process // the first process that ended; may belong to the previous version
	endings  int     // how many of the ended processes were the target's
	attempts int
}

func (j *judge) isWitnessed() bool { return j.answersInARow >= witnessAfter }

// observe asks the host once and returns the reason for which the target has to be
// given up, or "".
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
	case r.Returning: // the daemon gave the target up and returns by itself, if it can
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
		// A target that others killed again and again, or that answers, has done nothing wrong.
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
		return fmt.Sprintf("it stopped answering: %v", verr)
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

// repair restarts the socket and the daemon when Trident's socket is missing. It
// reports whether the socket is missing, that is, whether this observation says
// nothing about the target. After a restart the judge counts answers and processes
// from zero.
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
	h.Logf("%v: recreating the socket", verr)
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
		j.answersInARow, j.silentSince = 0, time.Time{} // the previous version is silent, which says nothing about the target
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

// startTracking takes the running process as the first one: the judge ignores
// processes that ended before.
func (j *judge) startTracking(ctx context.Context, h Host, u Unit, r Record) {
	j.hasLast, j.last, j.targetMayStart, j.knownRuns = true, u, r.Activating || r.Restarting, map[string]bool{}
	// In a later boot, systemd started the process from the version that the link pointed to by then.
	j.process = process{pid: u.PID, run: u.Run, isTarget: j.targetMayStart && r.Watches > 1}
	exits, _ := j.unknownExits(ctx, h)
	j.markKnown(exits)
}

// trackProcess compares the state of the unit with the previous observation: it
// works out whose process has ended, and from which version systemd started the
// next one.
//
// A process is the target's if it has answered as the target, or if systemd
// started it by itself at a time when the link could point to the target. A job
// that restarts the service ends the process of the previous observation; so
// somebody may kill the old daemon, and the target may start in its place, without
// blame for the target. systemd resets its restart counter when a job restarts the
// service, and does not count a start by the socket after the service ended by
// itself.
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
	if !byJob { // the first ended process is counted below, the others are the target's
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

// judgeEnds asks the journal how the processes in the inquest ended, and counts
// the ends for which the target is to blame. It returns the reason for which the
// target has to be given up, or "".
func (j *judge) judgeEnds(ctx context.Context, h Host) string {
	q := j.inquest
	if q == nil {
		return j.judgeStrikes()
	}
	q.attempts++
	exits, ok := j.unknownExits(ctx, h)
	if ok && len(exits) < q.endings && q.attempts < inquestAttempts {
		return j.judgeStrikes() // the journal gets its entries a moment later
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

// unknownExits lists the exits of processes that are not in knownRuns. ok is false
// if the host cannot list exits.
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
