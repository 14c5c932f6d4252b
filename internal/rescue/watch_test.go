package rescue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scriptedHost is a machine whose daemon does what a script says: script returns who
// answers and what systemd says at a time after the start of the trial.
type scriptedHost struct {
	mu      sync.Mutex
	start   time.Time
	script  func(at time.Duration) (version string, unit Unit)
	link    string
	merged  string
	back    time.Duration // when it was put back; 0 while it was not
	refuses int           // so many refreshes fail
	dead    bool          // nothing ever answers any more
	calls   []string
	revives func() // what the version before does once it is merged, before it is restarted
}

func (h *scriptedHost) record(format string, args ...any) {
	h.calls = append(h.calls, fmt.Sprintf(format, args...))
}

// Version waits for as long as it may when nobody answers: systemd holds the
// socket.
func (h *scriptedHost) Version(ctx context.Context) (string, error) {
	v := h.answer()
	if v == "" {
		<-ctx.Done()
		return "", errors.New("nobody answers")
	}
	return v, nil
}

func (h *scriptedHost) answer() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := ""
	switch {
	case h.dead:
	case h.back > 0 && h.merged == "two":
		v = "2.0.0"
	case h.back > 0:
		v = map[string]string{"": "1.0.0", "../one.raw": "1.5.0"}[h.merged]
	default:
		v, _ = h.script(time.Since(h.start))
	}
	return v
}

func (h *scriptedHost) Unit(ctx context.Context) (Unit, error) {
	if ctx.Err() != nil {
		return Unit{}, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, u := h.script(time.Since(h.start))
	return u, nil
}

func (h *scriptedHost) SetLink(link string) error {
	h.record("swing %q", link)
	h.link = link
	return nil
}

func (h *scriptedHost) Refresh(context.Context) error {
	h.record("refresh")
	if h.refuses > 0 {
		h.refuses--
		return errors.New("refresh failed")
	}
	h.merged = h.link
	if h.revives != nil {
		h.revives()
	}
	return nil
}

func (h *scriptedHost) Restart(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.record("restart")
	h.back = time.Since(h.start) + 1
	return nil
}

func (h *scriptedHost) Logf(string, ...any) {}

var active = Unit{Active: "active"}

// answersFrom is a version that answers from a time on; before it the old one does.
func answersFrom(from time.Duration, version string, u Unit) func(time.Duration) (string, Unit) {
	return func(at time.Duration) (string, Unit) {
		if at < from {
			return "1.5.0", active
		}
		return version, u
	}
}

func trial() Record {
	return Record{
		Operation: "op", Deadline: 60, Restarting: true,
		Previous: Side{Version: "1.5.0", Link: "../one.raw"}, Target: Side{Version: "2.0.0", Link: "../two.raw"},
	}
}

// judge lets the rescuer judge a trial, while keep keeps the target as soon as
// the rescuer has witnessed it, as the daemon does.
func runWatch(t *testing.T, r Record, h *scriptedHost, keep bool) (Record, error) {
	t.Helper()
	f := File{Dir: t.TempDir()}
	if err := f.Begin(r); err != nil {
		t.Fatal(err)
	}
	h.start, h.link, h.merged = time.Now(), "two", "two"
	done := make(chan struct{})
	if keep {
		go func() {
			defer close(done)
			for {
				r, err := f.Read()
				if err != nil || r.Verdict != "" {
					return
				}
				if r.Witnessed && f.Keep("op") == nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
	} else {
		close(done)
	}
	err := Watch(t.Context(), f, h)
	<-done
	r, rerr := f.Read()
	return r, errors.Join(err, rerr)
}

func TestTheRescuerJudges(t *testing.T) {
	for name, c := range map[string]struct {
		script func(time.Duration) (string, Unit)
		change func(*Record)
		want   Verdict
		reason string
		within time.Duration
	}{
		"a good version is kept":          {script: answersFrom(5*time.Second, "2.0.0", active), want: Kept},
		"one that never answers":          {script: answersFrom(2*time.Second, "", Unit{Active: "activating"}), want: Returned, reason: "not kept within 1m0s: it does not answer", within: 70 * time.Second},
		"one that lies about its version": {script: answersFrom(2*time.Second, "9.9.9", active), want: Returned, reason: "version 9.9.9 answers instead of 2.0.0", within: 8 * time.Second},
		"one whose unit fails":            {script: answersFrom(2*time.Second, "", Unit{Active: "failed"}), want: Returned, reason: "its service failed", within: 8 * time.Second},
		"one that is restarted again and again": {script: func(at time.Duration) (string, Unit) {
			return "", Unit{Active: "activating", Restarts: int(at / time.Second)}
		}, want: Returned, reason: "systemd had to restart it", within: 8 * time.Second},
		"one that crashes after it has answered": {script: func(at time.Duration) (string, Unit) {
			if at < 2*time.Second {
				return "2.0.0", active
			}
			return "2.0.0", Unit{Active: "active", Restarts: 1}
		}, want: Returned, reason: "it stopped after it had answered", within: 5 * time.Second},
		"one that goes by itself and is started again by its socket": {script: func(at time.Duration) (string, Unit) {
			if at < 2*time.Second {
				return "2.0.0", Unit{Active: "active", PID: 7}
			}
			return "2.0.0", Unit{Active: "active", PID: 8}
		}, want: Returned, reason: "it stopped after it had answered", within: 5 * time.Second},
		"one that falls silent": {script: func(at time.Duration) (string, Unit) {
			if at < 2*time.Second {
				return "2.0.0", active
			}
			return "", active
		}, want: Returned, reason: "it stopped answering", within: 30 * time.Second},
		"the old one that never goes": {script: answersFrom(time.Hour, "", active), want: Returned, reason: "version 1.5.0 answers", within: 65 * time.Second},
		"one that the daemon gave up but did not bring back": {script: answersFrom(0, "2.0.0", active),
			change: func(r *Record) { r.Returning, r.Reason = true, "its disk was full" }, want: Returned, reason: "its disk was full", within: 50 * time.Second},
		"one that was not kept in several boots": {script: answersFrom(0, "", active),
			change: func(r *Record) { r.Watches = maxWatches }, want: Returned, reason: "it was not kept in 4 boots", within: 8 * time.Second},
		"restarts of the old daemon do not count": {script: func(at time.Duration) (string, Unit) {
			if at < 5*time.Second {
				return "1.5.0", Unit{Active: "active", Restarts: 7}
			}
			return "2.0.0", active
		}, change: func(r *Record) { r.Restarting = false }, want: Kept},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, h := trial(), &scriptedHost{script: c.script}
				if c.change != nil {
					c.change(&r)
				}
				got, err := runWatch(t, r, h, true)
				if err != nil || got.Verdict != c.want || !strings.Contains(got.Reason, c.reason) {
					t.Fatalf("verdict %q, reason %q, %v; want %q, %q", got.Verdict, got.Reason, err, c.want, c.reason)
				}
				switch {
				case c.want == Kept && len(h.calls) > 0:
					t.Errorf("it did %v", h.calls)
				case c.want == Returned && (h.link != "../one.raw" || h.merged != h.link || h.back > c.within):
					t.Errorf("link %q, merged %q, back after %s; it did %v", h.link, h.merged, h.back, h.calls)
				}
			})
		})
	}
}

