package servicing

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/systemd"
)

// withTool replaces a tool of the host.
func (w *world) withTool(name string, instead func(args []string) ([]byte, error)) {
	others := w.daemon.service.Tools
	w.daemon.service.Tools = run.Func(func(ctx context.Context, called string, args ...string) ([]byte, error) {
		if called == name {
			return instead(args)
		}
		return others.Run(ctx, called, args...)
	})
}

// withoutNetplan takes netplan away from the host.
func (w *world) withoutNetplan() {
	w.withTool("netplan", func([]string) ([]byte, error) {
		return nil, errkind.Errorf(errkind.Precondition, "run netplan: there is none")
	})
}

// update updates the host to a configuration that an older release, or upstream, has taken.
func (w *world) update(text string, stage, finalize bool) operation.Operation {
	w.t.Helper()
	c, err := hostconfig.ParseRecorded([]byte(text))
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := w.daemon.service.Update(w.t.Context(), UpdateRequest{Config: c, Stage: stage, Finalize: finalize})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.finish(id)
}

func sysexts(pictures ...picture) string {
	text := "os:\n  sysexts:\n"
	for _, p := range pictures {
		text += fmt.Sprintf("  - {url: %q, sha384: %s}\n", p.url(), p.sha)
	}
	return text
}

// What a host or a file of it makes impossible is refused before anything changes, with one
// error that says why.
func TestWhatAHostMakesImpossibleIsRefusedBeforeItChanges(t *testing.T) {
	t.Parallel()
	const dynamic = errkind.NameInvalidHostConfigurationDynamic
	g := newGallery(t)
	for _, c := range []struct {
		title   string
		prepare func(w *world)
		config  func(g *gallery) string
		kind    errkind.Kind
		named   string // upstream's name
		says    string
		hints   string
	}{
		{title: "SELinux is enforced", prepare: func(w *world) { w.write("sys/fs/selinux/enforce", "1") }, config: func(g *gallery) string { return sysexts(g.app1) },
			kind: errkind.Precondition, named: dynamic, says: "SELinux is enforced, and extensions would change the labels", hints: "permissive"},
		{title: "SELinux does not tell", prepare: func(w *world) { w.write("sys/fs/selinux/enforce/file", "") }, config: func(g *gallery) string { return sysexts(g.app1) },
			kind: errkind.Internal, says: "ask whether SELinux is enforced: "},
		{title: "no netplan", prepare: (*world).withoutNetplan, config: func(*gallery) string { return "os: {netplan: {version: 2, ethernets: {eth0: {dhcp4: true}}}}" },
			kind: errkind.Precondition, named: "MissingBinary", says: "check os.netplan: run netplan: there is none", hints: "Install netplan, or leave os.netplan out."},
		{title: "two images of Trident", config: func(g *gallery) string { return sysexts(g.trident2, g.stranger) }, kind: errkind.Invalid, named: "PopulateExtensionImages",
			says: "the configuration has two images of trident itself: "},
		{title: "a source that is a folder", config: sourced("/srv"), kind: errkind.Precondition, named: dynamic, says: "read /srv: /srv is not a file, but a folder"},
		{title: "a source that is a pipe", prepare: func(w *world) {
			if err := unix.Mkfifo(filepath.Join(w.root, "srv/pipe"), 0o600); err != nil {
				w.t.Fatal(err)
			}
		}, config: sourced("/srv/pipe"), kind: errkind.Invalid, named: dynamic, says: "read /srv/pipe: it is not a regular file"},
		{title: "a source that is a link to nowhere", prepare: func(w *world) {
			if err := os.Symlink("/srv/nowhere", filepath.Join(w.root, "srv/link")); err != nil {
				w.t.Fatal(err)
			}
		}, config: sourced("/srv/link"), kind: errkind.Invalid, named: dynamic, says: "read /srv/link: "},
		{title: "a source that is too large", prepare: func(w *world) {
			w.write("srv/large", "")
			if err := os.Truncate(filepath.Join(w.root, "srv/large"), osconfig.MaxFile+1); err != nil {
				w.t.Fatal(err)
			}
		}, config: sourced("/srv/large"), kind: errkind.TooLarge, named: dynamic, says: fmt.Sprintf("read /srv/large: it has %d bytes, and %d are allowed", osconfig.MaxFile+1, osconfig.MaxFile)},
		{title: "a variable with a zero byte", config: scripted(`content: x, environmentVariables: {A: "b\0c"}`), kind: errkind.Invalid, named: dynamic,
			says: `script "s": the environment variable A has a zero byte in it`},
		{title: "an argument with a zero byte", config: scripted(`content: x, arguments: ["a", "b\0c"]`), kind: errkind.Invalid, named: dynamic,
			says: `script "s": an argument has a zero byte in it`},
		{title: "a script without content and path", config: scripted(`arguments: [a]`), kind: errkind.Invalid, named: dynamic, says: `script "s": it has neither content nor path`},
	} {
		t.Run(c.title, func(t *testing.T) {
			t.Parallel()
			onHostWith(t, g, func(t *testing.T, w *world) {
				w.ask(file("one"), true, true)
				if c.prepare != nil {
					c.prepare(w)
				}
				old, was := w.state(), w.status()
				op := w.update(c.config(w.gallery), true, true)
				f := op.Failure
				if op.Phase != operation.Undone || f.Kind != c.kind || f.Name != c.named || !strings.Contains(f.Message, c.says) || !strings.Contains(f.Hint, c.hints) {
					t.Errorf("%s: %+v", op.Phase, f)
				}
				if diff := diffStates(w.state(), old); diff != "" {
					t.Error(diff)
				}
				if st := w.status(); st.Phase != was.Phase || st.Spec != was.Spec || st.LastError == nil {
					t.Errorf("the status is %+v, was %+v", st, was)
				}
			})
		})
	}
}

