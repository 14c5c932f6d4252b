package machine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

// warn prints a warning.
func warn(a *command.App, format string, args ...any) {
	fmt.Fprintf(a.Stderr, "warning: %s\n", terminal.Line(fmt.Sprintf(format, args...)))
}

// receive calls the daemon and gives each message of its stream to take.
func receive[M any](ctx context.Context, a *command.App, doing string, call func(*client.Client) (grpc.ServerStreamingClient[M], error), take func(*M) error) error {
	return a.Ask(ctx, doing, func(c *client.Client) error {
		stream, err := call(c)
		for err == nil {
			var m *M
			if m, err = stream.Recv(); err == nil {
				if err = take(m); err != nil {
					return fmt.Errorf("print: %w", err)
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}
