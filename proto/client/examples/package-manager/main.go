// Program package-manager is an example of a plugin of a package manager. After a
// transaction that installed a new image of Trident, it waits for a running operation,
// and then upgrades Trident to that image. It does nothing if that version runs already.
//
//	package-manager /usr/share/trident/trident-2.0.0.raw
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/trident-project/trident/proto/client"
)

// patience is how long a transaction of packages may be held up.
const patience = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "package-manager:", err)
		cancel()
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer, options ...client.Option) error {
	if len(args) != 1 {
		return errors.New("name the image that the package brought")
	}
	trident, err := client.Dial("/run/trident/trident.sock", append(options, client.WithName("package-manager", "example"))...)
	if err != nil {
		return err
	}
	defer func() { _ = trident.Close() }()
	if err := settle(ctx, trident, out); err != nil {
		return err
	}
	before, err := trident.Status(ctx)
	if err != nil {
		return err
	}
	// The host's /usr is written by packages, so that Trident asks first.
	trial := &client.Trial{AllowReadOnlyUsr: true}
	_, err = trident.Upgrade(ctx, client.Source{Path: args[0]}, trial, func(e *client.Event) {
		if e.GetChange().GetWaiting() != "" {
			fmt.Fprintf(out, "waiting for a %s\n", e.GetChange().GetWaiting())
		}
	})
	detached, gone := errors.AsType[*client.DetachedError](err)
	switch {
	case gone:
		// Nobody is needed for the rest of it: the transaction must not fail.
		fmt.Fprintf(out, "operation %s goes on\n", detached.Operation)
		return nil
	case client.Kind(err) == client.KindExists, client.Kind(err) == client.KindTooOld:
		fmt.Fprintf(out, "%s stays: %v\n", before.GetRunningVersion(), err)
		return nil
	case err != nil:
		return err
	}
	version, err := trident.Version(ctx)
	fmt.Fprintf(out, "%s is replaced by %s\n", before.GetRunningVersion(), version)
	return err
}

// settle waits for what runs already, however it ends.
func settle(ctx context.Context, trident *client.Client, out io.Writer) error {
	running, err := trident.Operations(ctx, 0, true)
	if err != nil {
		return err
	}
	for _, op := range running {
		fmt.Fprintf(out, "waiting for: %s\n", op.GetSummary())
		_, err := trident.Watch(ctx, op.GetId(), op.GetLastSequence(), nil)
		if failed, ok := errors.AsType[*client.OperationError](err); ok && !failed.Stuck() {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}
