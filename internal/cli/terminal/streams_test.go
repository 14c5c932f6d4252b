package terminal

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// testStreams writes into buffers and has a clock that stands still.
func testStreams() (s *Streams, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	s = &Streams{Stdout: stdout, Stderr: stderr}
	s.Now = func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }
	return s, stdout, stderr
}

// textOf is what is printed of a table.
func textOf(t *testing.T, table *Table) string {
	t.Helper()
	var out strings.Builder
	if err := table.writeTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestVerbosityUsesUpstreamsWords(t *testing.T) {
	for word, want := range map[string]slog.Level{
		"OFF": levelOff, "error": slog.LevelError, "Warn": slog.LevelWarn, "INFO": slog.LevelInfo, "DEBUG": slog.LevelDebug, "trace": levelTrace,
	} {
		var v Verbosity
		if err := v.Set(word); err != nil || v.Level() != want {
			t.Errorf("%s: level %v, error %v", word, v.Level(), err)
		}
	}
	if got := new(Verbosity).Level(); got != slog.LevelInfo {
		t.Errorf("the default is %v", got)
	}
}

func TestTextFromOutsideCannotMoveTheCursor(t *testing.T) {
	if got, want := Line("a\x1b[2Jb\r\nc\u009bd\t€"), "a?[2Jb? c?d €"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestYAMLKeepsStringsThatLookLikeSomethingElse(t *testing.T) {
	out, err := yamlOf([]byte(`{"z":"1.0","a":"true","n":null,"e":[],"l":["x: y","2026-01-01"]}`))
	want := "z: \"1.0\"\na: \"true\"\nn: null\ne: []\nl:\n  - 'x: y'\n  - \"2026-01-01\"\n"
	if err != nil || string(out) != want {
		t.Errorf("error %v, got:\n%s\nwant:\n%s", err, out, want)
	}
}
