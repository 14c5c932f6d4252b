package systemd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/systemd"
)

func TestTheJournalIsAskedForUnitsSinceATime(t *testing.T) {
	var calls []string
	tools := run.Func(func(_ context.Context, name string, args ...string) ([]byte, error) {
		calls = append(calls, name+" "+strings.Join(args, " "))
		return []byte("one\ntwo\n"), nil
	})
	out, err := systemd.JournalTail(t.Context(), tools, []string{"a.service", "-b.service"}, time.Unix(1700000000, 5), 100)
	if err != nil || string(out) != "one\ntwo\n" {
		t.Errorf("%q, %v", out, err)
	}
	want := []string{
		"journalctl --sync",
		"journalctl --no-pager --quiet --output=short-iso --since=@1700000000 --unit=a.service --unit=-b.service --lines=2000",
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyTheLastWholeLinesOfTheJournalAreKept(t *testing.T) {
	for _, c := range []struct {
		text string
		max  int
		want string
	}{
		{"aa\nbb\ncc\n", 9, "aa\nbb\ncc\n"},
		{"aa\nbb\ncc\n", 8, "bb\ncc\n"},
		{"aa\nbb\ncc\n", 6, "bb\ncc\n"},
		{"aa\nbb\ncc\n", 5, "cc\n"},
		{"aa\nbb\ncc\n", 2, ""},
		{"", 2, ""},
	} {
		tools := run.Func(func(context.Context, string, ...string) ([]byte, error) { return []byte(c.text), nil })
		out, err := systemd.JournalTail(t.Context(), tools, []string{"a"}, time.Time{}, c.max)
		if err != nil || string(out) != c.want {
			t.Errorf("%q cut to %d: %q, %v; want %q", c.text, c.max, out, err, c.want)
		}
	}
}

func TestAJournalWithVeryLongLinesIsAskedForFewer(t *testing.T) {
	tools := run.Func(func(_ context.Context, _ string, args ...string) ([]byte, error) {
		if strings.Contains(strings.Join(args, " "), "--lines=20") {
			return []byte("few\n"), nil
		}
		return nil, errkind.Errorf(errkind.TooLarge, "too much")
	})
	out, err := systemd.JournalTail(t.Context(), tools, []string{"a"}, time.Time{}, 100)
	if err != nil || string(out) != "few\n" {
		t.Errorf("%q, %v", out, err)
	}
	always := run.Func(func(context.Context, string, ...string) ([]byte, error) {
		return nil, errkind.Errorf(errkind.TooLarge, "too much")
	})
	if _, err := systemd.JournalTail(t.Context(), always, []string{"a"}, time.Time{}, 100); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("got %v", err)
	}
}

func TestAJournalThatCannotBeReadIsAnErrorThatNamesTheUnits(t *testing.T) {
	cause := errors.New("cause")
	tools := run.Func(func(context.Context, string, ...string) ([]byte, error) { return nil, cause })
	_, err := systemd.JournalTail(t.Context(), tools, []string{"a.service"}, time.Time{}, 100)
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "read the journal of [a.service]: ") {
		t.Errorf("got %v", err)
	}
}

func TestAClockThatWasSetBackHidesNothingFromTheJournal(t *testing.T) {
	var last string
	tools := run.Func(func(_ context.Context, _ string, args ...string) ([]byte, error) {
		last = strings.Join(args, " ")
		return nil, nil
	})
	// As a record that was read has it: a time of the clock alone.
	if _, err := systemd.JournalTail(t.Context(), tools, []string{"a"}, time.Now().Add(time.Hour).Round(0), 100); err != nil || strings.Contains(last, "--since") {
		t.Errorf("since a time that has not come yet: %q, %v", last, err)
	}
	noon := time.Unix(1700000000, 0)
	for _, c := range []struct {
		name    string
		elapsed time.Duration
		now     time.Time
		want    time.Time
	}{
		{"a clock that goes on", time.Minute, noon.Add(time.Minute), noon},
		{"set back in between", time.Minute, noon.Add(-time.Hour), noon.Add(-time.Hour - time.Minute)},
		{"set on in between", time.Minute, noon.Add(time.Hour), noon},
		{"set back, and nobody knows how far", -time.Hour, noon.Add(-time.Hour), time.Time{}},
	} {
		if got := systemd.Earliest(noon, c.elapsed, c.now); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
