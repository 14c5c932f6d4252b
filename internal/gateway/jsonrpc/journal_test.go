package jsonrpc

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// entriesOf is how many entries the journal of the fake has before it waits.
const entriesOf = 2500

// Journal sends the entries 1 to entriesOf in messages of 300, then follows: it restarts
// d.restarts times, each after another entry.
func (d *daemon) Journal(r *machinev1.JournalRequest, stream grpc.ServerStreamingServer[machinev1.JournalResponse]) error {
	d.mu.Lock()
	d.journal = append(d.journal, r)
	long := d.long
	d.mu.Unlock()
	if r.GetGrep() == "(" {
		return status.Error(codes.InvalidArgument, "read the journal: the pattern is not closed")
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	next := 1
	if r.GetTail() > 0 {
		next = entriesOf - int(r.GetTail()) + 1
	} else if r.GetAfterCursor() != "" {
		n, err := strconv.Atoi(r.GetAfterCursor())
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		next = n + 1
	}
	for next <= entriesOf {
		out := &machinev1.JournalResponse{}
		for range max(1, min(300, 1_000_000/(long+1))) {
			if next > entriesOf {
				break
			}
			out.Entries = append(out.Entries, &machinev1.JournalEntry{Cursor: fmt.Sprint(next), Message: fmt.Sprint("entry ", next, strings.Repeat("x", long)), Unit: "ssh.service"})
			next++
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
	if !r.GetFollow() {
		return nil
	}
	if err := stream.Send(&machinev1.JournalResponse{Entries: []*machinev1.JournalEntry{{Cursor: fmt.Sprint(next), Message: "new"}}}); err != nil {
		return err
	}
	d.mu.Lock()
	d.restarts--
	ends := d.restarts >= 0
	d.mu.Unlock()
	if ends {
		return status.Error(codes.Unavailable, "tridentd restarts")
	}
	<-stream.Context().Done()
	return nil
}

type journalPage struct {
	Entries      []struct{ Cursor, Message, Unit, OmittedBytes string }
	Cursor       string
	Subscription string
}

func TestTheJournalIsReadPageByPage(t *testing.T) {
	both(t, func(t *testing.T, f *fixture, call func(string) string) {
		page := func(params string) journalPage {
			t.Helper()
			text := call(`{"jsonrpc":"2.0","method":"machine.journal","params":` + params + `,"id":1}`)
			var got struct{ Result journalPage }
			if err := json.Unmarshal([]byte(text), &got); err != nil || strings.Contains(text, `"error"`) {
				t.Fatalf("%s: %.200s %v", params, text, err)
			}
			return got.Result
		}
		last := page(`{}`)
		if len(last.Entries) != 100 || last.Entries[0].Cursor != "2401" || last.Cursor != "2500" || last.Entries[0].Unit != "ssh.service" {
			t.Errorf("the last entries: %d from %s, cursor %s", len(last.Entries), last.Entries[0].Cursor, last.Cursor)
		}
		var got []string
		for cursor := "0"; ; {
			p := page(`{"cursor":"` + cursor + `","limit":1000,"unit":"ssh*","priority":3}`)
			for _, e := range p.Entries {
				got = append(got, e.Cursor)
			}
			if len(p.Entries) == 0 {
				if p.Cursor != cursor {
					t.Errorf("an empty page moves the cursor to %s", p.Cursor)
				}
				break
			}
			cursor = p.Cursor
		}
		if len(got) != entriesOf || got[0] != "1" || got[entriesOf-1] != fmt.Sprint(entriesOf) {
			t.Errorf("%d entries", len(got))
		}
		r := f.daemon.journal[len(f.daemon.journal)-1]
		if r.GetUnits()[0] != "ssh*" || r.GetMaxPriority() != 3 || r.GetFollow() || r.GetTail() != 0 {
			t.Errorf("tridentd was asked for %v", r)
		}
		if p := page(`{"since":"2026-01-02T03:04:05Z","boot":"0","grep":"x","limit":2}`); len(p.Entries) != 2 || p.Cursor != "2" {
			t.Errorf("%+v", p)
		}
		f.daemon.long = 100_000
		if p := page(`{"limit":1000}`); len(p.Entries) != 10 || p.Cursor != "1510" {
			t.Errorf("long entries: %d, cursor %s", len(p.Entries), p.Cursor)
		}
		f.daemon.long = 3 << 19
		if p := page(`{"cursor":"7"}`); len(p.Entries) != 1 || p.Cursor != "8" {
			t.Errorf("an entry that is longer than a page: %d, cursor %s", len(p.Entries), p.Cursor)
		}
		f.daemon.long = 2 << 20
		if p := page(`{"cursor":"7","limit":3}`); len(p.Entries) != 3 || p.Cursor != "10" || p.Entries[2].Message != "" || p.Entries[2].OmittedBytes == "0" {
			t.Errorf("entries that are too long: %+v", p)
		}
		for params, want := range map[string]string{
			`{"limit":0}`: "-32602 id=1", `{"limit":1001}`: "-32602 id=1", `{"priority":"err"}`: "-32602 id=1", `{"since":"yesterday"}`: "-32602 id=1", `{"tail":3}`: "-32602 id=1", `{"grep":"("}`: "3 id=1",
		} {
			if got := brief(call(`{"jsonrpc":"2.0","method":"machine.journal","params":` + params + `,"id":1}`)); got != want {
				t.Errorf("%s: %s, want %s", params, got, want)
			}
		}
		for _, a := range f.gate.actions {
			if a.Name == "machine.journal" && a.Right != "secret" {
				t.Errorf("%+v", a)
			}
		}
	})
}

func followJournal(params string) string {
	return `{"jsonrpc":"2.0","method":"notifications.subscribe","params":{"topic":"journal"` + params + `},"id":"s"}`
}

// Each entry comes once and in order, although tridentd restarts.
func TestTheJournalIsFollowed(t *testing.T) {
	f := newFixture(t)
	f.daemon.restarts = 1
	c := f.dial("Authorization", "Bearer t")
	c.send(followJournal(`,"cursor":"1000","unit":"ssh.service"`))
	next := 1001
	for next <= entriesOf+2 {
		text := c.read()
		if strings.Contains(text, `"id":"s"`) {
			continue
		}
		var got struct {
			Method string
			Params journalPage
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Method != "notify.journal" || got.Params.Subscription != "s1" {
			t.Fatalf("%.300s %v", text, err)
		}
		for _, e := range got.Params.Entries {
			if e.Cursor != fmt.Sprint(next) {
				t.Fatalf("entry %s, want %d", e.Cursor, next)
			}
			next++
		}
		if got.Params.Cursor != fmt.Sprint(next-1) || len(got.Params.Entries) > maxEntries {
			t.Errorf("%d entries, the cursor is %s", len(got.Params.Entries), got.Params.Cursor)
		}
	}
	for text, want := range map[string]string{
		followJournal(`,"id":"op"`): "-32602", followJournal(`,"grep":"("`): "3", followJournal(`,"afterSequence":7`): "-32602",
		`{"jsonrpc":"2.0","method":"notifications.subscribe","params":{"topic":"load","unit":"x"},"id":"s"}`: "-32602",
	} {
		if got := brief(c.call(text)); got != want+` id="s"` {
			t.Errorf("%s: %s", text, got)
		}
	}
	for _, a := range f.gate.actions {
		if a.GRPC == "/trident.machine.v1.LogService/Journal" && a.Right != "secret" {
			t.Errorf("%+v", a)
		}
	}
}

// A reader that is slow but reads gets the end of its subscription, with the cursor after which
// it can go on, and keeps its connection.
func TestAReaderOfTheJournalThatIsSlowCanGoOn(t *testing.T) {
	f := newFixture(t)
	f.server.slowTime = 1 // so that each reader is slow
	c := f.dial("Authorization", "Bearer t")
	c.send(followJournal(`,"cursor":"0"`))
	last := "0"
	for hasEnded, isAnswered := false, false; !hasEnded || !isAnswered; { // the answer may come last
		text := c.read()
		var got struct {
			Method string
			Params struct {
				journalPage
				Error struct{ Code int }
			}
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		switch got.Method {
		case "notify.journal":
			last = got.Params.Cursor
		case "notify.end":
			if got.Params.Cursor != last || last == "0" || got.Params.Error.Code != 8 {
				t.Errorf("the end is %s; the last cursor was %s", text, last)
			}
			hasEnded = true
		case "":
			isAnswered = true
		}
	}
	if got := brief(c.call(`{"jsonrpc":"2.0","method":"version","id":1}`)); got != `{"version":"1.2.3"} id=1` {
		t.Error(got)
	}
}
