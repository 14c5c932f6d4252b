package rescue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakeHost is a host that says what it is told to say, and whose journal knows how
// processes ended.
type fakeHost struct {
	version string
	err     error
	unit    Unit
	ended   []Exit
	late    int // looks until the journal has the last end
	unknown bool
	calls   []string
}

func (s *fakeHost) Version(context.Context) (string, error) { return s.version, s.err }
func (s *fakeHost) Unit(context.Context) (Unit, error)      { return s.unit, nil }
func (*fakeHost) SetLink(string) error                      { return nil }
func (*fakeHost) Refresh(context.Context) error             { return nil }
func (s *fakeHost) Restart(context.Context) error           { s.calls = append(s.calls, "restart"); return nil }
func (*fakeHost) Logf(string, ...any)                       {}

func (s *fakeHost) Exits(context.Context) ([]Exit, error) {
	if s.unknown {
		return nil, errors.New("there is no journal")
	}
	if s.late > 0 && len(s.ended) > 0 {
		s.late--
		return s.ended[:len(s.ended)-1], nil
	}
	return s.ended, nil
}

func (s *fakeHost) run(pid int) Unit {
	return Unit{Active: "active", Restarts: s.unit.Restarts, PID: pid, Run: fmt.Sprint(pid)}
}

// start is the first process of a daemon, or one that a job has started.
func (s *fakeHost) start(pid int, version string) {
	s.unit.Restarts = 0
	s.unit, s.version = s.run(pid), version
}

// end is the end of the process, and the start of another one by systemd.
func (s *fakeHost) end(pid int, version string, killed bool) {
	s.ended = append(s.ended, Exit{Run: s.unit.Run, Killed: killed})
	s.unit.Restarts++
	s.unit, s.version = s.run(pid), version
}

// observeTimes observes so many times and returns the doubt, if one has any.
func observeTimes(t *testing.T, j *judge, s *fakeHost, r Record, n int) string {
	t.Helper()
	for range n {
		if why := j.observe(t.Context(), s, r); why != "" {
			return why
		}
	}
	return ""
}

func TestTheDeathOfTheOldDaemonIsNotTheTargets(t *testing.T) {
	for name, killed := range map[string]bool{"killed": true, "crashed": false} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, known=%v", name, known), func(t *testing.T) {
				r := trial()
				r.Restarting, r.Activating = false, true
				j, s := &judge{start: time.Now()}, &fakeHost{unknown: !known}
				s.start(10, r.Previous.Version)
				for pid := 11; pid < 16; pid++ { // again and again
					if why := observeTimes(t, j, s, r, 2); why != "" {
						t.Fatal(why)
					}
					s.end(pid, r.Previous.Version, killed)
				}
				if why := observeTimes(t, j, s, r, 2); why != "" {
					t.Fatal(why)
				}
				s.end(20, r.Target.Version, killed)
				if why := observeTimes(t, j, s, r, 5); why != "" {
					t.Fatalf("given up: %s", why)
				}
				r.Restarting = true
				if why := observeTimes(t, j, s, r, 5); why != "" || !j.isWitnessed() {
					t.Fatalf("given up: %s; witnessed %v", why, j.isWitnessed())
				}
			})
		}
	}
}

func TestATargetThatIsKilledIsNotBlamed(t *testing.T) {
	for _, late := range []int{0, 1} {
		r := trial()
		j, s := &judge{start: time.Now()}, &fakeHost{}
		s.start(10, r.Target.Version)
		for pid := 11; pid < 20; pid++ {
			if why := observeTimes(t, j, s, r, 4); why != "" {
				t.Fatal(why)
			}
			s.end(pid, r.Target.Version, true)
			s.late = late
		}
		if why := observeTimes(t, j, s, r, 4); why != "" {
			t.Error(why)
		}
	}
}

func TestATargetThatEndsByItselfIsBlamed(t *testing.T) {
	for name, c := range map[string]struct {
		unknown   bool
		late      int
		blameless bool
	}{
		"it is known at once":        {},
		"it is known a moment later": {late: 1},
		// It may have been killed.
		"nobody knows how": {unknown: true, blameless: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := trial()
			j, s := &judge{start: time.Now()}, &fakeHost{unknown: c.unknown}
			s.start(10, r.Target.Version)
			if why := observeTimes(t, j, s, r, 4); why != "" {
				t.Fatal(why)
			}
			s.end(11, r.Target.Version, false)
			s.late = c.late
			if why := observeTimes(t, j, s, r, 4); why != "it stopped after it had answered" || j.blameless != c.blameless {
				t.Errorf("%q, blameless=%v", why, j.blameless)
			}
		})
	}
}

func TestATargetThatNeverComesUpIsBlamedForItsOwnEnds(t *testing.T) {
	for name, c := range map[string]struct {
		killed bool
		want   string
	}{"by itself": {want: "systemd had to restart it 3 times"}, "killed": {killed: true}} {
		t.Run(name, func(t *testing.T) {
			r := trial()
			j, s := &judge{start: time.Now()}, &fakeHost{}
			s.start(10, r.Previous.Version)
			if why := observeTimes(t, j, s, r, 1); why != "" {
				t.Fatal(why)
			}
			s.start(11, "")
			s.err = errors.New("nobody answers")
			why := observeTimes(t, j, s, r, 1)
			for pid := 12; pid < 16 && why == ""; pid++ {
				s.end(pid, "", c.killed)
				why = observeTimes(t, j, s, r, 1)
			}
			if why != c.want || j.blameless {
				t.Errorf("%q, want %q; blameless=%v", why, c.want, j.blameless)
			}
		})
	}
}

