package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/proto/client"
)

// Exit codes of trident.
const (
	exitDone    = 0
	exitRefused = 5
	exitBack    = 7
)

const (
	apiSocket = "/run/trident/trident.sock"
	// outside is the socket on this machine that leads to the API of the guest.
	outside = "guest.sock"
	// here and there are the prompts of this machine and of the guest.
	here, there = "$", "guest#"
	// forRPM is needed because the guest has a package manager.
	forRPM = "--allow-read-only-usr"
)

// story runs the chapters of the demo.
type story struct {
	*screen
	vm      *lab.VM
	dir     string
	offered offered
	socket  string // the guest's, on this machine
	api     *client.Client
	last    string // operation
	rows    []row
	calls   calls // of all chapters
}

func (st *story) tell(ctx context.Context) error {
	for _, chapter := range []func(context.Context) error{st.install, st.upgrade, st.broken, st.tampered} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return st.end(ctx)
}

func (st *story) close() error {
	if st.api == nil {
		return nil
	}
	return errors.Join(st.api.Close(), os.Remove(filepath.Join(st.dir, outside)))
}

func (st *story) install(ctx context.Context) error {
	begun := time.Now()
	facts, err := st.vm.Run(ctx, `. /etc/os-release; v=$(systemctl --version | sed -n '1s/.*(\(.*\))/\1/p')
		echo "$PRETTY_NAME, systemd $v as PID 1, virtualised by $(systemd-detect-virt)"`, nil)
	if err != nil {
		return err
	}
	st.chapter("A host with Trident "+oldVersion, strings.TrimSpace(facts)+".\nTrident comes as the package, installed by rpm.")
	for _, name := range []string{st.offered.stub, st.offered.rpm} {
		if err := st.put(ctx, name); err != nil {
			return err
		}
	}
	for _, line := range []string{
		"rpm --install " + st.offered.stub + " " + st.offered.rpm,
		"systemctl start tridentd.socket tridentd-resume.path trident-update.timer",
	} {
		if err := st.inGuest(ctx, line); err != nil {
			return err
		}
	}
	if err := st.connect(); err != nil {
		return err
	}
	st.text("\nIts socket is forwarded to %s on this machine: from here on all goes through the API.\n", outside)
	if err := st.trident(ctx, exitDone, "version"); err != nil {
		return err
	}
	st.row("Trident "+oldVersion+" installed by rpm", begun, oldVersion+" runs")
	return st.runs(ctx, oldVersion)
}

