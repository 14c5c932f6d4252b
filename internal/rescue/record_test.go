package rescue

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func beginTrial(t *testing.T) File {
	t.Helper()
	f := File{Dir: t.TempDir()}
	if err := f.Begin(trial()); err != nil {
		t.Fatal(err)
	}
	return f
}

// closeTrial says of a trial that the previous version is back.
func closeTrial(r *Record) error {
	if r.Verdict == "" {
		r.Verdict = Returned
	}
	return nil
}

func TestTheVerdictIsGivenOnce(t *testing.T) {
	for range 50 {
		f := beginTrial(t)
		var keep, give error
		var both sync.WaitGroup
		both.Go(func() { keep = f.Keep("op") })
		both.Go(func() { give = f.GiveUp(Record{Operation: "op", Reason: "doubt"}) })
		both.Wait()
		r, err := f.Read()
		if err != nil || (keep == nil) == (give == nil) || (r.Verdict == Kept) != (keep == nil) || r.Returning != (give == nil) {
			t.Fatalf("keep: %v, return: %v, record %+v, %v", keep, give, r, err)
		}
	}
}

func TestAKeptVersionStaysAndAVersionThatWasGivenUpDoesNot(t *testing.T) {
	f := beginTrial(t)
	if err := errors.Join(f.Keep("op"), f.Keep("op"), f.Update("op", closeTrial)); err != nil {
		t.Fatal(err)
	}
	if err := f.GiveUp(Record{Operation: "op", Reason: "late"}); !errors.Is(err, ErrKept) {
		t.Errorf("return: %v", err)
	}
	if r, _ := f.Read(); r.Verdict != Kept {
		t.Errorf("%+v", r)
	}
	f = beginTrial(t)
	if err := errors.Join(f.GiveUp(Record{Operation: "op", Reason: "first"}), f.GiveUp(Record{Operation: "op", Reason: "second"}), f.Update("op", closeTrial)); err != nil {
		t.Fatal(err)
	}
	if err := f.Keep("op"); err == nil || !strings.Contains(err.Error(), "first") {
		t.Errorf("keep: %v", err)
	}
	if r, _ := f.Read(); r.Verdict != Returned || r.Reason != "first" {
		t.Errorf("%+v", r)
	}
}

func TestBeginningAgainKeepsTheRecordOfTheSameOperation(t *testing.T) {
	f := beginTrial(t)
	if err := f.Update("op", func(r *Record) error { r.Witnessed = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := f.Begin(trial()); err != nil {
		t.Fatal(err)
	}
	if r, _ := f.Read(); !r.Witnessed {
		t.Error("begun anew")
	}
	next := trial()
	next.Operation = "next"
	if err := f.Begin(next); err != nil {
		t.Fatal(err)
	}
	if r, _ := f.Read(); r.Operation != "next" || r.Witnessed {
		t.Errorf("%+v", r)
	}
	if err := f.Keep("op"); !errors.Is(err, ErrNoTrial) {
		t.Errorf("the old operation still decides: %v", err)
	}
}

func TestABrokenRecordIsAnError(t *testing.T) {
	for name, text := range map[string]string{"not JSON": "{", "too large": strings.Repeat(" ", maxRecord+1)} {
		f := File{Dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(f.Dir, recordName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(); err == nil || errors.Is(err, ErrNoTrial) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Watch(t.Context(), f, &scriptedHost{}); err == nil {
			t.Errorf("%s: judged", name)
		}
	}
}

// The text of the record is what the release before and after read.
func TestTheRecordKeepsItsForm(t *testing.T) {
	f := File{Dir: t.TempDir()}
	text := `{"operation":"op","previous":{"version":"1.0.0","link":""},"target":{"version":"2.0.0","link":"../trident/self/2.0.0.raw"},
		"deadline_seconds":180,"restarting":true,"witnessed":true,"returning":true,"reason":"r","watches":2,"verdict":"returned","from_the_future":1}`
	if err := os.WriteFile(filepath.Join(f.Dir, recordName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := Record{
		Operation: "op", Previous: Side{Version: "1.0.0"}, Target: Side{"2.0.0", "../trident/self/2.0.0.raw"}, Deadline: 180,
		Restarting: true, Witnessed: true, Returning: true, Reason: "r", Watches: 2, Verdict: Returned,
	}
	if r, err := f.Read(); err != nil || r != want {
		t.Errorf("%+v, %v", r, err)
	}
}

// A damaged copy of the record.
type damaged struct {
	name string
	do   func(path string) error
}

func text(s string) func(string) error {
	return func(path string) error {
		return errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(s), 0o600))
	}
}

func damages() []damaged {
	return []damaged{
		{"gone", os.Remove},
		{"empty", text("")},
		{"cut", func(path string) error { return os.Truncate(path, 100) }},
		{"noise", text("\x00\xff{}noise")},
		{"huge", func(path string) error { return os.Truncate(path, maxRecord+1) }},
		{"of another type", text(`{"operation":"op","deadline_seconds":"60"}`)},
		{"a list", text(`[]`)},
		{"null", text(`null`)},
		{"without an operation", text(`{}`)},
		{"with an unknown verdict", text(`{"operation":"op","deadline_seconds":60,"verdict":"undecided"}`)},
		{"with a deadline of years", text(`{"operation":"op","deadline_seconds":99999999999}`)},
		{"with a flipped fact", func(path string) error {
			data, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, []byte(strings.Replace(string(data), `"returning": false`, `"returning": true`, 1)), 0o600))
		}},
		{"a folder", func(path string) error {
			return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "sub"), 0o700))
		}},
		{"a link", func(path string) error {
			return errors.Join(os.Rename(path, path+".moved"), os.Symlink(path+".moved", path))
		}},
		{"a pipe", func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) }},
	}
}