func TestTheDeadlineBlamesOnlyWhoWasSeenToFail(t *testing.T) {
	for name, c := range map[string]struct {
		version   string
		unit      Unit
		change    func(*Record)
		blameless bool
	}{
		"it answers, and nobody keeps it": {version: "2.0.0", unit: active, blameless: true},
		"the old daemon does not go":      {version: "1.5.0", unit: active, blameless: true},
		"the old daemon does not stop":    {unit: Unit{Active: "deactivating"}, blameless: true},
		"it was never started":            {unit: active, change: func(r *Record) { r.Restarting = false }, blameless: true},
		"it does not answer":              {unit: active},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := trial()
				if c.change != nil {
					c.change(&r)
				}
				got, err := runWatch(t, r, &scriptedHost{script: answersFrom(0, c.version, c.unit)}, false)
				if err != nil || got.Verdict != Returned || got.Blameless != c.blameless || !strings.Contains(got.Reason, "not kept within 1m0s") {
					t.Errorf("%+v, %v", got, err)
				}
			})
		})
	}
}

func TestARescuerThatIsStartedAgainGoesOnWithTheDeadlineOfTheBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		f := File{Dir: t.TempDir(), Clock: func() (string, time.Duration) { return "boot", time.Since(began) + time.Hour }}
		if err := f.Begin(trial()); err != nil {
			t.Fatal(err)
		}
		h := &scriptedHost{start: began, script: answersFrom(0, "2.0.0", active), link: "two", merged: "two"}
		for range 20 { // killed every five seconds
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			err := Watch(ctx, f, h)
			cancel()
			if err == nil {
				break
			}
		}
		r, err := f.Read()
		if err != nil || r.Verdict != Returned || r.Watches != 1 || h.back < 60*time.Second || h.back > 70*time.Second {
			t.Errorf("%+v, %v; back after %s", r, err, h.back)
		}
	})
}

func TestASocketThatIsGoneIsMadeAgainAndNobodyIsBlamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := trial()
		j, s := &judge{start: time.Now()}, &fakeHost{}
		s.start(10, r.Target.Version)
		slowly := func(n int) {
			t.Helper()
			for range n {
				if why := observeTimes(t, j, s, r, 1); why != "" {
					t.Fatal(why)
				}
				time.Sleep(time.Second)
			}
		}
		slowly(4)
		s.err = fmt.Errorf("%w: no such file", ErrNoSocket)
		slowly(20)
		if len(s.calls) != 2 { // one try each ten seconds
			t.Errorf("it did %v", s.calls)
		}
		if j.isWitnessed() {
			t.Error("it counts as witnessed all the while")
		}
		s.err = nil
		s.start(11, r.Target.Version) // what making the socket again does to the daemon
		slowly(4)
		if !j.isWitnessed() {
			t.Error("it is not witnessed anew")
		}
	})
}

func TestARecordThatIsLostMeansGivenUp(t *testing.T) {
	for name, both := range map[string]bool{"one copy": false, "both copies": true} {
		for _, how := range damages() {
			t.Run(name+" "+how.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := File{Dir: t.TempDir()}
					if err := f.Begin(trial()); err != nil {
						t.Fatal(err)
					}
					h := &scriptedHost{start: time.Now(), script: answersFrom(0, "2.0.0", active), link: "two", merged: "two"}
					done := make(chan error)
					go func() { done <- Watch(t.Context(), f, h) }()
					time.Sleep(1500 * time.Millisecond)
					damage(t, f, how, both)
					time.Sleep(3 * time.Second)
					if !both {
						r, whole, err := f.read("op")
						if err != nil || !whole || r.Returning || len(h.calls) > 0 {
							t.Errorf("%+v, whole=%v, %v; it did %v", r, whole, err, h.calls)
						}
						if err := f.Keep("op"); err != nil {
							t.Error(err)
						}
					}
					err := <-done
					r, rerr := f.Read()
					if both && (r.Verdict != Returned || !r.Blameless || h.merged != "../one.raw") || errors.Join(err, rerr) != nil {
						t.Errorf("%+v, %v, %v; it did %v", r, err, rerr, h.calls)
					}
				})
			})
		}
	}
}

func TestARescuerWithoutARecordReturnsToTheBaseWhereNobodyAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		version, did string
		based        bool
	}{
		"nobody answers":                 {based: true, did: `swing "", refresh, restart`},
		"nobody answers, without a base": {},
		"somebody answers":               {based: true, version: "2.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				root := t.TempDir()
				f := File{Dir: t.TempDir(), Root: root}
				err := os.WriteFile(filepath.Join(f.Dir, recordName), nil, 0o600)
				if c.based {
					err = errors.Join(err, os.MkdirAll(filepath.Join(root, filepath.Dir(Base)), 0o755), os.WriteFile(filepath.Join(root, Base), []byte(`{"version":"1.0.0"}`), 0o644))
				}
				if err != nil {
					t.Fatal(err)
				}
				h := &scriptedHost{start: time.Now(), script: answersFrom(0, c.version, active), link: "two", merged: "two"}
				if err := Watch(t.Context(), f, h); !errors.Is(err, ErrRecordLost) {
					t.Error(err)
				}
				if got := strings.Join(h.calls, ", "); got != c.did {
					t.Errorf("it did %s", got)
				}
			})
		})
	}
}

// Its start times out, systemd asks it to stop, and it hangs in that too.
func TestATargetThatHangsAlsoWhenItIsToldToStopIsBlamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := func(at time.Duration) (string, Unit) {
			switch {
			case at < 3*time.Second:
				return "1.5.0", Unit{Active: "active", PID: 10}
			case at < 20*time.Second:
				return "", Unit{Active: "activating", PID: 11}
			}
			return "", Unit{Active: "deactivating", PID: 11}
		}
		got, err := runWatch(t, trial(), &scriptedHost{script: script}, false)
		if err != nil || got.Verdict != Returned || got.Blameless {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
