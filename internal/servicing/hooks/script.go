package hooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/systemd"
)

// Bounds of scripts. Upstream has none: it waits forever for a script that hangs.
const (
	scriptTime = time.Hour
	healthTime = 5 * time.Minute
	stopTime   = 2 * time.Minute // systemd kills after 90 s what does not end when it is asked to
	scriptPoll = 100 * time.Millisecond
	// MaxSaid is how much is kept of what a script says, in bytes.
	MaxSaid = 16 << 10
)

// SaidMark stands before what a program said, in the log of an operation.
const SaidMark = " said: "

// Point is the scripts of one point of a servicing.
type Point struct {
	ID      string // the point, in names of units and files
	Name    string // the point, in upstream's words
	On      hostconfig.ServicingType
	Scripts []hostconfig.Script
	Tree    string // that is serviced, on the host; "" is the host itself
	Inside  bool   // they run in the tree, which becomes their root folder
}

// Pre is the point before a servicing.
func Pre(c *hostconfig.Config, on hostconfig.ServicingType) Point {
	return Point{ID: "pre", Name: "pre-servicing", On: on, Scripts: c.Spec().Scripts.PreServicing}
}

// Run runs the scripts of a point one after the other. If the daemon restarts meanwhile,
// all of them run again, so each has to be safe to run twice.
func Run(ctx context.Context, host *change.Host, r change.Logger, id string, run Point) error {
	for i, h := range Of(run.Scripts, run.On) {
		j := job{script: h, id: fmt.Sprintf("%s-%d", run.ID, i), limit: scriptTime, on: run.On, tree: run.Tree, inside: run.Inside}
		if h.Path != "" {
			j.file = host.OnHost(host.SourceCopy(h.Path))
		}
		said, err := []byte(nil), error(nil)
		err = host.Touch("run "+run.ID+" script", func() (err error) {
			said, err = runScript(ctx, host, id, j)
			return err
		})
		if err != nil && len(said) > 0 {
			r.Logf(slog.LevelError, "script %s"+SaidMark+"%s", Name(h.Name, i), said)
		}
		if err != nil {
			err = fmt.Errorf("Failed to run %s script '%s': %w", run.Name, plainName(h.Name, i), scriptFailed(h.Name, i, err)) //nolint:staticcheck // upstream's text
			return errkind.WithName(err, "Run"+change.Camel(run.Name)+"Script")
		}
		r.Logf(slog.LevelInfo, "script %s has run", Name(h.Name, i))
	}
	return nil
}

// scriptFailed returns the error of a script in upstream's words, which upstream's tests
// search for in logs.
func scriptFailed(name string, i int, err error) error {
	return fmt.Errorf("Script '%s' failed: %w", plainName(name, i), err) //nolint:staticcheck // upstream's text
}

// A job is one run of a script.
type job struct {
	script hostconfig.Script
	id     string // among those of the operation
	file   string // where the script is, on the host; "" for one that has content
	limit  time.Duration
	on     hostconfig.ServicingType
	tree   string // see Point
	inside bool
}

// runScript runs a script to its end, as a unit of its own: it sees the host and
// not this daemon's surroundings, outlives nothing, and all that it started ends
// with it. A run that an earlier daemon has left behind is stopped first. It
// returns the end of what the script said if that can be had, whatever came of it.
func runScript(ctx context.Context, host *change.Host, id string, j job) (said []byte, err error) {
	base := filepath.Join(host.WorkDir(id), j.id)
	unit := "trident-script-" + id + "-" + j.id + ".service"
	defer func() {
		err = errors.Join(err, endScript(ctx, host, unit, base))
	}()
	if err := endScript(ctx, host, unit, base); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(host.WorkDir(id), 0o700); err != nil {
		return nil, err
	}
	if j.script.Content != nil {
		j.file = host.OnHost(base + ".script")
		if err := atomicfile.Write(base+".script", []byte(*j.script.Content), 0o700); err != nil {
			return nil, fmt.Errorf("write script: %w", err)
		}
	}
	if j.inside {
		if err := bringInside(host, &j); err != nil {
			return nil, fmt.Errorf("write script: %w", err)
		}
		defer func() { err = errors.Join(err, inside(host, j, (*inroot.Dir).Remove)) }()
	}
	if err := atomicfile.Write(base+".run", []byte(j.wrapper(host.OnHost(base+".status"))), 0o700); err != nil {
		return nil, fmt.Errorf("write script: %w", err)
	}
	since := time.Now()
	err = host.Systemd.StartTransient(ctx, unit, systemd.Transient{
		Description: "Trident runs a script of the Host Configuration",
		Exec:        []string{"/bin/sh", host.OnHost(base + ".run")},
		Timeout:     j.limit + stopTime, // in case that no daemon is there to stop it
	})
	if err != nil {
		return nil, err
	}
	err = await(ctx, host, unit, base+".status", j.limit)
	if err != nil && ctx.Err() == nil {
		said = endOfJournal(ctx, host, unit, since)
	}
	return said, err
}