func sourced(name string) func(*gallery) string {
	return func(*gallery) string {
		return "os: {additionalFiles: [{destination: /etc/f, source: " + name + "}]}"
	}
}

func scripted(more string) func(*gallery) string {
	return func(*gallery) string {
		return "scripts: {postConfigure: [{name: s, runOn: [runtime-update], " + more + "}]}"
	}
}

// SELinux that is permissive lets extensions be merged, and the operation warns of that.
func TestExtensionsBesidePermissiveSELinuxAreWarnedOf(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		const warning = "SELinux is permissive: extensions change the labels of files"
		w.write("sys/fs/selinux/enforce", "0\n")
		if op := w.ask(file("one"), true, true); strings.Contains(w.says(op.ID), warning) {
			t.Errorf("without extensions it says\n%s", w.says(op.ID))
		}
		op := w.ask(sysexts(w.gallery.app1), true, true)
		if op.Phase != operation.Done || !strings.Contains(w.says(op.ID), warning) || w.text("usr/.systemd-sysext/extensions") != "app\n" {
			t.Errorf("%s: %+v: it says\n%s", op.Phase, op.Failure, w.says(op.ID))
		}
	})
}

// A host from which netplan has gone loses the file of the network that the configuration
// does not have any more; a network that it has cannot be applied, and is undone.
func TestAHostWithoutNetplanOnlyLosesTheFileOfItsNetwork(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		w.ask(file("one")[:len(file("one"))-1]+", netplan: {version: 2, ethernets: {eth0: {dhcp4: true}}}}", true, true)
		if !strings.Contains(w.text("etc/netplan/99-trident.yaml"), "eth0") {
			t.Fatal("the host has no network")
		}
		w.withoutNetplan()
		op := w.ask(file("one"), true, true)
		if says := w.says(op.ID); op.Phase != operation.Done || !strings.Contains(says, "the file of the network is removed, but the host has no netplan to apply that") {
			t.Errorf("%s: %+v: it says\n%s", op.Phase, op.Failure, says)
		}
		if got := w.text("etc/netplan/99-trident.yaml"); got != "" {
			t.Errorf("the network is %q", got)
		}
	})
}

// The previous network is applied even if netplan cannot be told which devices the new one
// had, and links to nowhere beside it are no files of a network.
func TestOtherFilesOfNetplanAreLeftAlone(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		w.write("etc/netplan/README", "a person's")
		if err := os.Symlink("/nowhere.yaml", filepath.Join(w.root, "etc/netplan/10-link.yaml")); err != nil {
			t.Fatal(err)
		}
		old := w.state()
		op := w.ask(`os: {netplan: {version: 2, ethernets: {eth0: {dhcp4: true}}}}
health: {checks: [{name: it, runOn: [all], content: fail}]}`, true, true)
		if diff := diffStates(w.state(), old); diff != "" || op.Phase != operation.Undone || op.Failure.Kind != errkind.Unhealthy {
			t.Errorf("%s: %+v: %s", op.Phase, op.Failure, diff)
		}
	})
}

