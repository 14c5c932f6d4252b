package servicing

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// onHost runs a test on a host of its own.
func onHost(t *testing.T, test func(*testing.T, *world)) {
	t.Helper()
	onHostWith(t, newGallery(t), test)
}

// onHostWith is onHost with the images of other tests.
func onHostWith(t *testing.T, g *gallery, test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, g)
		w.powerOn()
		defer w.stopDaemon()
		test(t, w)
	})
}

// says are the lines that an operation has logged.
func (w *world) says(id string) string {
	w.t.Helper()
	events, err := w.daemon.store.Events(context.Background(), id, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		if e.Type == operation.Log {
			out = append(out, e.Message)
		}
	}
	return strings.Join(out, "\n")
}

func (w *world) status() hoststate.Status {
	w.t.Helper()
	st, err := w.daemon.service.Status(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// ask asks for a configuration and waits for the end.
func (w *world) ask(text string, stage, finalize bool) operation.Operation {
	w.t.Helper()
	id, err := w.daemon.service.Update(context.Background(), UpdateRequest{Config: w.parse(text), Stage: stage, Finalize: finalize})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.finish(id)
}

func (w *world) kindOf(op operation.Operation) Kind {
	w.t.Helper()
	o, ours := w.daemon.service.Outcome(op)
	if !ours {
		w.t.Fatalf("%s is not a kind of this package", op.Kind)
	}
	return o.Kind
}

func file(content string) string {
	return fmt.Sprintf("os: {additionalFiles: [{destination: /etc/f, content: %q}]}", content)
}

func TestAnAdoptedHostIsUpdatedAndRolledBack(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		if op := w.ask(file("one"), true, true); op.Phase != operation.Done || w.kindOf(op) != RuntimeUpdate || w.text("etc/f") != "one" {
			t.Fatalf("%+v, the file is %q", op, w.text("etc/f"))
		}
		if op := w.ask(file("two"), true, true); op.Phase != operation.Done || w.text("etc/f") != "two" {
			t.Fatalf("%+v, the file is %q", op, w.text("etc/f"))
		}
		for _, want := range []string{"one", ""} {
			id, err := w.daemon.service.Rollback(t.Context(), RollbackRequest{Kind: hoststate.RuntimeLink, Stage: true, Finalize: true})
			if err != nil {
				t.Fatal(err)
			}
			if op := w.finish(id); op.Phase != operation.Done || w.kindOf(op) != RuntimeRollback || w.text("etc/f") != want {
				t.Fatalf("%+v, the file is %q, want %q", op, w.text("etc/f"), want)
			}
		}
		id, err := w.daemon.service.Rollback(t.Context(), RollbackRequest{Stage: true, Finalize: true})
		if err != nil {
			t.Fatal(err)
		}
		if op := w.finish(id); w.kindOf(op) != None || w.says(id) != "there is nothing to roll back to" {
			t.Errorf("%s: %s", op.Kind, w.says(id))
		}
	})
}

func TestAFailedUpdateLeavesTheHostAsItWasAndMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		bad := file("one") + "\nhealth: {checks: [{name: it, runOn: [all], content: fail}, {name: other, runOn: [all], systemdServices: [nowhere], timeoutSeconds: 1}, {runOn: [clean-install], content: fail}]}"
		for range 2 {
			op := w.ask(bad, true, true)
			if op.Phase != operation.Undone || op.Failure.Kind != errkind.Unhealthy || op.Failure.Name != "HealthChecksFailed" {
				t.Fatalf("%s: %+v", op.Phase, op.Failure)
			}
			for _, word := range []string{`Failed health check(s) during 'RuntimeUpdate': '`, `(2 of 2)`, `"it": Script 'it' failed: exit status 3`, `"other": nowhere.service is not active after 1s: Unit nowhere.service could not be found`} {
				if !strings.Contains(op.Failure.Message, word) {
					t.Errorf("%q lacks %q", op.Failure.Message, word)
				}
			}
			st := w.status()
			if st.Phase != (hoststate.Fresh{}) || st.LastError == nil || st.LastError.Name != "health-checks-failed" || !strings.HasPrefix(st.LastError.Location, "internal/servicing/hooks/health.go:") {
				t.Errorf("the status is %+v, %+v", st, st.LastError)
			}
			if w.text("etc/f") != "" {
				t.Errorf("the file is there: %q", w.text("etc/f"))
			}
		}
		logs, err := filepath.Glob(filepath.Join(w.root, "var/lib/trident", "trident-health-check-failure-"+"*.log"))
		if err != nil || len(logs) == 0 {
			t.Errorf("logs: %v, %v", logs, err)
		}
		if op := w.ask(file("one"), true, true); op.Phase != operation.Done || w.status().LastError != nil {
			t.Errorf("%+v, %+v", op, w.status().LastError)
		}
	})
}

