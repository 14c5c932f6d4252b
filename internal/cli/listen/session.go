package listen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
)

// session serves the hosts of one run of the command.
type session struct {
	*options
	listener *client.Listener
	slots    chan struct{}

	mu     sync.Mutex
	failed []result
}

// serve handles each host, and returns when all that it was to handle have ended.
func (s *session) serve(ctx context.Context, hosts *arrivals) error {
	var running sync.WaitGroup
	defer running.Wait()
	most := len(uniq(s.hosts))
	if s.once {
		most = 1
	}
	for n := 0; most == 0 || n < most; n++ {
		host, err := hosts.next(ctx)
		if err != nil {
			running.Wait()
			return errors.Join(command.Interrupted(ctx, err), s.err())
		}
		if len(s.args) == 0 {
			if err := s.app.Show(host, func(w *terminal.Table) { w.Line("%s\t%s", host.Host, host.Address) }); err != nil {
				return err
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			continue // next returns the cause
		}
		running.Go(func() {
			defer func() { <-s.slots }()
			s.runOn(ctx, host.Host)
		})
	}
	running.Wait()
	return s.err()
}

func uniq(names []string) []string {
	names = slices.Sorted(slices.Values(names))
	return slices.Compact(names)
}

// runOn runs the command on a host, and then prints its output.
func (s *session) runOn(ctx context.Context, host string) {
	var stdout, stderr bytes.Buffer
	code, err := s.runThrough(ctx, host, terminal.Streams{Stdout: &stdout, Stderr: &stderr, Now: s.app.Now})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		fmt.Fprintf(&stderr, "%v\n", err)
		code = 1
	}
	if code != 0 {
		s.failed = append(s.failed, result{host, code})
	}
	fmt.Fprintf(s.app.Stderr, "== %s: exit code %d\n%s", terminal.Line(host), code, stderr.Bytes())
	_, _ = s.app.Stdout.Write(stdout.Bytes())
}

// runThrough runs the command over a socket of its own, which leads to the host.
func (s *session) runThrough(ctx context.Context, host string, streams terminal.Streams) (int, error) {
	dir, err := os.MkdirTemp("", "trident-listen-") // mode 0700
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f, err := forward(ctx, dir+"/s", func(ctx context.Context) (client.HostConn, error) { return s.listener.Host(ctx, host) })
	if err != nil {
		return 0, err
	}
	defer f.close()
	return s.run(ctx, streams, append([]string{"--socket", dir + "/s"}, s.args...)), nil
}

// err returns the error of the hosts on which the command failed; nil if there are none.
func (s *session) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var texts []string
	for _, r := range s.failed {
		texts = append(texts, fmt.Sprintf("%s (exit code %d)", r.host, r.code))
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("trident %s failed on some hosts: %s", strings.Join(s.args, " "), strings.Join(texts, ", "))
}
