package rescue

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func begun(t *testing.T) File {
	t.Helper()
	f := File{Dir: t.TempDir()}
	if err := f.Begin(trial()); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTheVerdictIsGivenOnce(t *testing.T) {
	for range 50 {
		f := begun(t)
		var keep, give error
		var both sync.WaitGroup
		both.Go(func() { keep = f.Keep("op") })
		both.Go(func() { give = f.Return("op", "doubt") })
		both.Wait()
		r, err := f.Read()
		if err != nil || (keep == nil) == (give == nil) || (r.Verdict == Kept) != (keep == nil) || r.Returning != (give == nil) {
			t.Fatalf("keep: %v, return: %v, record %+v, %v", keep, give, r, err)
		}
	}
}

func TestWhatWasKeptStaysAndWhatWasGivenUpDoesNot(t *testing.T) {
	f := begun(t)
	if err := errors.Join(f.Keep("op"), f.Keep("op"), f.Close("op")); err != nil {
		t.Fatal(err)
	}
	if err := f.Return("op", "late"); !errors.Is(err, ErrKept) {
		t.Errorf("return: %v", err)
	}
	if r, _ := f.Read(); r.Verdict != Kept {
		t.Errorf("%+v", r)
	}
	f = begun(t)
	if err := errors.Join(f.Return("op", "first"), f.Return("op", "second"), f.Close("op")); err != nil {
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
	f := begun(t)
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
	if err := f.Keep("op"); !errors.Is(err, ErrNone) {
		t.Errorf("the old operation still decides: %v", err)
	}
}

func TestABrokenRecordIsAnError(t *testing.T) {
	for name, text := range map[string]string{"not JSON": "{", "too large": strings.Repeat(" ", maxRecord+1)} {
		f := File{Dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(f.Dir, recordName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(); err == nil || errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Watch(t.Context(), f, &host{}); err == nil {
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
