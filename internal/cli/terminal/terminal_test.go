package terminal

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// vt is a terminal, as far as the command needs one. Like most terminals it breaks
// lines that are too long, and breaks them anew when its width changes.
type vt struct {
	columns int
	lines   [][]string // of each line the cells; the second one of a wide character is ""
	at      int        // in the last line, where the cursor is
	row     int        // the line of the cursor
	wraps   int        // lines that were written too long
	full    bool       // the cursor is behind the last column of its row
	clips   bool       // what is too long is not broken (DECAWM is off)
	strange []string   // what it was asked for and does not know
}

func newVT(columns int) *vt { return &vt{columns: columns, lines: make([][]string, 1)} }

var escape = regexp.MustCompile(`^\x1b\[([?0-9;]*)([A-Za-z])`)

func (v *vt) Write(p []byte) (int, error) {
	for s := string(p); s != ""; {
		if m := escape.FindStringSubmatch(s); m != nil {
			v.control(m[1], m[2])
			s = s[len(m[0]):]
			continue
		}
		r := []rune(s)[0]
		v.put(r)
		s = s[len(string(r)):]
	}
	return len(p), nil
}

func (v *vt) put(r rune) {
	line := v.lines[v.row]
	switch {
	case r == '\r':
		v.at -= v.column()
		v.full = false
	case r == '\n':
		v.row, v.at, v.full = v.row+1, 0, false
		if v.row == len(v.lines) {
			v.lines = append(v.lines, nil)
		}
	case unicode.In(r, unicode.Mn, unicode.Me):
		line[v.at-1] += string(r)
	case r < ' ':
		v.strange = append(v.strange, fmt.Sprintf("%q", r))
	default:
		cells := []string{string(r)}
		if isWide(r) {
			cells = append(cells, "")
		}
		switch fits := !v.full && v.column()+len(cells) <= v.columns; {
		case fits:
		case v.clips: // the last column, over and over
			v.at += v.columns - v.column() - len(cells)
		default:
			v.wraps++
		}
		for len(line) < v.at+len(cells) {
			line = append(line, " ")
		}
		copy(line[v.at:], cells)
		v.at += len(cells)
		v.full = v.at%v.columns == 0
		v.lines[v.row] = line
	}
}

// column is where the cursor is in its row; behind the last column of a full one.
func (v *vt) column() int {
	if v.full {
		return v.columns
	}
	return v.at % v.columns
}

// isWide knows the wide characters of East Asia that the tests use (UAX #11).
func isWide(r rune) bool {
	return r >= 0x1100 && r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 || r >= 0xff01 && r <= 0xff60
}

func (v *vt) control(parameters, final string) {
	switch final {
	case "m":
	case "l", "h":
		if parameters != "?7" {
			v.strange = append(v.strange, "ESC ["+parameters+final)
		}
		v.clips = final == "l"
	case "K":
		v.clear()
	case "J":
		v.clear()
		v.lines[v.row], v.lines = v.lines[v.row][:min(v.at, len(v.lines[v.row]))], v.lines[:v.row+1]
	case "A":
		n := 0
		_, _ = fmt.Sscan(parameters, &n)
		v.at -= v.column()
		v.full = false
		for range n {
			if v.at >= v.columns {
				v.at -= v.columns
			} else if v.row > 0 {
				v.row--
				v.at = max(0, len(v.lines[v.row])-1) / v.columns * v.columns
			}
		}
	default:
		v.strange = append(v.strange, "ESC ["+parameters+final)
	}
}

// clear clears the rest of the row of the cursor.
func (v *vt) clear() {
	line := v.lines[v.row]
	end := v.at - v.column() + v.columns
	if len(line) <= end {
		v.lines[v.row] = line[:min(v.at, len(line))]
		return
	}
	for i := v.at; i < end; i++ {
		line[i] = " "
	}
}

// screen is what stands there, a string per row.
func (v *vt) screen() []string {
	var out []string
	for _, line := range v.lines {
		for len(line) > v.columns {
			out, line = append(out, strings.TrimRight(strings.Join(line[:v.columns], ""), " ")), line[v.columns:]
		}
		out = append(out, strings.TrimRight(strings.Join(line, ""), " "))
	}
	return out
}

