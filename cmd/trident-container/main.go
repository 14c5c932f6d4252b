// Command trident-container is the entry point of the container image trident: it runs the
// command trident with the arguments of the container, and a tridentd for that command alone.
//
// It is a service manager for two processes. It makes the socket, starts tridentd at the first
// connection, and passes it the socket as systemd does (sd_listen_fds(3)). So trident --help
// needs no host and no rights, and no client has to wait for a socket to appear. tridentd ends
// by itself when no operation is pending; the container ends after that, with the exit code of
// trident.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The exit codes of trident that this program uses for itself.
const exitSetup = 1 // tridentd could not be started, or has failed

// idleTimeout is how long tridentd waits for the next call when no operation is pending.
const idleTimeout = "2s"

func main() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	os.Exit(run("/usr/bin/trident", []string{"/usr/bin/tridentd", "-idle-timeout", idleTimeout}, os.Args[1:], signals))
}

// run runs the program client with args, and the command daemon at the first connection. It
// returns the exit code of the client: 128 and its number if a signal ended it.
func run(client string, daemon, args []string, signals <-chan os.Signal) int {
	dir, err := os.MkdirTemp("", "trident-")
	if err != nil {
		return failed(fmt.Errorf("make a folder for the socket: %w", err))
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "trident.sock")
	a, err := listen(socket, daemon)
	if err != nil {
		return failed(err)
	}
	defer a.close()
	c := command(client, args)
	c.Env = append(os.Environ(), "TRIDENT_SOCKET="+socket)
	if err := c.Start(); err != nil {
		return failed(fmt.Errorf("start trident: %w", err))
	}
	ended := make(chan int, 1)
	go func() { ended <- codeOf(c.Wait()) }()
	for {
		select {
		case code := <-ended:
			return a.settle(code, signals)
		case <-a.failed:
			_ = c.Process.Kill() // tridentd has printed the reason, and nobody answers the client
			<-ended
			return exitSetup
		case sig := <-signals:
			a.stopAtEnd = true
			if sig == unix.SIGTERM || !isTerminal(os.Stdin) { // a terminal has interrupted the client, too
				_ = c.Process.Signal(sig)
			}
		}
	}
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "trident-container:", err)
	return exitSetup
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
