package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// evil is a name that fakes lines, clears the screen, hides and reorders what follows.
const evil = "a\nhint: run me\r\x1b[2J\x1b]0;title\x07\u009b2J\u202egpj\u200b\u2028b\x7f\xff"

// acts reports whether a character acts on a terminal, or cannot be seen there.
func acts(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp))
}

// forwards is an event of an operation that runs its steps.
func forwards(e *client.Event) *client.Event {
	e.Phase = 1
	return e
}

func TestNoTextFromOutsideActsOnTheTerminal(t *testing.T) {
	failure := &operationsv1.Failure{Reason: evil, Message: evil, Hint: evil}
	op := &client.Operation{
		Id: evil, Kind: evil, Summary: evil, Step: evil, Waiting: evil, Failure: failure, Phase: operationsv1.Phase_PHASE_UNDONE,
		Halt: &operationsv1.Halt{Cause: failure}, Steps: []*operationsv1.Step{{Name: evil}},
	}
	status := &client.Status{
		RunningVersion: evil, BaseVersion: evil, ActiveVersion: evil, RollbackTarget: evil, Operation: op, Faults: []string{evil},
		Last: &client.HistoryEntry{OperationId: evil, Kind: evil, Failure: failure, Evidence: evil},
	}
	image := &inspection{
		File: evil, Architecture: evil, RootHash: evil, Unread: evil, Signature: &signatureInfo{Signer: evil, Fingerprint: evil},
		Partitions: []partition{{Name: evil, ID: evil}}, Releases: []extensionRelease{{evil, map[string]string{evil: evil}}},
	}
	listed := &inspection{Files: []fileInfo{{Path: evil, Mode: evil, Target: evil}}}
	for name, c := range map[string]struct {
		show  func(a *app)
		lines int
	}{
		"an error": {func(a *app) {
			a.printError(errkind.WithHint(fmt.Errorf("read %s: %w", evil, errors.New(evil)), "%s", evil))
		}, 2},
		"operation show":  {func(a *app) { _ = a.Show(op, func(w *terminal.Table) { writeOperation(w, op) }) }, 13},
		"self status":     {func(a *app) { _ = a.Show(status, func(w *terminal.Table) { writeStatus(w, status) }) }, 12},
		"sysext inspect":  {func(a *app) { _ = a.Show(image, image.write) }, 13},
		"the files of it": {func(a *app) { _ = a.Show(listed, listed.write) }, 9},
		"a word":          {func(a *app) { a.Say("%s is deleted.", evil) }, 1},
		"progress": {func(a *app) {
			p := terminal.NewProgress(&a.Streams)
			p.Event(clienttest.Step(1, evil, nil))
			p.Event(forwards(clienttest.Log(evil, operationsv1.Severity_SEVERITY_INFO, evil)))
			p.Event(forwards(clienttest.Part(evil, evil, 5, 5, 5, 5)))
			e := clienttest.Step(1, evil, nil)
			e.GetChange().Waiting = evil
			p.Event(e)
			p.Event(clienttest.Step(2, evil, failure))
			p.End()
		}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			a, stdout, stderr := testApp()
			c.show(a)
			text := stdout.String() + stderr.String()
			if strings.ContainsFunc(text, acts) || strings.Contains(text, "\nhint: run me") {
				t.Errorf("%q", text)
			}
			if n := strings.Count(text, "\n"); n != c.lines {
				t.Errorf("%d lines, want %d:\n%s", n, c.lines, text)
			}
			for _, word := range []string{"json", "yaml"} {
				a, stdout, _ := testApp()
				a.Output = terminal.Format(word)
				c.show(a)
				if text := stdout.String(); strings.ContainsFunc(text, acts) {
					t.Errorf("as %s: %q", word, text)
				}
			}
		})
	}
}