func damage(t *testing.T, f File, how damaged, both bool) {
	t.Helper()
	names := []string{recordName}
	if both {
		names = append(names, copyName)
	}
	for _, name := range names {
		if err := how.do(filepath.Join(f.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADamagedCopyIsReadFromTheOtherAndWrittenAnew(t *testing.T) {
	for _, name := range []string{recordName, copyName} {
		for _, how := range damages() {
			t.Run(name+" "+how.name, func(t *testing.T) {
				f := beginTrial(t)
				if err := f.Update("op", func(r *Record) error { r.Witnessed = true; return nil }); err != nil {
					t.Fatal(err)
				}
				if err := how.do(filepath.Join(f.Dir, name)); err != nil {
					t.Fatal(err)
				}
				if r, err := f.Read(); err != nil || !r.Witnessed {
					t.Errorf("read: %+v, %v", r, err)
				}
				if err := f.Keep("op"); err != nil {
					t.Error(err)
				}
				if r, whole, err := f.read("op"); err != nil || !whole || r.Verdict != Kept {
					t.Errorf("%+v, whole=%v, %v", r, whole, err)
				}
			})
		}
	}
}

func TestALostRecordIsGivenUpAndNeverKept(t *testing.T) {
	for _, how := range damages() {
		t.Run(how.name, func(t *testing.T) {
			f := beginTrial(t)
			damage(t, f, how, true)
			if err := f.Keep("op"); err == nil {
				t.Error("kept")
			}
			known := trial()
			known.Reason = "doubt"
			if err := f.GiveUp(known); err != nil {
				t.Error(err)
			}
			if r, whole, err := f.read("op"); err != nil || !whole || !r.Returning || r.Reason != "doubt" || r.Verdict != "" {
				t.Errorf("%+v, whole=%v, %v", r, whole, err)
			}
			if err := f.Keep("op"); err == nil || !strings.Contains(err.Error(), "doubt") {
				t.Errorf("keep: %v", err)
			}
			known.Verdict = Returned
			if err := f.GiveUp(known); err != nil {
				t.Error(err)
			}
			if r, err := f.Trial("op"); err != nil || r.Verdict != Returned {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestTheRecordOfAnotherOperationInOneCopyDoesNotCount(t *testing.T) {
	f := beginTrial(t)
	other := File{Dir: t.TempDir()}
	if err := other.Begin(Record{Operation: "other", Deadline: 60, Verdict: Kept}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other.Dir, recordName), filepath.Join(f.Dir, recordName)); err != nil {
		t.Fatal(err)
	}
	if r, err := f.Trial("op"); err != nil || r.Verdict != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := f.GiveUp(trial()); err != nil {
		t.Error(err)
	}
	if r, err := f.Read(); err != nil || r.Operation != "op" || !r.Returning {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestARollbackWaitsForTheLockOfAStrangerAndThenContinuesWithoutIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := beginTrial(t)
		stranger, err := lock(filepath.Join(f.Dir, lockName))
		if err != nil {
			t.Fatal(err)
		}
		defer stranger.Close()
		began := time.Now()
		if err := f.Keep("op"); !errors.Is(err, ErrLocked) || time.Since(began) < lockTimeout {
			t.Errorf("keep: %v after %s", err, time.Since(began))
		}
		known := trial()
		known.Reason = "doubt"
		if err := f.GiveUp(known); !errors.Is(err, ErrLocked) {
			t.Errorf("give up: %v", err)
		}
		if r, err := f.Read(); err != nil || !r.Returning {
			t.Errorf("%+v, %v", r, err)
		}
		h := &scriptedHost{start: time.Now(), script: answersFrom(0, "9.9.9", active)}
		if err := Watch(t.Context(), f, h); err != nil || h.merged != "../one.raw" {
			t.Errorf("watch: %v; it did %v", err, h.calls)
		}
		if r, err := f.Read(); err != nil || r.Verdict != Returned {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestALockFileThatIsSomethingElseIsReplaced(t *testing.T) {
	for _, how := range damages() {
		if how.name == "huge" || how.name == "cut" {
			continue // a lock has no content
		}
		t.Run(how.name, func(t *testing.T) {
			f := beginTrial(t)
			if err := how.do(filepath.Join(f.Dir, lockName)); err != nil {
				t.Fatal(err)
			}
			if err := f.Keep("op"); err != nil {
				t.Error(err)
			}
		})
	}
}

// The release before writes one copy, without a checksum.
func TestTheRecordOfAReleaseWithOneCopyCounts(t *testing.T) {
	f := beginTrial(t)
	text := `{"operation":"op","target":{"version":"2.0.0","link":""},"deadline_seconds":60,"verdict":"kept"}`
	if err := os.WriteFile(filepath.Join(f.Dir, recordName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := f.Trial("op"); err != nil || r.Verdict != Kept {
		t.Errorf("%+v, %v", r, err)
	}
}

// The next release writes more fields, and a checksum over all of them.
func TestTheChecksumIsOfAllFieldsWhicheverTheyAre(t *testing.T) {
	plain := []byte(`{"operation": "op", "deadline_seconds": 60, "from_the_future": {"a": [1, 2]}}`)
	_, sum, err := checksum(plain)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := decode([]byte(strings.Replace(string(plain), "{", `{"sum":"`+sum+`",`, 1))); err != nil || r.Operation != "op" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := decode([]byte(`{"sum":"` + sum + `","operation":"op","deadline_seconds":61,"from_the_future":{"a":[1,2]}}`)); err == nil {
		t.Errorf("%+v", r)
	}
}

func TestTheBootUnitIsWrittenAnewWhereItIsDamaged(t *testing.T) {
	for _, path := range []string{BootUnitPath, BootWantsPath} {
		for _, how := range damages() {
			if path == BootWantsPath && (how.name == "cut" || how.name == "huge" || how.name == "with a flipped fact") {
				continue // of the file behind the link
			}
			t.Run(filepath.Ext(path)+how.name, func(t *testing.T) {
				root := t.TempDir()
				if wrote, err := EnsureBootUnit(root); !wrote || err != nil {
					t.Fatal(wrote, err)
				}
				if how.name != "with a flipped fact" {
					if err := how.do(filepath.Join(root, path)); err != nil {
						t.Fatal(err)
					}
					if wrote, err := EnsureBootUnit(root); !wrote || err != nil {
						t.Error(wrote, err)
					}
				}
				if wrote, err := EnsureBootUnit(root); wrote || err != nil {
					t.Error(wrote, err)
				}
				if got, err := os.ReadFile(filepath.Join(root, BootWantsPath)); err != nil || string(got) != BootUnit {
					t.Errorf("%q, %v", got, err)
				}
				if err := RemoveBootUnit(root); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
