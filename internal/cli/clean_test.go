package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

func TestNoTextFromOutsideActsOnTheTerminal(t *testing.T) {
	const evil = commandtest.Evil
	commandtest.Clean(t, 2, func(a *command.App) {
		printError(a, errkind.WithHint(fmt.Errorf("read %s: %w", evil, errors.New(evil)), "%s", evil))
	})
	commandtest.Clean(t, 1, func(a *command.App) { a.Say("%s is deleted.", evil) })
	commandtest.Clean(t, 6, func(a *command.App) {
		doing := func(e *client.Event) *client.Event { e.Phase = 1; return e }
		p := terminal.NewProgress(&a.Streams)
		p.Event(clienttest.Step(1, evil, nil))
		p.Event(doing(clienttest.Log(evil, operationsv1.Severity_SEVERITY_INFO, evil)))
		p.Event(doing(clienttest.Part(evil, evil, 5, 5, 5, 5)))
		e := clienttest.Step(1, evil, nil)
		e.GetChange().Waiting = evil
		p.Event(e)
		p.Event(clienttest.Step(2, evil, &operationsv1.Failure{Reason: evil, Message: evil, Hint: evil}))
		p.End()
	})
}
