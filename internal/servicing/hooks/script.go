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
	stopTime   = 2 * time.Minute // systemd kills a unit that has not stopped after 90 s
	scriptPoll = 100 * time.Millisecond
	// MaxSaid is how many bytes of the end of a script's output are kept.
	MaxSaid = 16 << 10
)

// SaidMark precedes the output of a program in the log of an operation.
const SaidMark = " said: "

// Point is one point of a servicing, with its scripts.
type Point struct {
	ID      string // the point, in names of units and files
	Name    string // the point, in upstream's words
	On      hostconfig.ServicingType
	Scripts []hostconfig.Script
	Tree    string // the serviced tree, on the host; "" is the host itself
	Inside  bool   // Scripts run in Tree, which becomes their root folder
}

// Pre returns the point before a servicing.
func Pre(c *hostconfig.Config, on hostconfig.ServicingType) Point {
	return Point{ID: "pre", Name: "pre-servicing", On: on, Scripts: c.Spec().Scripts.PreServicing}
}

// Provision returns the point after the file systems of a new OS are written.
func Provision(c *hostconfig.Config, on hostconfig.ServicingType) Point {
	return Point{ID: "provision", Name: "post-provision", On: on, Scripts: c.Spec().Scripts.PostProvision}
}

// Configure returns the point after the configuration is in effect.
func Configure(c *hostconfig.Config, on hostconfig.ServicingType) Point {
	return Point{ID: "post", Name: "post-configure", On: on, Scripts: c.Spec().Scripts.PostConfigure}
}

// Effects returns the effects of a step that runs the scripts of the point.
func (p Point) Effects() []change.Effect {
	var out change.Effects
	for i, h := range Of(p.Scripts, p.On) {
		out.Add("run-script", plainName(h.Name, i), "run the script %s", Name(h.Name, i))
	}
	return out
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
	id     string // unique in the operation
	file   string // its path on the host; "" for a script with content
	limit  time.Duration
	on     hostconfig.ServicingType
	tree   string // see Point
	inside bool
}

// runScript runs a script as a unit of its own, and returns when it has ended with all
// processes that it started. It first stops a run that an earlier daemon has left. If the
// script fails, runScript also returns the end of its output, or nil if it cannot read that.
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
		Timeout:     j.limit + stopTime, // if no daemon runs that could stop it
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

// RunInside runs the shell script text in a tree, which becomes its root folder, as part of
// an operation. If text fails, RunInside also returns the end of its output.
func RunInside(ctx context.Context, host *change.Host, id, name, text string, on hostconfig.ServicingType, tree string) (said []byte, err error) {
	return runScript(ctx, host, id, job{script: hostconfig.Script{Content: &text}, id: name, limit: scriptTime, on: on, tree: tree, inside: true})
}

// wrapper returns a shell script that sets the environment, runs the script and writes its
// exit status to the file status: systemd would show the environment of a unit to all
// users, and forgets how a unit ended.
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

// bringInside copies a script into the tree in which it runs, and sets j.file to its path
// there. No link of the tree can redirect the copy out of the tree.
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

// scriptDir is the folder of a tree for scripts that run in it. It is in memory if the
// tree is mounted for programs.
const scriptDir = "run"

// inside calls use with the folder and the name of the script of a job in a tree.
func inside(host *change.Host, j job, use func(dir *inroot.Dir, name string) error) error {
	dir, err := inroot.FS(filepath.Join(host.Root, j.tree)).MakeDir(path.Dir(j.file), 0o755)
	if err != nil {
		return err
	}
	return errors.Join(use(dir, path.Base(j.file)), dir.Close())
}

// Quote quotes a word for a shell.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// await waits until a script has ended. It returns nil for exit status 0.
func await(ctx context.Context, host *change.Host, unit, status string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errkind.Errorf(errkind.Timeout, "it did not end within %s, and was killed", limit))
	defer cancel()
	for {
		_, uerr := host.Systemd.Unit(ctx, unit)
		// Read status after the unit: a unit that is gone does not write it any more.
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

// endScript ends all processes that a script has started, and deletes its files.
func endScript(ctx context.Context, host *change.Host, unit, base string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	err := host.Systemd.Stop(ctx, unit)
	for _, suffix := range []string{".script", ".run", ".status", ".status.new"} {
		err = errors.Join(err, atomicfile.Remove(base+suffix))
	}
	return err
}

// endOfJournal returns the end of what a unit wrote, or nil if that cannot be read.
func endOfJournal(ctx context.Context, host *change.Host, unit string, since time.Time) []byte {
	text, err := systemd.JournalTail(ctx, host.Tools, []string{unit}, since, MaxSaid)
	if err != nil {
		return nil
	}
	return text
}
