package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
)

type dialStdioOptions struct {
	app   *command.App
	stdin io.Reader
}

// newDialStdioCommand returns the command that a client runs on a host through ssh.
func newDialStdioCommand(a *command.App, run func(context.Context, *dialStdioOptions) error) *cobra.Command {
	o := &dialStdioOptions{app: a, stdin: os.Stdin}
	return &cobra.Command{
		Use:    "dial-stdio",
		Short:  "Connect standard input and output to the daemon, for ssh",
		Hidden: true,
		Long: `Dial-stdio copies standard input to the socket of the daemon, and the answers to
standard output, until one of them ends. trident --host ssh://HOST runs it on HOST.`,
		Example: "  trident dial-stdio",
		Args:    command.Exactly(),
		RunE:    command.Run(run, o),
	}
}

// dialStdio ends when the daemon closes the connection, when standard output fails, or when
// ctx ends. The end of standard input is passed on, and the daemon may still answer.
func dialStdio(ctx context.Context, o *dialStdioOptions) error {
	conn, err := o.app.DialSocket(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() {
		_, err := io.Copy(conn, o.stdin)
		if half, ok := conn.(*net.UnixConn); ok && err == nil {
			_ = half.CloseWrite() // it fails only if the connection has ended
		}
	}()
	_, err = io.Copy(o.app.Stdout, conn)
	err = errors.Join(command.Interrupted(ctx, err), conn.Close())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("copy the answers of tridentd: %w", err)
	}
	return nil
}
