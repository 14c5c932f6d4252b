// Command daemon measures tridentd against the smallest gRPC server that Go can
// have, side by side: how long the first answer takes after socket activation,
// and how much memory stays resident while nobody calls.
//
//	go run ./internal/e2e/bench/daemon
//
// The command builds both servers as for a release and starts them alternately as systemd
// does: it opens the socket before the process starts, and measures from the client's call to
// the answer. It prints the medians.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

// settle is how long a server is left alone before its memory is read.
const settle = 3 * time.Second

func main() {
	rounds := flag.Int("rounds", 15, "how often each server is started")
	flag.Parse()
	if err := run(*rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// subject is a server and what was measured of it.
type subject struct {
	name   string
	args   []string
	answer []time.Duration
	memory []int64 // bytes
}

func run(rounds int) error {
	dir, err := os.MkdirTemp("", "bench-daemon-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	smallest := &subject{name: "smallest", args: []string{filepath.Join(dir, "smallest")}}
	tridentd := &subject{name: "tridentd", args: []string{filepath.Join(dir, "tridentd"), "--root", filepath.Join(dir, "root")}}
	for s, from := range map[*subject][]string{
		smallest: {"./internal/e2e/bench/daemon/testdata/smallest"},
		tridentd: {"-tags", "grpcnotrace", "./cmd/tridentd"}, // as it is released
	} {
		build := exec.Command("go", append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", s.args[0]}, from...)...)
		build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build %s: %w", s.name, err)
		}
	}
	for i := range rounds {
		for _, s := range []*subject{smallest, tridentd} {
			// Memory is read in a few rounds only: it takes a while, and varies little.
			if err := s.round(dir, i < 5, i > 0); err != nil {
				return fmt.Errorf("%s, round %d: %w", s.name, i, err)
			}
		}
	}
	fmt.Printf("On this machine:\n%-10s %22s %22s\n", "", "first answer", "idle resident memory")
	for _, s := range []*subject{smallest, tridentd} {
		fmt.Printf("%-10s %22s %18.1f MiB\n", s.name, median(s.answer).Round(10*time.Microsecond), float64(median(s.memory))/(1<<20))
	}
	fmt.Printf("%-10s %21.2fx %21.2fx\n", "ratio", float64(median(tridentd.answer))/float64(median(smallest.answer)),
		float64(median(tridentd.memory))/float64(median(smallest.memory)))
	fmt.Printf("%-10s %22s %22s\n", "expected", "at most 1.3x", "at most 1.6x")
	return nil
}

func median[T int64 | time.Duration](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// round starts the server for a call that is waiting for it.
func (s *subject) round(dir string, memory, count bool) (err error) {
	socket := filepath.Join(dir, s.name+".sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	file, err := l.File()
	if err != nil {
		return err
	}
	defer file.Close()
	// The shell is in place of systemd, which knows the process ID beforehand.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, s.args...)...)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=tridentd.socket")
	cmd.ExtraFiles = []*os.File{file}
	var log strings.Builder
	cmd.Stderr = &log
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Kill()
		if _ = cmd.Wait(); err != nil {
			err = fmt.Errorf("%w\n%s", err, log.String())
		}
	}()
	if err := call(socket); err != nil {
		return err
	}
	if took := time.Since(begun); count { // the first round warms the caches
		s.answer = append(s.answer, took)
	}
	if memory {
		time.Sleep(settle)
		rss, err := resident(cmd.Process.Pid)
		if err != nil {
			return err
		}
		s.memory = append(s.memory, rss)
	}
	return nil
}

func call(socket string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	_, err = tridentv1.NewVersionServiceClient(conn).Version(ctx, &tridentv1.VersionRequest{})
	return errors.Join(err, conn.Close())
}

// resident reads VmRSS (proc_pid_status(5)).
func resident(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of process %d", pid)
}