// RunInside runs a text of a shell in a tree, which becomes its root folder, as part of an
// operation. It returns the end of what the text said, as runScript does.
func RunInside(ctx context.Context, host *change.Host, id, name, text string, on hostconfig.ServicingType, tree string) (said []byte, err error) {
	return runScript(ctx, host, id, job{script: hostconfig.Script{Content: &text}, id: name, limit: scriptTime, on: on, tree: tree, inside: true})
}

// wrapper is a script around the script, because systemd shows what is in the
// environment of a unit to everybody, and forgets how a unit ended.
func (j job) wrapper(status string) string {
	var b strings.Builder
	target := "/"
	if j.tree != "" && !j.inside {
		target = j.tree
	}
	b.WriteString("export TARGET_ROOT=" + target + " SERVICING_TYPE=" + string(j.on) + "\n")
	env := j.script.EnvironmentVariables
	for _, name := range slices.Sorted(maps.Keys(env)) {
		b.WriteString("export " + name + "=" + Quote(env[name]) + "\n")
	}
	interpreter := j.script.Interpreter
	if interpreter == "" {
		interpreter = "/bin/sh"
	}
	if j.inside {
		b.WriteString("chroot " + Quote(j.tree) + " ")
	}
	b.WriteString(Quote(interpreter) + " " + Quote(j.file))
	for _, a := range j.script.Arguments {
		b.WriteString(" " + Quote(a))
	}
	fmt.Fprintf(&b, "\necho $? > %s && mv %[1]s %s\n", Quote(status+".new"), Quote(status))
	return b.String()
}

// bringInside copies a script to where it is seen from the tree that it runs in, and
// nowhere else: what leads out of the tree by a link leads to a place in it.
func bringInside(host *change.Host, j *job) error {
	text, err := os.ReadFile(filepath.Join(host.Root, j.file))
	if err != nil {
		return err
	}
	j.file = "/" + scriptDir + "/trident-script-" + j.id
	return inside(host, *j, func(dir *inroot.Dir, name string) error {
		return dir.Replace(name, 0o700, func(f *os.File) error {
			_, err := f.Write(text)
			return err
		})
	})
}

// scriptDir is the folder of a tree for scripts that run in it: memory, where the tree
// is mounted for programs.
const scriptDir = "run"

// inside gives use the folder and the name of the script of a job that runs in a tree.
func inside(host *change.Host, j job, use func(dir *inroot.Dir, name string) error) error {
	dir, err := inroot.FS(filepath.Join(host.Root, j.tree)).MakeDir(path.Dir(j.file), 0o755)
	if err != nil {
		return err
	}
	return errors.Join(use(dir, path.Base(j.file)), dir.Close())
}

// Quote quotes a word for a shell.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// await waits until a script has ended. The error says how it ended; nil is success.
func await(ctx context.Context, host *change.Host, unit, status string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errkind.Errorf(errkind.Timeout, "it did not end within %s, and was killed", limit))
	defer cancel()
	for {
		_, uerr := host.Systemd.Unit(ctx, unit)
		// Only now: a unit that is gone has said all that it will.
		code, err := os.ReadFile(status)
		switch text := strings.TrimSpace(string(code)); {
		case err == nil && text == "0":
			return nil
		case err == nil:
			return fmt.Errorf("exit status %s", text)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		case errkind.Of(uerr) == errkind.NotFound && ctx.Err() == nil:
			return errors.New("it was killed")
		}
		if err := change.Sleep(ctx, scriptPoll); err != nil {
			return context.Cause(ctx)
		}
	}
}

// endScript ends all that a script has started, and deletes its files.
func endScript(ctx context.Context, host *change.Host, unit, base string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	err := host.Systemd.Stop(ctx, unit)
	for _, suffix := range []string{".script", ".run", ".status", ".status.new"} {
		err = errors.Join(err, atomicfile.Remove(base+suffix))
	}
	return err
}

// endOfJournal is the end of what a unit wrote, as far as it can be had.
func endOfJournal(ctx context.Context, host *change.Host, unit string, since time.Time) []byte {
	text, err := systemd.JournalTail(ctx, host.Tools, []string{unit}, since, MaxSaid)
	if err != nil {
		return nil
	}
	return text
}
