// Command demo shows in a virtual machine how Trident replaces itself: what
// `make demo` runs.
//
// The demo runs on the lab of the tests. It shows what a user types, runs the real command
// outside of the guest, and checks each claim on the screen. When a claim does not hold, the
// demo ends with the console and the journal of the guest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/errkind"
)

// longest is how long the demo may take on a slow machine.
const longest = 20 * time.Minute

func main() {
	dir := flag.String("dir", "dist/demo", "the `folder` for what is built")
	stay := flag.Bool("stay", false, "keep the guest until an interrupt")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, longest)
	err := run(ctx, *dir, *stay)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		if hint := errkind.Hint(err); hint != "" {
			fmt.Fprintf(os.Stderr, "hint: %s\n", hint)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, stay bool) (err error) {
	begun := time.Now()
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	s := newScreen(os.Stdout)
	offered, booted, err := prepare(ctx, s, dir)
	if err != nil {
		return err
	}
	vm, err := lab.Load(ctx, booted)
	if err != nil {
		return err
	}
	st := &story{screen: s, vm: vm, dir: dir, offered: offered}
	defer func() { err = errors.Join(err, st.close(), vm.Close()) }()
	if err := st.tell(ctx); err != nil {
		return errors.Join(err, st.evidence())
	}
	s.text("All of it took: %s.", seconds(time.Since(begun)))
	if stay {
		s.text("The guest stays until you press Ctrl-C. Try, in %s:", dir)
		s.command("$", "./trident --socket guest.sock self status")
		<-ctx.Done()
	}
	return nil
}

// evidence writes the console and the journal of the guest after a failure.
func (st *story) evidence() error {
	path := filepath.Join(st.dir, "evidence.txt")
	text := st.vm.Evidence(context.Background())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	st.screen.text("\nThe end of the guest's journal; more of it, and its console, in %s:\n%s", path, lastLines(text, 30))
	return nil
}