// last is the row of the cursor.
func (v *vt) last() string { s := v.screen(); return s[len(s)-1] }

// onTerminal is the streams of a command whose standard error is a terminal, with a clock that
// goes on when told.
func onTerminal(columns int) (*Streams, *vt, *clock) {
	a, _, _ := testStreams()
	v, now := newVT(columns), &clock{time.Unix(1e9, 0)}
	a.Stderr, a.Now = v, now.now
	a.Err = Screen{terminal: true, colour: true, Size: func() int { return v.columns }}
	return a, v, now
}

// timed is an event at a time.
func timed(now *clock, e *client.Event) *client.Event {
	e.Time = timestamppb.New(now.Time)
	return e
}

func TestOnEveryTerminalTheLineOfAStepFitsAndLeavesNothingBehind(t *testing.T) {
	for _, columns := range []int{20, 40, 60, 80, 200} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			a, v, now := onTerminal(columns)
			p := NewProgress(a)
			check := func() {
				t.Helper()
				if v.wraps > 0 || len(v.strange) > 0 {
					t.Fatalf("%d lines are too long, and %q is asked for:\n%s", v.wraps, v.strange, strings.Join(v.screen(), "\n"))
				}
			}
			p.Event(timed(now, clienttest.Step(1, "begin", nil)))
			p.Event(timed(now, clienttest.Step(1, "write", nil)))
			for i := range int64(4) {
				now.Time = now.Add(time.Second)
				p.Event(timed(now, doing(clienttest.Part("write", "データ領域", (100+i)<<20, 1003<<20, (1000+i)<<20, 2003<<20))))
				p.frame()
				check()
			}
			for _, want := range map[int][]string{
				20:  {"1.0G 1.0M/s 17m"},
				40:  {"1003.0 MiB, 1.0 MiB/s, 16m40s left"},
				60:  {"write: 1003.0 MiB of 2.0 GiB, 1.0 MiB/s, 16m40s left"},
				80:  {"write               4s  1003.0 MiB of 2.0 GiB, 1.0 MiB/s, 16m40s left"},
				200: {"write               4s  1003.0 MiB of 2.0 GiB, 1.0 MiB/s, 16m40s left", "[====", "(データ領域 10%)"},
			}[columns] {
				if !strings.Contains(v.last(), want) {
					t.Errorf("the line lacks %q: %q", want, v.last())
				}
			}
			if hasBar := strings.Contains(v.last(), "["); hasBar != (columns == 200) {
				t.Errorf("the line has a bar, or none: %q", v.last())
			}
			p.Event(timed(now, clienttest.Step(1, "verify", nil)))
			for range 3 {
				now.Time = now.Add(61 * time.Second)
				p.frame()
				check()
			}
			if !regexp.MustCompile(`^verify.*[-|/\\]$`).MatchString(v.last()) || columns > 20 && !strings.Contains(v.last(), " 3m03s ") {
				t.Errorf("a step without bytes has the line %q", v.last())
			}
			p.Event(timed(now, doing(clienttest.Log("verify", operationsv1.Severity_SEVERITY_INFO, "signed"))))
			why := &operationsv1.Failure{Reason: "CORRUPT", Message: "the reason"}
			p.Event(timed(now, clienttest.Step(2, "verify", why)))
			p.Event(timed(now, clienttest.Step(2, "write", why)))
			p.Event(timed(now, clienttest.Step(operationsv1.Phase_PHASE_UNDONE, "write", why)))
			p.End()
			check()
			want := []string{"write               4s  1003.0 MiB, 1.0 MiB/s", "  signed", "verify           3m03s  failed", "Undoing its steps", ""}
			if columns == 40 {
				want[0] = "write               4s  1003.0 MiB"
			}
			if columns == 20 {
				want[0], want[2] = "write  1003.0 MiB", "verify  failed"
			}
			if diff := cmp.Diff(want, v.screen()); diff != "" {
				t.Errorf("what stands there in the end (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATerminalThatBecomesNarrowerKeepsNothingOfTheOldLine(t *testing.T) {
	a, v, now := onTerminal(120)
	p := NewProgress(a)
	p.Event(timed(now, clienttest.Step(1, "fetch", nil)))
	now.Time = now.Add(time.Second)
	p.Event(timed(now, clienttest.Step(1, "write", nil)))
	for i := range int64(4) {
		now.Time = now.Add(time.Second)
		p.Event(timed(now, doing(clienttest.Progress("write", (1000+i)<<20, 2003<<20))))
	}
	for _, columns := range []int{50, 20, 35, 90, 30} {
		said := v.columns
		v.columns = columns
		a.Stderr.(*live).screen.Size = func() int { return said }
		p.frame() // as it says a moment late how wide it is now
		p.frame()
		a.Stderr.(*live).screen.Size = func() int { return columns }
		p.Line("at %d", columns)
		p.frame()
	}
	p.End()
	want := []string{"fetch               1s", "at 50", "at 20", "at 35", "at 90", "at 30", "write               4s", ""}
	got := v.screen()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestStepsWithoutWorkAreNotShownOnATerminal(t *testing.T) {
	a, v, now := onTerminal(80)
	p := NewProgress(a)
	for _, step := range []string{"begin", "fetch", "network", "health", "settle"} {
		p.Event(timed(now, clienttest.Step(1, step, nil)))
		now.Time = now.Add(20 * time.Millisecond)
		if step == "health" {
			now.Time = now.Add(10 * time.Second)
		}
	}
	p.Event(timed(now, clienttest.Step(operationsv1.Phase_PHASE_DONE, "settle", nil)))
	p.End()
	if diff := cmp.Diff([]string{"health             10s", ""}, v.screen()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWideAndCombiningCharactersTakeTheirColumns(t *testing.T) {
	for text, want := range map[string]int{
		"abc": 3, "データ": 6, "e\u0301te\u0301": 3, "\x1b[31mred\x1b[0m": 3, "naïve": 5, "한글": 4, "ｆｕｌｌ": 8, "": 0,
	} {
		if got := columnsOf(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"データ領域": "データ…", "e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301": strings.Repeat("e\u0301", 7) + "…", "12345678": "12345678",
	} {
		if got := fit(text, 8); got != want {
			t.Errorf("%q is cut to %q, want %q", text, got, want)
		}
	}
}

func TestTablesAreCutToTheTerminalAndNowhereElse(t *testing.T) {
	fill := func(t *Table) {
		t.Field("What", "an update whose summary is very long, and goes on and on (runtime-update)")
		t.Head("OPERATION", "名前", "WHAT")
		t.Row("20261128-180029-VCG4OB", "データ領域", "an update whose summary is very long, and goes on and on")
		t.Row("short", "e\u0301", Cell{"failed: x", red})
	}
	for _, columns := range []int{0, 20, 40, 60, 80, 200} {
		table := Table{screen: Screen{Size: func() int { return columns }}}
		fill(&table)
		text := textOf(t, &table)
		v := newVT(max(columns, 1000))
		if columns > 0 {
			v.columns = columns
		}
		_, _ = v.Write([]byte(text))
		if v.wraps > 0 {
			t.Errorf("at %d columns %d lines are too long:\n%s", columns, v.wraps, text)
		}
		whole := strings.Contains(text, "データ領域  an update whose summary is very long, and goes on and on\n")
		if whole != (columns == 0 || columns == 200) {
			t.Errorf("at %d columns:\n%s", columns, text)
		}
		if all := strings.Join(strings.Fields(text), " "); !strings.Contains(all, "What an update whose summary is very long, and goes on and on (runtime-update)") {
			t.Errorf("at %d columns a field is cut:\n%s", columns, text)
		}
		if columns == 0 || columns >= 80 { // both cells of the second column begin at the same place
			rows := v.screen()
			end := rows[len(rows)-3:]
			if columnsOf(end[0][:strings.Index(end[0], "an update")]) != columnsOf(end[1][:strings.Index(end[1], "failed")]) {
				t.Errorf("at %d columns the columns do not line up:\n%s", columns, text)
			}
		}
	}
}

func TestATableThatFillsTheTerminalIsNotBroken(t *testing.T) {
	for columns, want := range map[int]string{
		17: "A     NAME  WHAT\none   two   three\nfour  five\n",
		15: "A     NAME  WH…\none   two   th…\nfour  five\n",
		12: "A     NAME…\none   two…\nfour  five\n",
		10: "A     NAM…\none   two…\nfour  five\n",
		9:  "A     NA…\none   tw…\nfour  fi…\n",
		6:  "A…\none…\nfour…\n",
		4:  "A…\none…\nfou…\n",
		3:  "A…\non…\nfo…\n",
		1:  "…\n…\n…\n",
	} {
		table := Table{screen: Screen{Size: func() int { return columns }}}
		table.Head("A", "NAME", "WHAT")
		table.Row("one", "two", "three")
		table.Row("four", "five", "")
		text := textOf(t, &table)
		v := newVT(columns)
		_, _ = v.Write([]byte(text))
		if text != want || v.wraps > 0 {
			t.Errorf("at %d columns %d lines are too long:\n%s", columns, v.wraps, text)
		}
	}
}

func TestErrorsAreBrokenBetweenWords(t *testing.T) {
	faults := Failure{Message: "update the host: read Host Configuration: 2 faults:\nhost.yaml:3:5: image.url is missing, and an image comes from somewhere\nhost.yaml:9:1: 名前 is not a key that a Host Configuration has",
		Hint: "trident validate shows all of them, with their places, and needs neither root nor a daemon"}
	for _, columns := range []int{40, 57, 80, 200} {
		a, v, _ := onTerminal(columns)
		a.PrintFailure(faults)
		rows := v.screen()
		if v.wraps > 0 || len(v.strange) > 0 {
			t.Errorf("at %d columns %d lines are too long:\n%s", columns, v.wraps, strings.Join(rows, "\n"))
		}
		if text := strings.Join(strings.Fields(strings.Join(rows, " ")), " "); !strings.Contains(text, "2 faults: host.yaml:3:5: image.url is missing") || strings.Contains(text, ";") {
			t.Errorf("at %d columns: %s", columns, text)
		}
		if columns == 200 && (len(rows) < 4 || !strings.HasPrefix(rows[2], "  host.yaml:9:1: ") || !strings.HasPrefix(rows[3], "hint: trident")) {
			t.Errorf("a list is not one line for each entry:\n%s", strings.Join(rows, "\n"))
		}
	}
	const command = "trident operation watch 20261128-235859-NSE4LO --socket s"
	a, _, stderr := testStreams()
	a.Err.Size = func() int { return 40 }
	a.PrintFailure(Failure{Message: "watch operation: interrupted", Hint: "The operation goes on. Watch it again: " + command})
	if !strings.HasSuffix(stderr.String(), "\nhint: The operation goes on. Watch it\n  again:\n  "+command+"\n") {
		t.Errorf("a command is not a line of its own:\n%s", stderr)
	}
}

// pty returns both ends of a terminal.
func pty(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Skipf("there are no terminals: %v", err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return keyboard, terminal
}

func TestTheScreenFollowsTerminalAndEnvironment(t *testing.T) {
	keyboard, terminal := pty(t)
	for _, c := range []struct {
		env              string
		terminal, colour bool
	}{
		{"TERM=xterm", true, true}, {"TERM=dumb", false, false}, {"NO_COLOR=1", true, false}, {"NO_COLOR=", true, true},
		{"CLICOLOR=0", true, false}, {"CLICOLOR=1", true, true},
	} {
		t.Run(c.env, func(t *testing.T) {
			t.Setenv("TERM", "xterm")
			t.Setenv("NO_COLOR", "")
			t.Setenv("CLICOLOR", "")
			name, value, _ := strings.Cut(c.env, "=")
			t.Setenv(name, value)
			if s := screenOf(terminal); s.terminal != c.terminal || s.colour != c.colour {
				t.Errorf("terminal %v, colour %v", s.terminal, s.colour)
			}
		})
	}
	s := screenOf(terminal)
	for _, columns := range []uint16{60, 20} {
		if err := unix.IoctlSetWinsize(int(keyboard.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
			t.Fatal(err)
		}
		if got := s.columns(); got != int(columns) {
			t.Errorf("%d columns, want %d", got, columns)
		}
	}
	_, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if s := screenOf(w); s.terminal || s.colour || s.columns() != 0 {
		t.Errorf("a pipe is a terminal: %+v", s)
	}
}