func TestAGoodVersionThatNobodyKeepsIsGivenUpAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := runWatch(t, trial(), &scriptedHost{script: answersFrom(0, "2.0.0", active)}, false)
		if err != nil || r.Verdict != Returned || !r.Witnessed {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestTheRescuerTriesAgainWhenARefreshFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &scriptedHost{script: answersFrom(0, "", Unit{Active: "failed"}), refuses: 1}
		r, err := runWatch(t, trial(), h, true)
		if err != nil || r.Verdict != Returned || h.merged != "../one.raw" {
			t.Errorf("%+v, %v; it did %v", r, err, h.calls)
		}
	})
}

func TestTheBaseIsTheLastResort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &scriptedHost{script: answersFrom(0, "", Unit{Active: "failed"}), refuses: returnTries}
		r, err := runWatch(t, trial(), h, true)
		if err != nil || r.Verdict != Returned || h.link != "" {
			t.Errorf("%+v, %v; it did %v", r, err, h.calls)
		}
	})
}

func TestTheRescuerReportsThatEveryAttemptFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &scriptedHost{script: answersFrom(0, "", Unit{Active: "failed"}), dead: true}
		r, err := runWatch(t, trial(), h, false)
		if err == nil || r.Verdict != "" || !r.Returning {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestAnEndedTrialIsNotRolledBackAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, h := File{Dir: t.TempDir()}, &scriptedHost{script: answersFrom(0, "9.9.9", active)}
		if err := f.Begin(trial()); err != nil {
			t.Fatal(err)
		}
		h.start = time.Now()
		// systemd starts the version before by itself, and that ends the trial.
		h.revives = func() {
			if err := f.Update("op", closeTrial); err != nil {
				t.Error(err)
			}
		}
		if err := Watch(t.Context(), f, h); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(h.calls, ", "); got != `swing "../one.raw", refresh` {
			t.Errorf("it did %s", got)
		}
	})
}

func TestWithoutATrialThereIsNothingToJudge(t *testing.T) {
	for _, verdict := range []Verdict{Kept, Returned} {
		f := File{Dir: t.TempDir()}
		r := trial()
		r.Verdict = verdict
		if err := f.Begin(r); err != nil {
			t.Fatal(err)
		}
		if err := Watch(t.Context(), f, &scriptedHost{}); err != nil {
			t.Error(err)
		}
	}
	if err := Watch(t.Context(), File{Dir: t.TempDir()}, &scriptedHost{}); err != nil {
		t.Error(err)
	}
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := File{Dir: t.TempDir()}
		if err := f.Begin(trial()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		h := &scriptedHost{start: time.Now(), script: answersFrom(0, "2.0.0", active)}
		if err := Watch(ctx, f, h); !errors.Is(err, context.DeadlineExceeded) || len(h.calls) > 0 {
			t.Errorf("%v; it did %v", err, h.calls)
		}
	})
}
