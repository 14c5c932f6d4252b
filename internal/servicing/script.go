package servicing

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
	"github.com/trident-project/trident/internal/systemd"
)

// Bounds of scripts. Upstream has none, and waits for ever for one that hangs.
const (
	hookTime   = time.Hour
	healthTime = 5 * time.Minute
	stopTime   = 2 * time.Minute // systemd kills after 90 s what does not end when it is asked to
	scriptPoll = 100 * time.Millisecond
	maxSaid    = 16 << 10 // of what a script says, in bytes
)

func (s *Service) preServicing(ctx context.Context, r *opRun) error {
	w, err := r.State.work()
	if err != nil {
		return err
	}
	return s.runHooks(ctx, r, r.ID, preHooks(w.asked, hostconfig.OnRuntimeUpdate))
}

func (s *Service) postConfigure(ctx context.Context, r *opRun) error {
	w, err := r.State.work()
	if err != nil {
		return err
	}
	return s.runHooks(ctx, r, r.ID, hookRun{
		which: "post", point: "post-configure", on: hostconfig.OnRuntimeUpdate, all: w.asked.Spec().Scripts.PostConfigure,
	})
}

// hookRun is the scripts of one point of a servicing.
type hookRun struct {
	which  string // the point, in names of units and files
	point  string // the point, in upstream's words
	on     hostconfig.ServicingType
	all    []hostconfig.Script
	tree   string // that is serviced, on the host; "" is the host itself
	inside bool   // they run in the tree, which becomes their root folder
}

func preHooks(c *hostconfig.Config, on hostconfig.ServicingType) hookRun {
	return hookRun{which: "pre", point: "pre-servicing", on: on, all: c.Spec().Scripts.PreServicing}
}

// runHooks runs scripts one after the other. After a restart in between all of
// them run again: they have to bear that.
func (s *Service) runHooks(ctx context.Context, r teller, id string, run hookRun) error {
	which := run.which
	for i, h := range hooks(run.all, run.on) {
		j := job{script: h, id: fmt.Sprintf("%s-%d", which, i), limit: hookTime, on: run.on, tree: run.tree, inside: run.inside}
		if h.Path != "" {
			j.file = s.onHost(s.copied(h.Path))
		}
		said, err := []byte(nil), error(nil)
		err = s.touch("run "+which+" script", func() (err error) {
			said, err = s.runScript(ctx, id, j)
			return err
		})
		if err != nil && len(said) > 0 {
			r.Logf(slog.LevelError, "script %s"+saidMark+"%s", nameOf(h.Name, i), said)
		}
		if err != nil {
			err = fmt.Errorf("Failed to run %s script '%s': %w", run.point, plainName(h.Name, i), scriptFailed(h.Name, i, err)) //nolint:staticcheck // upstream's text
			return errkind.WithName(err, "Run"+camel(run.point)+"Script")
		}
		r.Logf(slog.LevelInfo, "script %s has run", nameOf(h.Name, i))
	}
	return nil
}

// scriptFailed is the error of a script in upstream's words, which upstream's tests
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
	tree   string // see hookRun
	inside bool
}

// runScript runs a script to its end, as a unit of its own: it sees the host and
// not this daemon's surroundings, outlives nothing, and all that it started ends
// with it. A run that an earlier daemon has left behind is stopped first. It
// returns the end of what the script said if that can be had, whatever came of it.
func (s *Service) runScript(ctx context.Context, id string, j job) (said []byte, err error) {
	base := filepath.Join(s.workDir(id), j.id)
	unit := "trident-script-" + id + "-" + j.id + ".service"
	defer func() {
		err = errors.Join(err, s.endScript(ctx, unit, base))
	}()
	if err := s.endScript(ctx, unit, base); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.workDir(id), 0o700); err != nil {
		return nil, err
	}
	if j.script.Content != nil {
		j.file = s.onHost(base + ".script")
		if err := atomicfile.Write(base+".script", []byte(*j.script.Content), 0o700); err != nil {
			return nil, fmt.Errorf("write script: %w", err)
		}
	}
	if j.inside {
		if err := s.bringInside(&j); err != nil {
			return nil, fmt.Errorf("write script: %w", err)
		}
		defer func() { err = errors.Join(err, s.inside(j, (*inroot.Dir).Remove)) }()
	}
	if err := atomicfile.Write(base+".run", []byte(j.wrapper(s.onHost(base+".status"))), 0o700); err != nil {
		return nil, fmt.Errorf("write script: %w", err)
	}
	since := time.Now()
	err = s.Systemd.StartTransient(ctx, unit, systemd.Transient{
		Description: "Trident runs a script of the Host Configuration",
		Exec:        []string{"/bin/sh", s.onHost(base + ".run")},
		Timeout:     j.limit + stopTime, // in case that no daemon is there to stop it
	})
	if err != nil {
		return nil, err
	}
	err = s.await(ctx, unit, base+".status", j.limit)
	if err != nil && ctx.Err() == nil {
		said = s.said(ctx, unit, since)
	}
	return said, err
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
		b.WriteString("export " + name + "=" + quote(env[name]) + "\n")
	}
	interpreter := j.script.Interpreter
	if interpreter == "" {
		interpreter = "/bin/sh"
	}
	if j.inside {
		b.WriteString("chroot " + quote(j.tree) + " ")
	}
	b.WriteString(quote(interpreter) + " " + quote(j.file))
	for _, a := range j.script.Arguments {
		b.WriteString(" " + quote(a))
	}
	fmt.Fprintf(&b, "\necho $? > %s && mv %[1]s %s\n", quote(status+".new"), quote(status))
	return b.String()
}

// bringInside copies a script to where it is seen from the tree that it runs in, and
// nowhere else: what leads out of the tree by a link leads to a place in it.
func (s *Service) bringInside(j *job) error {
	text, err := os.ReadFile(filepath.Join(s.Root, j.file))
	if err != nil {
		return err
	}
	j.file = "/" + scriptDir + "/trident-script-" + j.id
	return s.inside(*j, func(dir *inroot.Dir, name string) error {
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
func (s *Service) inside(j job, use func(dir *inroot.Dir, name string) error) error {
	dir, err := inroot.FS(filepath.Join(s.Root, j.tree)).MakeDir(path.Dir(j.file), 0o755)
	if err != nil {
		return err
	}
	return errors.Join(use(dir, path.Base(j.file)), dir.Close())
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// await waits until a script has ended and tells how.
func (s *Service) await(ctx context.Context, unit, status string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errkind.Errorf(errkind.Timeout, "it did not end within %s, and was killed", limit))
	defer cancel()
	for {
		_, uerr := s.Systemd.Unit(ctx, unit)
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
		if err := sleep(ctx, scriptPoll); err != nil {
			return context.Cause(ctx)
		}
	}
}

// endScript ends all that a script has started, and deletes its files.
func (s *Service) endScript(ctx context.Context, unit, base string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	err := s.Systemd.Stop(ctx, unit)
	for _, suffix := range []string{".script", ".run", ".status", ".status.new"} {
		err = errors.Join(err, atomicfile.Remove(base+suffix))
	}
	return err
}

// said is the end of what a unit wrote, as far as it can be had.
func (s *Service) said(ctx context.Context, unit string, since time.Time) []byte {
	text, err := systemd.JournalTail(ctx, s.Tools, []string{unit}, since, maxSaid)
	if err != nil {
		return nil
	}
	return text
}

// onHost is a path below the root folder as the host's own processes see it.
func (s *Service) onHost(path string) string {
	rel, err := filepath.Rel(s.Root, path)
	if err != nil {
		return path
	}
	return "/" + rel
}