// What was staged is checked again when it is finalized.
func TestAStagedCopyThatHasChangedIsNotFinalized(t *testing.T) {
	t.Parallel()
	const config = "os: {additionalFiles: [{destination: /etc/f, source: /srv/source}]}"
	g := newGallery(t)
	for title, c := range map[string]struct {
		change func(copied, manifest string) error
		says   string
	}{
		"changed":       {func(copied, _ string) error { return os.WriteFile(copied, []byte("another"), 0o600) }, "the copy of /srv/source has changed"},
		"gone":          {func(copied, _ string) error { return os.Remove(copied) }, "no such file or directory"},
		"not in a list": {func(_, manifest string) error { return os.WriteFile(manifest, []byte("[]"), 0o600) }, "there is no copy of /srv/source"},
		"in a bad list": {func(_, manifest string) error { return os.WriteFile(manifest, []byte("[{"), 0o600) }, "there is no copy of /srv/source"},
		"without list":  {func(_, manifest string) error { return os.Remove(manifest) }, "there is no copy of /srv/source"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			onHostWith(t, g, func(t *testing.T, w *world) {
				w.ask(config, true, false)
				h := w.daemon.service.Host
				if err := c.change(h.SourceCopy("/srv/source"), filepath.Join(h.StagedDir(), "sources.json")); err != nil {
					t.Fatal(err)
				}
				op := w.ask(config, false, true)
				if f := op.Failure; op.Phase != operation.Undone || f.Kind != errkind.Corrupt || !strings.Contains(f.Message, "check the copies of staged files: ") ||
					!strings.Contains(f.Message, c.says) || f.Hint != "Stage the update again." {
					t.Errorf("%s: %+v", op.Phase, op.Failure)
				}
				if w.text("etc/f") != "" {
					t.Errorf("the file is %q", w.text("etc/f"))
				}
				if op := w.ask(config, true, true); op.Phase != operation.Done || w.text("etc/f") != "from a source\n" {
					t.Errorf("staged again: %s: %+v, the file is %q", op.Phase, op.Failure, w.text("etc/f"))
				}
			})
		})
	}
}

// Permissions that are not octal digits are refused before a file is written.
func TestPermissionsThatAreNotDigitsAreRefused(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		old := w.state()
		op := w.update("os: {additionalFiles: [{destination: /etc/a, content: x}, {destination: /etc/f, content: x, permissions: rwx}]}", true, true)
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.Invalid || !strings.Contains(op.Failure.Message, "write /etc/f: its permissions: ") {
			t.Errorf("%s: %+v", op.Phase, op.Failure)
		}
		if diff := diffStates(w.state(), old); diff != "" {
			t.Error(diff)
		}
	})
}

// A plan names each change by what it does, and secrets in addresses are not in it.
func TestAPlanAtRunTimeSaysWhatItChanges(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		g := w.gallery
		planned := func(text string) (*Plan, []string) {
			t.Helper()
			plan, err := w.daemon.service.Plan(t.Context(), w.parse(text))
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, e := range plan.Effects() {
				if !strings.Contains(plan.String(), e.Text) {
					t.Errorf("%q is not in\n%s", e.Text, plan)
				}
				out = append(out, e.Text)
			}
			return plan, out
		}
		w.ask(before(g), true, true)
		_, got := planned(strings.Replace(wants(g, g.app2), "  confexts:", "  - {url: 'https://host/later.raw?token=secret#x', sha384: "+sum384+"}\n  confexts:", 1))
		want := []string{
			`run the script "pre"`, "write /etc/app.conf", "write /etc/new/folder/comes.conf", "remove /etc/goes.conf", "write the network configuration and apply it",
			"remove the sysext /var/lib/extensions/app.raw", "add the sysext " + g.app2.sha, "add the sysext " + g.tool.sha, "add the sysext later.raw",
		}
		for _, text := range want {
			if !slices.Contains(got, text) {
				t.Errorf("the plan does not say %q, but\n%s", text, strings.Join(got, "\n"))
			}
		}
		const at = "/var/lib/extensions/app.raw"
		_, got = planned(strings.Replace(before(g), fmt.Sprintf("{url: %q, sha384: %s}", g.app1.url(), g.app1.sha), fmt.Sprintf("{url: %q, sha384: %s, path: %s}", g.app2.url(), g.app2.sha, at), 1))
		if diff := cmp.Diff([]string{"replace the sysext " + at + " by " + at}, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		plan, got := planned(file("one"))
		if diff := cmp.Diff([]string{
			"write /etc/f", "remove /etc/app.conf", "remove /etc/goes.conf", "remove the network configuration and apply that",
			"remove the sysext /var/lib/extensions/app.raw", "remove the confext /var/lib/confexts/settings.raw",
		}, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if !strings.HasPrefix(plan.String(), "Steps of the servicing runtime-update:\n") {
			t.Errorf("the plan is\n%s", plan)
		}
		if plan, got = planned(before(g)); plan.Kind != None || len(got) > 0 || !strings.HasPrefix(plan.String(), "No update servicing required: the host has what the configuration says.\n") {
			t.Errorf("a plan of nothing has %q and is\n%s", got, plan)
		}
	})
}

