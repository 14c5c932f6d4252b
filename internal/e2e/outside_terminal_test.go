//go:build outside

package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// screenTime is how long a screen may take to show what is waited for.
const screenTime = time.Minute

// pane is a shell in tmux, which is a terminal as people have.
type pane struct {
	t      *testing.T
	socket string
	runs   int
}

// openPane opens a pane of so many columns, in a folder.
func openPane(t *testing.T, columns int, dir string) *pane {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil && os.Getenv("CI") != "true" {
		t.Skip("tmux is not installed")
	}
	p := &pane{t: t, socket: filepath.Join(t.TempDir(), "tmux")}
	p.tmux("-f", "/dev/null", "new-session", "-d", "-c", dir, "-x", fmt.Sprint(columns), "-y", "40", "-s", "t", "env -u NO_COLOR -u CLICOLOR PS1='> ' bash --norc --noprofile")
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", p.socket, "kill-server").Run() })
	p.tmux("set", "-g", "status", "off")
	p.await("a prompt", func(s string) bool { return s == ">" })
	return p
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	out, err := exec.Command("tmux", append([]string{"-S", p.socket}, args...)...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// rows is what stands on the screen, a row per line.
func (p *pane) rows() string { return strings.TrimSpace(p.tmux("capture-pane", "-p", "-t", "t")) }

// lines is rows in which what the terminal has broken is whole again.
func (p *pane) lines() string {
	out := p.tmux("capture-pane", "-p", "-J", "-t", "t") // with the blanks at the ends of lines
	return strings.TrimSpace(regexp.MustCompile(`(?m) +$`).ReplaceAllString(out, ""))
}

func (p *pane) await(what string, is func(rows string) bool) string {
	p.t.Helper()
	for end := time.Now().Add(screenTime); ; time.Sleep(50 * time.Millisecond) {
		rows := p.rows()
		if is(rows) {
			return rows
		}
		if time.Now().After(end) {
			p.t.Fatalf("the screen never shows %s:\n%s", what, rows)
		}
	}
}

// enter clears the screen and has the shell run a command.
func (p *pane) enter(command string) {
	p.t.Helper()
	p.tmux("send-keys", "-t", "t", "clear; "+command, "Enter")
}

// run is enter that waits for the end of the command, and returns the rows.
func (p *pane) run(command string) string {
	p.t.Helper()
	p.runs++
	p.enter(fmt.Sprintf("%s; echo end-%d=$?", command, p.runs))
	end := regexp.MustCompile(fmt.Sprintf(`(?m)^end-%d=\d+\n>$`, p.runs))
	return p.await("the end of "+command, end.MatchString)
}

func (p *pane) resize(columns int) {
	p.t.Helper()
	p.tmux("resize-window", "-t", "t", "-x", fmt.Sprint(columns), "-y", "40")
}

func TestATerminalShowsALineThatFitsAndIsLeftClean(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir, "../../cmd/trident", "../../cmd/tridentd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := openPane(t, 60, dir)
	host, socket := filepath.Join(dir, "host"), filepath.Join(dir, "s")
	if err := os.MkdirAll(filepath.Join(host, "usr"), 0o755); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	daemon := exec.Command(filepath.Join(dir, "tridentd"), "--root", host, "--socket", socket)
	daemon.Stderr = &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() { _ = daemon.Process.Signal(os.Interrupt); _ = daemon.Wait() }
	t.Cleanup(stop)
	for end := time.Now().Add(screenTime); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}

	const size = 64 << 20
	ends := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for sent := 0; sent < size; {
			select {
			case <-ends:
			case <-time.After(100 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
			n, err := w.Write(make([]byte, 256<<10))
			if sent += n; err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
	}))
	t.Cleanup(server.Close)

	// A step with bytes: its line fits at every width, also while that changes.
	p.enter("./trident --socket s self upgrade --allow-read-only-usr " + server.URL + "/t.raw")
	for _, c := range []struct {
		columns int
		line    string
	}{
		{60, `^fetch: .* of 64.0 MiB, .*/s, .* left$`}, {40, `^fetch: .* MiB, .*/s, .* left$`}, {20, `^\d.* .*/s \S+$`},
		{200, `^fetch  .* of 64.0 MiB, .*/s, .* left .*\[[= ]+\]$`}, {80, `^fetch  .* of 64.0 MiB, .*/s, .* left$`}, {60, `^fetch: .* of 64.0 MiB, .*/s, .* left$`},
	} {
		p.resize(c.columns)
		p.await(fmt.Sprintf("one line at %d columns like %s", c.columns, c.line), regexp.MustCompile(c.line).MatchString)
	}
	// An interrupt leaves nothing but lines that are whole, and a cursor.
	p.tmux("send-keys", "-t", "t", "C-c")
	p.await("the prompt", func(s string) bool { return strings.HasSuffix(s, "\n>") })
	left := strings.Split(p.lines(), "\n")
	if len(left) != 6 || !regexp.MustCompile(`^fetch  .* MiB, .*/s$`).MatchString(left[0]) || !strings.HasPrefix(left[1], "trident: ") ||
		!strings.HasPrefix(left[3], "hint: The operation goes on.") || !strings.HasPrefix(left[4], "  trident operation watch ") || !strings.HasSuffix(left[4], " --socket s") {
		t.Errorf("after an interrupt the screen has:\n%s", strings.Join(left, "\n"))
	}
	if cursor := strings.TrimSpace(p.tmux("display", "-p", "-t", "t", "#{cursor_flag} #{cursor_x}")); cursor != "1 2" {
		t.Errorf("the cursor is %q", cursor)
	}

	// The operation fails. Steps that have done nothing leave no line, and the reason is
	// said once, on the screen and in the log of the daemon.
	close(ends)
	const reason = "begins with nothing but zeros"
	p.run("./trident --socket s operation watch")
	watched := p.lines()
	if !regexp.MustCompile(`(?m)^verify  .* failed$`).MatchString(watched) || strings.Contains(watched, "undo ") || strings.Count(watched, reason) != 1 {
		t.Errorf("an operation that failed is shown as:\n%s", watched)
	}
	rows := p.run("./trident --socket s operation list; ./trident --socket s self history")
	if lines := p.lines(); lines != rows || !strings.Contains(rows, "…") {
		t.Errorf("tables at 60 columns:\n%s\nwhole:\n%s", rows, lines)
	}
	stop()
	if n := strings.Count(log.String(), reason); n != 1 {
		t.Errorf("the log of the daemon has the reason %d times:\n%s", n, log.String())
	}

	// Colours are there, unless the user has turned them off.
	daemonless := "./trident --socket none version"
	for setting, coloured := range map[string]bool{"": true, "NO_COLOR=1 ": false, "TERM=dumb ": false, "CLICOLOR=0 ": false} {
		p.run(setting + daemonless)
		if has := strings.Contains(p.tmux("capture-pane", "-p", "-e", "-t", "t"), "\x1b[31mtrident:"); has != coloured {
			t.Errorf("%strident has colours: %v", setting, has)
		}
	}
}
