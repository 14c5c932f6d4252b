package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

// tool is a journalctl that writes a text, and then fails with an error.
type tool struct {
	text  io.Reader
	fault error
	args  []string
}

func (f *tool) Stream(_ context.Context, name string, args ...string) (io.ReadCloser, error) {
	f.args = append([]string{name}, args...)
	if f.text == nil {
		return nil, f.fault
	}
	return io.NopCloser(io.MultiReader(f.text, &failing{f.fault})), nil
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

func entries(t *testing.T, text string, q Query) ([]Entry, error) {
	t.Helper()
	var got []Entry
	s := &Service{Root: "/", Tools: &tool{text: strings.NewReader(text)}}
	err := s.Journal(t.Context(), q, func(batch []Entry) error { got = append(got, batch...); return nil })
	return got, err
}

func line(cursor, fields string) string {
	return fmt.Sprintf(`{"__CURSOR":%q,"__REALTIME_TIMESTAMP":"1700000000123456","__MONOTONIC_TIMESTAMP":"2500000","_BOOT_ID":"b0"%s}`+"\n", cursor, fields)
}

func TestAnEntryIsRead(t *testing.T) {
	got, err := entries(t, line("s=1", `,"MESSAGE":"hello","PRIORITY":"3","_PID":"42","_SYSTEMD_UNIT":"a.service","SYSLOG_IDENTIFIER":"a"`)+
		line("s=2", `,"MESSAGE":[255,0,10],"X":["one","two",[1,2]],"NULL":null,"EMPTY":[]`), Query{AllFields: true})
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	e := got[0]
	if e.Cursor != "s=1" || !e.Time.Equal(time.UnixMicro(1700000000123456)) || e.Monotonic != 2500*time.Millisecond || e.BootID != "b0" ||
		string(e.Message) != "hello" || *e.Priority != 3 || e.PID != 42 || e.Unit != "a.service" || e.Identifier != "a" {
		t.Errorf("%+v", e)
	}
	if e = got[1]; !bytes.Equal(e.Message, []byte{255, 0, 10}) || e.Priority != nil || e.PID != 0 {
		t.Errorf("binary: %+v", e)
	}
	var x []string
	for _, f := range e.Fields {
		if f.Name == "X" {
			x = append(x, string(f.Value))
		}
	}
	if !slices.Equal(x, []string{"one", "two", "\x01\x02"}) || !slices.IsSortedFunc(e.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%q in %v", x, e.Fields)
	}
}

func TestAnEntryThatIsTooLargeOrNotAnEntryIsMarked(t *testing.T) {
	huge := line("s=1", `,"MESSAGE":"`+strings.Repeat("x", maxEntry)+`"`)
	got, err := entries(t, huge+"no JSON\n"+line("s=2", "")+`{"MESSAGE":"no cursor"}`+"\n"+`{"__CURSOR":"s=3","X":{"a":1}}`+"\n"+line("s=4", ""), Query{})
	if err != nil || len(got) != 6 {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	if got[0].Omitted != int64(len(huge)) || got[0].Message != nil || got[1].Omitted != 8 || got[2].Cursor != "s=2" || got[3].Omitted == 0 || got[4].Cursor != "s=3" || got[5].Cursor != "s=4" {
		t.Errorf("%+v", got)
	}
}

func TestTheArgumentsOfJournalctl(t *testing.T) {
	four, f := int32(4), &tool{text: strings.NewReader("")}
	s := &Service{Root: "/", Tools: f}
	q := Query{
		Units: []string{"ssh*", "-x.service"}, MaxPriority: &four, Since: time.Unix(1700000000, 5000), Boot: "0123456789abcdef-0123456789abcdef", Grep: "a|b",
		After: "s=1;i=2", Tail: 7, Follow: true,
	}
	if err := s.Journal(t.Context(), q, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--unit=ssh*", "--unit=-x.service", "--priority=4", "--since=@1700000000.000005", "--boot=0123456789abcdef0123456789abcdef", "--grep=a|b",
		"--after-cursor=s=1;i=2", "--lines=7", "--follow", "--output=json", "--all"} {
		if !slices.Contains(f.args, want) {
			t.Errorf("%q lacks %s", f.args, want)
		}
	}
	if slices.ContainsFunc(f.args[1:], func(a string) bool { return !strings.HasPrefix(a, "--") }) {
		t.Errorf("%q has an argument that is not an option", f.args)
	}
	if args, err := (Query{Follow: true, Boot: "-1"}).arguments(); err != nil || !slices.Contains(args, "--no-tail") || !slices.Contains(args, "--boot=-1") {
		t.Errorf("%q, %v", args, err)
	}
}

func TestAQueryThatCannotBeIsRefused(t *testing.T) {
	nine, less := int32(9), int32(-1)
	for name, q := range map[string]Query{
		"priority": {MaxPriority: &nine}, "negative priority": {MaxPriority: &less}, "unit": {Units: []string{""}}, "unit with a line break": {Units: []string{"a\nb"}},
		"units": {Units: make([]string, 65)}, "boot": {Boot: "yesterday"}, "boot option": {Boot: "--x"}, "pattern": {Grep: strings.Repeat("x", 1025)}, "cursor": {After: "a\x00"},
		"tail": {Tail: -1}, "long tail": {Tail: maxTail + 1}, "time": {Since: time.Unix(-5, 0)}, "late time": {Until: time.Unix(1<<40, 0)},
	} {
		s := &Service{Root: "/", Tools: &tool{fault: errors.New("it ran")}}
		if err := s.Journal(t.Context(), q, nil); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheErrorsOfJournalctl(t *testing.T) {
	for _, c := range []struct {
		says string
		q    Query
		kind errkind.Kind
	}{
		{"Failed to seek to cursor: Invalid argument", Query{After: "x"}, errkind.Invalid},
		{"Bad pattern \"(\": missing closing parenthesis", Query{Grep: "("}, errkind.Invalid},
		{"No journal boot entry found for the specified boot (-9).", Query{Boot: "-9"}, errkind.NotFound},
		{"Segmentation fault", Query{}, errkind.Internal},
	} {
		exit := &run.ExitError{Tool: "journalctl", Status: "exit status 1", Output: c.says}
		s := &Service{Root: "/", Tools: &tool{text: strings.NewReader(line("s=1", "")), fault: exit}}
		got := 0
		err := s.Journal(t.Context(), c.q, func(b []Entry) error { got += len(b); return nil })
		if errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "read the journal: ") || got != 1 {
			t.Errorf("%v (%s), %d entries", err, errkind.Of(err), got)
		}
	}
	s := &Service{Root: "/", Tools: &tool{text: strings.NewReader(""), fault: &run.ExitError{Tool: "journalctl", Status: "exit status 1"}}}
	if err := s.Journal(t.Context(), Query{Grep: "x"}, nil); err != nil {
		t.Errorf("a pattern that no entry matches: %v", err)
	}
}

func TestStreamsAreCounted(t *testing.T) {
	s := &Service{Root: t.TempDir(), Tools: &tool{text: strings.NewReader("")}}
	var ends []func()
	for range MaxStreams {
		end, err := s.begin("x")
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	if err := s.Journal(t.Context(), Query{}, nil); errkind.Of(err) != errkind.Unavailable || errkind.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
	if err := s.Kernel(t.Context(), KernelQuery{}, nil); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("got %v", err)
	}
	ends[0]()
	if err := s.Journal(t.Context(), Query{}, nil); err != nil {
		t.Error(err)
	}
}

// flood writes entries without end, and counts the bytes that were read.
type flood struct {
	line []byte
	rest []byte
	read atomic.Int64
	most int64
}

func (f *flood) Read(p []byte) (int, error) {
	if f.most > 0 && f.read.Load() >= f.most {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) {
		if len(f.rest) == 0 {
			f.rest = f.line
		}
		k := copy(p[n:], f.rest)
		n, f.rest = n+k, f.rest[k:]
	}
	f.read.Add(int64(n))
	return n, nil
}

func newFlood(entries int) *flood {
	one := []byte(line("s=0123456789abcdef0123456789abcdef;i=1234;b=0123456789abcdef0123456789abcdef;m=1234;t=1234;x=1234",
		`,"MESSAGE":"`+strings.Repeat("a line of a program ", 6)+`","PRIORITY":"6","_PID":"42","_SYSTEMD_UNIT":"a.service","SYSLOG_IDENTIFIER":"a"`))
	return &flood{line: one, most: int64(len(one)) * int64(entries)}
}

// A reader that never reads: what was read from the journal stays below a batch and a buffer.
func TestAReaderThatNeverReadsHoldsTheJournalUp(t *testing.T) {
	f := newFlood(0)
	f.most = 0
	s := &Service{Root: "/", Tools: &tool{text: f}}
	ctx, cancel := context.WithCancel(t.Context())
	blocked, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		done <- s.Journal(ctx, Query{Follow: true}, func([]Entry) error {
			blocked <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-blocked
	first := f.read.Load()
	runtime.GC()
	if now := f.read.Load(); now != first || now > 2*maxBatchBytes {
		t.Errorf("%d bytes were read, then %d", first, now)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// 60,000 entries pass, and the memory in use stays small.
func TestManyEntriesNeedLittleMemory(t *testing.T) {
	s := &Service{Root: "/", Tools: &tool{text: newFlood(60_000)}}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	most, count, batches := uint64(0), 0, 0
	err := s.Journal(t.Context(), Query{}, func(b []Entry) error {
		count += len(b)
		if batches++; batches%100 == 0 {
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapInuse)
		}
		return nil
	})
	if err != nil || count < 59_000 {
		t.Fatalf("%d entries, %v", count, err)
	}
	if grown := int64(most) - int64(before.HeapInuse); grown > 32<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// The goal is 10,000 entries in a second.
func BenchmarkFollowTheJournal(b *testing.B) {
	f := newFlood(b.N)
	s := &Service{Root: "/", Tools: &tool{text: f}}
	count := 0
	b.ReportAllocs()
	for b.Loop() {
		f.read.Store(0)
		f.most = int64(len(f.line)) * 10_000
		if err := s.Journal(b.Context(), Query{}, func(e []Entry) error { count += len(e); return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "entries/s")
}

func FuzzAnEntryOfTheJournal(f *testing.F) {
	for _, text := range []string{
		line("s=1", `,"MESSAGE":"hello","PRIORITY":"3"`), line("s=1", `,"MESSAGE":[255,0]`), line("s=1", `,"X":["a",[1,2],"b"],"Y":null`), `{"__CURSOR":[1,2]}`, `{"__CURSOR":"a","X":[[[1]]]}`,
		`{"__CURSOR":"a","PRIORITY":"99","_PID":"-1","__MONOTONIC_TIMESTAMP":"99999999999999999999"}`, `[]`, `{}`, `{"__CURSOR":"a","X":[256]}`, `{"__CURSOR":"a","X":["\ud800"]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := parseEntry(text, true)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Errorf("got %v", err)
			}
			return
		}
		if e.Cursor == "" || e.Priority != nil && (*e.Priority < 0 || *e.Priority > 7) || e.Monotonic < 0 {
			t.Errorf("%+v", e)
		}
	})
}