func (st *story) put(ctx context.Context, name string) error {
	f, err := os.Open(filepath.Join(st.dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	return st.vm.Put(ctx, "/root/"+name, f, 0o644)
}

// connect makes a socket on this machine that leads to the API of the guest.
func (st *story) connect() error {
	var err error
	if st.socket, err = st.vm.Forward(apiSocket); err != nil {
		return err
	}
	link := filepath.Join(st.dir, outside)
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(st.socket, link); err != nil {
		return err
	}
	st.api, err = client.Dial(st.socket)
	return err
}

func (st *story) upgrade(ctx context.Context) error {
	st.chapter("The upgrade to "+newVersion, "The image is sent through the API, checked, merged over /usr, tried and kept. All the\n"+
		"while one client calls the API ten times a second, and another one watches.\n"+
		"("+forRPM+": while an extension is merged rpm cannot write /usr on this host.)")
	begun := time.Now()
	if _, err := st.offer(ctx, exitDone, st.offered.good, oldVersion, newVersion); err != nil {
		return err
	}
	st.row("Upgrade to "+newVersion, begun, newVersion+" runs")
	st.text("")
	if err := st.trident(ctx, exitDone, "self", "status"); err != nil {
		return err
	}
	return st.runs(ctx, newVersion)
}

func (st *story) broken(ctx context.Context) error {
	st.chapter("A broken version: "+brokenVersion, "Properly signed, and it answers when it is asked who it is. But some seconds after its\n"+
		"start it crashes, within the time in which it has to prove itself.")
	begun := time.Now()
	w, err := st.offer(ctx, exitBack, st.offered.broken, newVersion, brokenVersion, newVersion)
	if err != nil {
		return err
	}
	st.row("Upgrade to "+brokenVersion+", which "+brokenFault, begun, "thrown back by itself, "+newVersion+" runs")
	status, err := st.api.Status(ctx)
	if err != nil {
		return err
	}
	evidence := status.GetLast().GetEvidence()
	if status.GetLast().GetOperationId() != w.op.GetId() || evidence == "" {
		return fmt.Errorf("no evidence was kept of %s", brokenVersion)
	}
	st.text("\nThe evidence, on the host:\n")
	for _, line := range []string{
		"cat " + path.Join(evidence, "reason.txt"),
		"grep -m 1 panic: " + path.Join(evidence, "journal.txt"),
	} {
		if err := st.inGuest(ctx, line); err != nil {
			return err
		}
	}
	if len(status.GetBlocked()) != 1 || status.GetBlocked()[0].GetVersion() != brokenVersion {
		return fmt.Errorf("%s should be blocked: %v", brokenVersion, status.GetBlocked())
	}
	st.text("\n%s is blocked: it is not tried again before somebody says so (trident self unblock).", brokenVersion)
	return st.runs(ctx, newVersion)
}

func (st *story) tampered(ctx context.Context) error {
	st.chapter("An image that was tampered with", "A good "+tamperedVersion+" with a good signature. One bit in the middle of it was changed since.")
	begun := time.Now()
	if _, err := st.offer(ctx, exitRefused, st.offered.tampered, newVersion); err != nil {
		return err
	}
	st.row("Upgrade to a tampered "+tamperedVersion, begun, "refused, the host is as before")
	return st.runs(ctx, newVersion)
}

// offer upgrades while a caller calls and a watcher watches. answered are the versions that
// have to answer the caller, in order.
func (st *story) offer(ctx context.Context, code int, image string, answered ...string) (w watched, err error) {
	during, stop := context.WithCancel(ctx)
	defer stop()
	caller, err := client.Dial(st.socket)
	if err != nil {
		return w, err
	}
	defer caller.Close()
	connections := new(atomic.Int32)
	watcher, err := client.Dial(st.socket, client.WithDialer(func(ctx context.Context) (net.Conn, error) {
		connections.Add(1)
		return new(net.Dialer).DialContext(ctx, "unix", st.socket)
	}))
	if err != nil {
		return w, err
	}
	defer watcher.Close()
	called, seen := make(chan calls, 1), make(chan watched, 1)
	go func() { called <- call(during, caller) }()
	go func() { seen <- watchNext(during, watcher, st.last) }()
	if err := st.trident(ctx, code, "self", "upgrade", image, forRPM); err != nil {
		return w, err
	}
	select {
	case w = <-seen:
	case <-time.After(time.Minute):
		return w, errors.New("the watcher has not seen the end of the operation")
	}
	stop()
	c := <-called
	st.text("\nThe caller:  %v; answered by %s.", c, strings.Join(c.versions, ", then "))
	st.text("The watcher: %d events, each once and in order; lost its connection %d times.", w.events, max(0, connections.Load()-1))
	st.last = w.op.GetId()
	st.calls.made += c.made
	st.calls.longest = max(st.calls.longest, c.longest)
	switch {
	case w.err != nil:
		return w, fmt.Errorf("the watcher failed: %w", w.err)
	case c.failed > 0:
		return w, fmt.Errorf("the caller failed: %w", c.err)
	case !slices.Equal(c.versions, answered):
		return w, fmt.Errorf("the caller should have met %v", answered)
	}
	return w, nil
}

func (st *story) end(ctx context.Context) error {
	st.chapter("What was shown", "")
	if err := st.trident(ctx, exitDone, "self", "history"); err != nil {
		return err
	}
	st.text("")
	st.table(st.rows)
	st.text("\nRunning now:    Trident %s, from the signed image, over the package's %s.", newVersion, oldVersion)
	st.text("Who called:     %v.", st.calls)
	return nil
}

// trident runs the command as a user does, and checks its exit code.
func (st *story) trident(ctx context.Context, code int, args ...string) error {
	args = append([]string{"--socket", outside}, args...)
	st.command(here, "trident "+strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, filepath.Join(st.dir, "trident"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = st.dir, os.Stdout, os.Stdout
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return err
	}
	switch got := cmd.ProcessState.ExitCode(); {
	case got != code:
		return fmt.Errorf("trident ended with exit code %d, expected was %d", got, code)
	case code != exitDone:
		st.text("(exit code %d)", code)
	}
	return nil
}

// inGuest runs a shell command as root in the guest.
func (st *story) inGuest(ctx context.Context, line string) error {
	st.command(there, line)
	out, err := st.vm.Run(ctx, "cd /root && "+line, nil)
	if out != "" {
		st.text("%s", strings.TrimRight(out, "\n"))
	}
	return err
}

func (st *story) row(what string, begun time.Time, end string) {
	st.rows = append(st.rows, row{what: what, took: time.Since(begun), end: end})
}

// runs checks which version runs, by its answer and by the merged extensions.
func (st *story) runs(ctx context.Context, version string) error {
	status, err := st.api.Status(ctx)
	if err != nil {
		return err
	}
	merged := version != status.GetBaseVersion()
	if status.GetRunningVersion() != version || status.GetMerged() != merged || status.GetVerity() != merged || status.GetOperation() != nil {
		return fmt.Errorf("%s should run, but the host says %v", version, status)
	}
	return nil
}
