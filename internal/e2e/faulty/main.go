// Command faulty is a tridentd with one fault, for tests of how Trident rolls back. It answers
// --probe as a good version does; as the daemon it has the fault that the
// linker has set in the variable fault.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // to lock the datastore

	"github.com/trident-project/trident/internal/daemon"
	"github.com/trident-project/trident/internal/observe"
	"github.com/trident-project/trident/internal/version"
)

// fault is set by the linker: exits, hangs, lies, crashes or datastore.
var fault string

// crashAfter is the time until a crashing daemon crashes: it has answered by then, and the
// soak has not ended.
const crashAfter = 5 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "tridentd:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	c := daemon.Config{
		Root: "/", Version: version.String(), IdleTimeout: daemon.DefaultIdleTimeout, Logger: observe.NewLogger(os.Stderr, slog.LevelInfo, version.String()),
	}
	if len(os.Args) == 4 && os.Args[1] == "--probe" {
		return daemon.Probe(ctx, c, os.Args[3], os.Stdout)
	}
	switch fault {
	case "exits":
		return fmt.Errorf("this version always fails")
	case "hangs":
		select {}
	case "lies":
		c.Version = "9.9.9"
	case "crashes":
		time.AfterFunc(crashAfter, func() { panic("this version crashes") })
	case "datastore":
		if err := lockDatastore(ctx); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown fault %q", fault)
	}
	return daemon.Run(ctx, c)
}

// lockDatastore locks the datastore, so that the daemon cannot open it.
func lockDatastore(ctx context.Context) error {
	db, err := sql.Open("sqlite", "file:/var/lib/trident/datastore.sqlite?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "BEGIN EXCLUSIVE")
	return err
}
