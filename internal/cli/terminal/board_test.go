package terminal

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func TestOnATerminalEachHostHasALine(t *testing.T) {
	a, v, now := onTerminal(60)
	b := a.NewBoard([]string{"a", "web-2"})
	hosts := []Streams{b.Streams(0), b.Streams(1)}
	progress := []*Progress{NewProgress(&hosts[0]), NewProgress(&hosts[1])}
	for _, p := range progress {
		now.Time = now.Add(time.Second)
		p.Event(timed(now, clienttest.Step(1, "fetch", nil)))
	}
	row := func(s string) string { return strings.TrimRight(strings.TrimRight(s, `|/-\`), " ") }
	screen := func() (out []string) {
		for _, s := range v.screen() {
			out = append(out, row(s))
		}
		return out
	}
	if diff := cmp.Diff([]string{"a      fetch               0s", "web-2  fetch               0s"}, screen()); diff != "" {
		t.Errorf("two lines (-want +got):\n%s", diff)
	}
	progress[1].Event(timed(now, doing(clienttest.Log("fetch", operationsv1.Severity_SEVERITY_INFO, "hello"))))
	now.Time = now.Add(time.Second)
	progress[0].Event(timed(now, clienttest.Step(1, "write", nil)))
	now.Time = now.Add(time.Second)
	progress[0].frame()
	got := screen()
	if got[0] != "web-2:   hello" || len(got) != 3 || !strings.HasPrefix(got[1], "a      write") {
		t.Errorf("a message stands above the lines: %q", got)
	}
	// A terminal that becomes narrower breaks the lines; nothing of them stays.
	v.columns = 20
	now.Time = now.Add(time.Second)
	progress[0].frame()
	now.Time = now.Add(time.Second)
	progress[1].frame()
	v.columns = 60
	now.Time = now.Add(time.Second)
	progress[1].frame()
	for _, p := range progress {
		p.End()
	}
	b.Ended(0, "done")
	if got := screen(); len(got) != 3 || got[1] != "a: done" || !strings.HasPrefix(got[2], "web-2  ") {
		t.Errorf("one has ended: %q", got)
	}
	b.Ended(1, "failed: BUSY")
	b.Ended(1, "failed: BUSY") // it is said once
	b.Close()
	if diff := cmp.Diff([]string{"web-2:   hello", "a: done", "web-2: failed: BUSY", ""}, screen()); diff != "" {
		t.Errorf("at the end (-want +got):\n%s", diff)
	}
	if v.wraps > 0 || len(v.strange) > 0 {
		t.Errorf("%d lines were too long; strange: %q", v.wraps, v.strange)
	}
}

func TestMoreHostsThanLinesOfTheTerminalAreCounted(t *testing.T) {
	a, v, now := onTerminal(40)
	a.Err.rows = func() int { return 6 }
	var names []string
	for i := range 9 {
		names = append(names, fmt.Sprintf("a-host-with-a-long-name-%d", i))
	}
	b := a.NewBoard(names)
	for i := range names {
		now.Time = now.Add(time.Second)
		s := b.Streams(i)
		b.hosts[i].draw(func(columns int) string { return fit("working and working", columns) })
		_ = s
	}
	want := []string{"a-host-with…  working and working", "a-host-with…  working and working", "a-host-with…  working and working", "and 6 more hosts"}
	if diff := cmp.Diff(want, v.screen()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	b.Close()
	if diff := cmp.Diff([]string{""}, v.screen()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestElsewhereLinesHaveTheNameOfTheirHost(t *testing.T) {
	a, _, stderr := testStreams()
	b := a.NewBoard([]string{"a\x1b[2J", "b"})
	one, two := b.Streams(0), b.Streams(1)
	fmt.Fprint(one.Stderr, "one\ntwo")
	fmt.Fprint(two.Stderr, "three\n")
	fmt.Fprint(one.Stderr, "…\nrest")
	b.Ended(0, "done") // nothing was drawn of it
	b.Close()
	if want := "a?[2J: one\nb: three\na?[2J: two…\na?[2J: rest\n"; stderr.String() != want {
		t.Errorf("%q, want %q", stderr, want)
	}
}

func TestTextsOfHostsAreMergedByTheirForm(t *testing.T) {
	a, stdout, _ := testStreams()
	b := a.NewBoard([]string{"a", "b", "c", "d"})
	show := func(i int, write func(*Table)) {
		s := b.Streams(i)
		if err := s.Show(nil, write); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		show(i, func(w *Table) {
			w.Field("Running", "1.%d", i)
			w.Field("Why", "x")
			if i == 1 {
				w.Field("Why", "y")
				w.Field("Extra", "z")
			}
			w.Head("IMAGE", "SIZE")
			w.Row(fmt.Sprintf("i%d", i), "1 MiB")
		})
	}
	show(2, func(w *Table) { w.Line("one"); w.Line("two") })
	show(3, func(w *Table) { w.Text("1\n2\n3\n") })
	s := b.Streams(2)
	_, _ = io.WriteString(s.Stdout, "a: b") // no line break
	if err := b.Print(make([]*HostFailure, 4)); err != nil {
		t.Fatal(err)
	}
	want := `c  one, two

HOST  RUNNING  WHY   EXTRA
a     1.0      x
b     1.1      x; y  z

HOST  IMAGE  SIZE
a     i0     1 MiB
b     i1     1 MiB
--- # c
a: b
--- # d
1
2
3
`
	if diff := cmp.Diff(want, stdout.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestResultsOfHostsAreOneDocument(t *testing.T) {
	for format, want := range map[Format]string{
		"json": `[
  {
    "host": "a",
    "result": [
      {
        "x": "1"
      },
      {
        "raw": true
      }
    ]
  },
  {
    "host": "b",
    "error": {
      "kind": "BUSY",
      "message": "m",
      "hint": "",
      "retriable": true
    }
  },
  {
    "host": "c",
    "result": "{: not YAML"
  }
]
`,
		"yaml": "- host: a\n  result:\n    - x: \"1\"\n    - raw: true\n- host: b\n  error:\n    kind: BUSY\n    message: m\n    hint: \"\"\n    retriable: true\n- host: c\n  result: '{: not YAML'\n",
	} {
		a, stdout, _ := testStreams()
		a.Output = format
		b := a.NewBoard([]string{"a", "b", "c"})
		one, three := b.Streams(0), b.Streams(2)
		if err := one.Show(map[string]string{"x": "1"}, nil); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(one.Stdout, "raw: true\n")
		_, _ = io.WriteString(three.Stdout, "{: not YAML")
		if err := b.Print([]*HostFailure{nil, {Failure{Kind: "BUSY", Message: "m"}, true}, nil}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, stdout.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestAResultThatCannotBePrintedIsAnError(t *testing.T) {
	a, _, _ := testStreams()
	a.Output = "json"
	b := a.NewBoard([]string{"a"})
	s := b.Streams(0)
	if err := s.Show(make(chan int), nil); err == nil {
		t.Error("a channel was printed")
	}
	a.Stdout = closedOutput{}
	if err := s.PrintEvent(clienttest.Step(1, "x", nil)); err == nil {
		t.Error("a broken standard output was not noticed")
	}
	a.Output = "text"
	if err := s.Show(nil, func(w *Table) { w.Line("x") }); err != nil {
		t.Fatal(err)
	}
	if err := b.Print([]*HostFailure{nil}); err == nil {
		t.Error("a broken standard output was not noticed")
	}
}

type closedOutput struct{}

func (closedOutput) Write([]byte) (int, error) { return 0, errors.New("broken") }