func TestAStagedUpdateIsFinalizedReplacedOrDiscarded(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.ask(file("one"), true, true)
		w.ask(file("two"), true, false)
		if st := w.status(); st.Phase != hoststate.StagedRuntimeUpdate || w.text("etc/f") != "one" {
			t.Fatalf("staged: %+v, %q", st, w.text("etc/f"))
		}
		if op := w.ask(file("two"), true, false); w.kindOf(op) != None {
			t.Errorf("staged again: %s", op.Kind)
		}
		w.ask(file("three"), true, false) // instead
		if op := w.ask(file("three"), false, true); op.Kind != "runtime-update-finalize" || w.text("etc/f") != "three" {
			t.Errorf("finalized: %s, %q", op.Kind, w.text("etc/f"))
		}
		w.ask(file("four"), true, false)
		op := w.ask(file("three"), true, true) // what the host has
		if st := w.status(); w.kindOf(op) != None || st.Phase != (hoststate.Settled{}) || !strings.Contains(w.says(op.ID), "discarded") {
			t.Errorf("%s, %+v: %s", op.Kind, st, w.says(op.ID))
		}
		chain, err := w.daemon.service.Chain(ctx)
		if err != nil || len(chain) != 2 || !strings.Contains(chain[0].Spec, "one") {
			t.Errorf("the way back is %v, %v", chain, err)
		}
		_, err = w.daemon.service.Update(ctx, UpdateRequest{Config: w.parse(file("five")), Finalize: true})
		if errkind.Of(err) != errkind.Precondition || errkind.Variant(err) != "UnexpectedServicingState" {
			t.Errorf("finalize what is not staged: %v", err)
		}
		if id, err := w.daemon.service.Finalize(ctx, false); err != nil || w.kindOf(w.finish(id)) != None {
			t.Errorf("finalize nothing: %v", err)
		}
	})
}

func TestAnUpdateThatNeedsTwoSlotsIsRefusedOnAHostWithOne(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.ask(file("one"), true, true)
		_, err := w.daemon.service.Update(ctx, UpdateRequest{Config: w.parse(file("one") + "\ninternalParams: {forceAbUpdate: true}"), Stage: true, Finalize: true})
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "forceAbUpdate asks for it): this host has no A/B volumes") {
			t.Errorf("an A/B update: %v", err)
		}
		op := w.ask(file("one")+"\nhealth: {checks: [{runOn: [all], content: x}]}", true, true)
		if w.kindOf(op) != None || !strings.Contains(w.says(op.ID), "health is different, which needs no update by itself") {
			t.Errorf("%s: %s", op.Kind, w.says(op.ID))
		}
		missing := "os: {additionalFiles: [{destination: /etc/f, source: /srv/missing}]}"
		if _, err := w.daemon.service.Plan(ctx, w.parse(missing)); errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "read /srv/missing") {
			t.Errorf("a plan of a file without its source: %v", err)
		}
		plan, err := w.daemon.service.Plan(ctx, w.parse(file("two")))
		if err != nil || plan.Kind != RuntimeUpdate || plan.Effective == nil || len(plan.Effects()) == 0 {
			t.Errorf("plan: %+v, %v", plan, err)
		}
		if _, err := w.daemon.service.Rollback(ctx, RollbackRequest{Kind: hoststate.ABLink, Stage: true}); errkind.Variant(err) != "InvalidRollbackExpectation" {
			t.Errorf("roll back an A/B update: %v", err)
		}
		if id, err := w.daemon.service.Commit(ctx, false); id != "" || err != nil {
			t.Errorf("commit: %q, %v", id, err)
		}
		st := w.status()
		st.Phase = hoststate.TryingABUpdate
		if err := w.daemon.store.Record(ctx, st); err != nil {
			t.Fatal(err)
		}
		if _, err := w.daemon.service.Commit(ctx, false); errkind.Of(err) != errkind.Precondition {
			t.Errorf("commit an A/B update: %v", err)
		}
	})
}