// A health check names each unit that is not well, and by what.
func TestAUnitThatDoesNotStayActiveIsNotHealthy(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		active := systemd.Unit{Active: "active", Sub: "running", Result: "success", Invocation: "first"}
		units := map[string]func(){
			"restarts": func() {
				w.systemd.Set("restarts.service", systemd.Unit{Active: "active", Sub: "running", Invocation: "first", Restarts: 1})
			},
			"starts-anew": func() {
				w.systemd.Set("starts-anew.service", systemd.Unit{Active: "active", Sub: "running", Invocation: "second"})
			},
			"reloads": func() {
				w.systemd.Set("reloads.service", systemd.Unit{Active: "reloading", Sub: "reload", Invocation: "first"})
			},
			"stays": func() {},
		}
		for name, change := range units {
			w.systemd.Set(name+".service", active)
			time.AfterFunc(2*time.Second, change)
		}
		w.systemd.Set("oneshot.service", systemd.Unit{Active: "failed", Sub: "failed", Result: "exit-code"})
		op := w.ask(file("one")+`
health: {checks: [
  {name: units, runOn: [all], systemdServices: [restarts, starts-anew, reloads, stays], timeoutSeconds: 5},
  {name: at once, runOn: [all], systemdServices: [oneshot], timeoutSeconds: 0}]}`, true, true)
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.Unhealthy {
			t.Fatalf("%s: %+v", op.Phase, op.Failure)
		}
		lacks(t, "the failure", op.Failure.Message, "restarts.service was active, and then it restarted", "starts-anew.service was active, and then it restarted",
			"oneshot.service is not active: failed (failed), result exit-code", "(2 of 2)")
		for _, fine := range []string{"reloads.service", "stays.service"} {
			if strings.Contains(op.Failure.Message, fine) {
				t.Errorf("%s is well: %s", fine, op.Failure.Message)
			}
		}
	})
}

// What a failed script said is in the log of the operation and in that of the health checks,
// of which the oldest are deleted.
func TestWhatAFailedScriptSaidIsKept(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		w.withTool("journalctl", func([]string) ([]byte, error) { return []byte("no disk in the drive\n"), nil })
		op := w.ask(file("one")+"\nscripts: {preServicing: [{name: p, runOn: [runtime-update], content: fail}]}", true, true)
		if says := w.says(op.ID); op.Phase != operation.Undone || !strings.Contains(says, `script "p" said: no disk in the drive`) {
			t.Errorf("%s: it says\n%s", op.Phase, says)
		}
		logs := func() []string {
			found, err := filepath.Glob(filepath.Join(w.root, "var/lib/trident/trident-health-check-failure-*.log"))
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		var first string
		for range 12 {
			w.ask(file("one")+"\nhealth: {checks: [{name: it, runOn: [all], content: fail}, {name: other, runOn: [all], content: fine}]}", true, true)
			if first == "" {
				first = logs()[0]
				lacks(t, first, fileText(t, first), `health check "it": failed: `, "it said:\nno disk in the drive", `health check "other": passed`)
			}
			time.Sleep(time.Second) // of the synctest clock: the names have seconds
		}
		if kept := logs(); len(kept) != 10 || slices.Contains(kept, first) {
			t.Errorf("%d logs: %v", len(kept), kept)
		}
	})
}

// A rollback may be staged and finalized apart.
func TestARollbackIsStagedAndFinalizedApart(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		w.ask(file("one"), true, true)
		w.ask(file("two"), true, true)
		back := func(stage, finalize bool) operation.Operation {
			t.Helper()
			id, err := w.daemon.service.Rollback(t.Context(), RollbackRequest{Kind: hoststate.RuntimeLink, Stage: stage, Finalize: finalize})
			if err != nil {
				t.Fatal(err)
			}
			return w.finish(id)
		}
		op := back(true, false)
		if st := w.status(); w.kindOf(op) != RuntimeRollback || op.Phase != operation.Done || st.Phase != hoststate.StagedRuntimeRollback || w.text("etc/f") != "two" {
			t.Errorf("%s, %s: %+v, the file is %q", op.Kind, op.Phase, st, w.text("etc/f"))
		}
		lacks(t, "the operation", w.says(op.ID), "Staging of runtime rollback succeeded")
		op = back(false, true)
		if st := w.status(); w.kindOf(op) != RuntimeRollback || op.Phase != operation.Done || st.Phase != (hoststate.Settled{}) || w.text("etc/f") != "one" {
			t.Errorf("%s, %s: %+v, the file is %q", op.Kind, op.Phase, st, w.text("etc/f"))
		}
	})
}
