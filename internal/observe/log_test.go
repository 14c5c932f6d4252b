package observe

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// journald is a journal's socket, and reads one record at a time.
func journald(t *testing.T) (path string, next func() map[string]string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return path, func() map[string]string {
		t.Helper()
		buf := make([]byte, 1<<20)
		if err := l.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return parseRecord(t, buf[:n])
	}
}

// parseRecord reads the journal's native format as the journal does.
func parseRecord(t *testing.T, b []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			t.Fatalf("no end in %q", b)
		}
		line := string(b[:end])
		b = b[end+1:]
		if name, value, ok := strings.Cut(line, "="); ok {
			out[name] = value
			continue
		}
		size := binary.LittleEndian.Uint64(b)
		out[line] = string(b[8 : 8+size])
		if b[8+size] != '\n' {
			t.Fatalf("%s has no end", line)
		}
		b = b[8+size+1:]
	}
	return out
}

func TestARecordOfTheJournalHasItsFields(t *testing.T) {
	t.Parallel()
	socket, next := journald(t)
	var stderr bytes.Buffer
	h := newJournalHandler(&stderr, socket, slog.LevelDebug, "1.2.3")
	l := slog.New(callHandler{h}).With("operation", "op-1")
	ctx := context.WithValue(t.Context(), callKey{}, &call{request: "r-1", trace: "4bf92f3577b34da6a3ce929d0e0e4736"})
	for _, c := range []struct {
		name string
		log  func()
		want map[string]string
	}{
		{"a call", func() { l.InfoContext(ctx, "call", "method", "/x/Y") }, map[string]string{
			"MESSAGE": "msg=call operation=op-1 method=/x/Y", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "tridentd", "VERSION": "1.2.3",
			"OPERATION_ID": "op-1", "REQUEST_ID": "r-1", "TRACE_ID": "4bf92f3577b34da6a3ce929d0e0e4736", "TRIDENT_METHOD": "/x/Y",
		}},
		{"lines", func() { l.Debug("d", "x", "two\nlines") }, map[string]string{
			"MESSAGE": `msg=d operation=op-1 x="two\nlines"`, "PRIORITY": "7", "SYSLOG_IDENTIFIER": "tridentd", "VERSION": "1.2.3",
			"OPERATION_ID": "op-1", "TRIDENT_X": "two\nlines",
		}},
		{"groups", func() { l.WithGroup("g").With("a-b", 1).Warn("w", slog.Group("h", slog.Bool("c", true))) }, map[string]string{
			"MESSAGE": "msg=w operation=op-1 g.a-b=1 g.h.c=true", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "tridentd", "VERSION": "1.2.3",
			"OPERATION_ID": "op-1", "TRIDENT_G_A_B": "1", "TRIDENT_G_H_C": "true",
		}},
		{"an error", func() { l.Error("e") }, map[string]string{
			"MESSAGE": "msg=e operation=op-1", "PRIORITY": "3", "SYSLOG_IDENTIFIER": "tridentd", "VERSION": "1.2.3", "OPERATION_ID": "op-1",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.log()
			if diff := cmp.Diff(c.want, next()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if stderr.Len() > 0 {
		t.Errorf("on stderr: %s", stderr.String())
	}
}

func TestARecordIsNeverTooLargeForTheJournal(t *testing.T) {
	t.Parallel()
	socket, next := journald(t)
	l := slog.New(newJournalHandler(&bytes.Buffer{}, socket, slog.LevelInfo, "1"))
	var args []any
	for n := range 500 {
		args = append(args, strings.Repeat("k", n+1), strings.Repeat("v", 5000))
	}
	l.Info(strings.Repeat("m", 1<<20), args...)
	got := next()
	if len(got) > 40 || len(got["MESSAGE"]) > maxMessage+10 || len(got["TRIDENT_K"]) > maxField+10 {
		t.Errorf("%d fields, MESSAGE has %d bytes", len(got), len(got["MESSAGE"]))
	}
}

func TestWithoutAJournalTheLineGoesToStderrWithItsPriority(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := slog.New(newJournalHandler(&out, filepath.Join(t.TempDir(), "none"), slog.LevelDebug, "1")).With("operation", "op-1")
	l.Debug("d")
	l.Info("i", "x", "two\nlines")
	l.WithGroup("g").Warn("w", "level", 1)
	l.Error("e")
	want := `<7>msg=d operation=op-1
<6>msg=i operation=op-1 x="two\nlines"
<4>msg=w operation=op-1 g.level=1
<3>msg=e operation=op-1
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAJournalThatWasRestartedGetsTheNextRecord(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	var stderr bytes.Buffer
	l := slog.New(newJournalHandler(&stderr, path, slog.LevelInfo, "1"))
	for _, said := range []string{"before", "after"} {
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		l.Info(said)
		buf := make([]byte, 1<<10)
		n, err := socket.Read(buf)
		if err != nil || parseRecord(t, buf[:n])["MESSAGE"] != "msg="+said {
			t.Errorf("%q, %v; stderr %q", buf[:n], err, stderr.String())
		}
		_ = socket.Close()
		_ = os.Remove(path)
	}
}

func TestTheJournalIsKnownByItsInode(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false, "": false, "x": false,
	} {
		if got := isJournal(f, stream); got != want {
			t.Errorf("JOURNAL_STREAM=%q: %t", stream, got)
		}
	}
}