func TestBadInputIsRefusedBeforeAnythingChanges(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		w.ask(file("one"), true, true)
		w.write("etc/folder/x", "x")
		g := w.gallery
		old := w.state()
		for _, c := range []struct {
			title, config, name, want string
			kind                      errkind.Kind
		}{
			{"no source", "os: {additionalFiles: [{destination: /etc/f, source: /nowhere}]}", errkind.NameInvalidHostConfigurationDynamic, "read /nowhere", errkind.Invalid},
			{"a folder in its place", "os: {additionalFiles: [{destination: /etc/folder, content: x}]}", errkind.NameInvalidHostConfigurationDynamic, "neither a file nor a link", errkind.Precondition},
			{"no script", "scripts: {preServicing: [{runOn: [runtime-update], path: /nowhere}]}", errkind.NameInvalidHostConfigurationDynamic, "read /nowhere", errkind.Invalid},
			{"a variable that is none", "scripts: {preServicing: [{runOn: [runtime-update], content: x, environmentVariables: {a-b: c}}]}", errkind.NameInvalidHostConfigurationDynamic, `"a-b" cannot be`, errkind.Invalid},
			{"netplan that does not parse", "os: {netplan: {version: 2, ethernets: {eth0: {nonsense: 1}}}}", "GenerateNetplanConfig", "it does not parse", errkind.Invalid},
			{"another hash", fmt.Sprintf("os: {sysexts: [{url: %q, sha384: %s}]}", g.app1.url(), g.app2.sha), "PopulateExtensionImages", "SHA-384 is", errkind.Corrupt},
			{"another class", fmt.Sprintf("os: {confexts: [{url: %q, sha384: %s}]}", g.app1.url(), g.app1.sha), "PopulateExtensionImages", "not a confext", errkind.Corrupt},
			{"no image", fmt.Sprintf("os: {sysexts: [{url: 'file:///srv/none', sha384: %s}]}", g.app1.sha), "PopulateExtensionImages", "srv/none", errkind.NotFound},
			{"a hook that fails", file("two") + "\nscripts: {preServicing: [{name: p, runOn: [runtime-update], content: fail}]}", "RunPreServicingScript", `Failed to run pre-servicing script 'p': Script 'p' failed: exit status 3`, errkind.Internal},
		} {
			op := w.ask(c.config, true, true)
			if op.Phase != operation.Undone || op.Failure.Kind != c.kind || op.Failure.Name != c.name || !strings.Contains(op.Failure.Message, c.want) {
				t.Errorf("%s: %s, %+v", c.title, op.Phase, op.Failure)
			}
			if diff := diffStates(w.state(), old); diff != "" {
				t.Errorf("%s: %s", c.title, diff)
			}
			if st := w.status(); st.Phase != (hoststate.Settled{}) || st.LastError == nil {
				t.Errorf("%s: %+v", c.title, st)
			}
		}
	})
}

func TestScriptsRunInOrderAndOneThatHangsIsKilled(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		w.write("usr/bin/look", "look")
		w.write("srv/hook", "hook")
		const scripts = `
scripts:
  preServicing: [{runOn: [runtime-update], path: /srv/hook, interpreter: /bin/bash}, {runOn: [runtime-update], content: pre}]
  postConfigure: [{runOn: [runtime-update], content: post}]
health: {checks: [{runOn: [all], path: usr/bin/look}]}`
		if op := w.ask(file("one")+scripts, true, true); op.Phase != operation.Done {
			t.Fatalf("%+v", op.Failure)
		}
		if diff := cmp.Diff([]string{"hook", "pre", "post", "look"}, w.ran); diff != "" {
			t.Error(diff)
		}
		op := w.ask(file("three")+"\nscripts: {postConfigure: [{name: slow, runOn: [runtime-update], content: hang}]}", true, true)
		if op.Phase != operation.Undone || op.Failure.Kind != errkind.Timeout || op.Failure.Name != "RunPostConfigureScript" ||
			!strings.Contains(op.Failure.Message, `Failed to run post-configure script 'slow': Script 'slow' failed: it did not end within 1h0m0s, and was killed`) || w.text("etc/f") != "one" {
			t.Errorf("%s: %+v, the file is %q", op.Phase, op.Failure, w.text("etc/f"))
		}
		unit := "trident-script-" + op.ID + "-post-0.service"
		if _, err := w.systemd.Unit(t.Context(), unit); errkind.Of(err) != errkind.NotFound {
			t.Errorf("%s is still there: %v", unit, err)
		}
	})
}

func TestASecondRequestNamesTheRunningOperation(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		config := w.parse(file("one") + "\nhealth: {checks: [{runOn: [all], systemdServices: [never.service], timeoutSeconds: 100}]}")
		id, err := w.daemon.service.Update(ctx, UpdateRequest{Config: config, Stage: true, Finalize: true})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := w.daemon.service.Update(ctx, UpdateRequest{Config: config, Stage: true}); errkind.Of(err) != errkind.Busy || !strings.Contains(err.Error(), id) {
			t.Errorf("a second one: %v", err)
		}
		if st := w.status(); st.Phase != hoststate.StagedRuntimeUpdate {
			t.Errorf("status while it runs: %+v", st)
		}
		if _, err := w.daemon.runner.Cancel(ctx, id); err != nil {
			t.Fatal(err)
		}
		if op := w.finish(id); op.Phase != operation.Undone || w.text("etc/f") != "" {
			t.Errorf("%+v", op)
		}
	})
}
