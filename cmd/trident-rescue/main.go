// Command trident-rescue watches a new version of Trident from outside of it and
// puts the last good one back. It is started by tridentd and, after a power cut,
// by systemd; see docs/self-servicing.md.
//
// It uses the standard library only (internal/layers_test.go sees to that): it
// has to work when nothing else does.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/version"
)

const usage = `usage: trident-rescue watch     judge the trial of a new version, if there is one
       trident-rescue newest    drop an extension of trident that is not newer than the base
       trident-rescue version
TRIDENT_ROOT names another root folder than /.
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "trident-rescue:", rescue.OneLine(err.Error()))
		os.Exit(1)
	}
}

func run(args []string) error {
	root := os.Getenv("TRIDENT_ROOT")
	if root == "" {
		root = "/"
	}
	if len(args) != 1 {
		fmt.Fprint(os.Stderr, usage)
		return fmt.Errorf("one command is needed, not %d", len(args))
	}
	switch args[0] {
	case "watch":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		file := rescue.File{Dir: filepath.Join(root, rescue.Dir), Root: root}
		return rescue.Watch(ctx, file, rescue.SystemHost{Root: root, Out: os.Stderr})
	case "newest":
		summary, err := rescue.RemoveOutdatedLink(root)
		if summary != "" {
			fmt.Println(rescue.OneLine(summary))
		}
		return err
	case "version":
		fmt.Println(version.String())
		return nil
	}
	fmt.Fprint(os.Stderr, usage)
	return fmt.Errorf("unknown command %q", args[0])
}
