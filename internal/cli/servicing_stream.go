package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

// operationHeader names the operation of a stream. Upstream's daemon has none.
const operationHeader = "trident-operation-id"

// servicing is a stream of one of upstream's services. What it shows is better
// had from the operation, which can be watched again; how it ended is in
// upstream's words only here.
type servicing struct {
	operation string
	recv      func() (*tridentv1.ServicingResponse, error)
	done      chan struct{} // closed when the fields below are set
	completed *tridentv1.Completed
	err       error
}

// opened waits until the daemon has taken a call, or has turned it down.
func opened[M ~map[string][]string, S interface {
	Recv() (*tridentv1.ServicingResponse, error)
	Header() (M, error)
}](stream S, err error) (*servicing, error) {
	if err != nil {
		return nil, err
	}
	header, err := stream.Header()
	if err != nil {
		return nil, err
	}
	s := &servicing{recv: stream.Recv, done: make(chan struct{})}
	if id := header[operationHeader]; len(id) == 1 {
		s.operation = id[0]
	}
	return s, nil
}

// read reads the stream to its end. Without an operation to watch, its log is
// what there is to see.
func (s *servicing) read(a *app) {
	defer close(s.done)
	for {
		m, err := s.recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.err = err
			}
			return
		}
		if c := m.GetCompleted(); c != nil {
			s.completed = c
		}
		if l := m.GetLog(); l != nil && s.operation == "" && level(l.GetLevel().String()) >= a.verbosity.Level() {
			fmt.Fprintf(a.stderr, "  %s\n", line(l.GetMessage()))
		}
	}
}

// failure is what the end of the stream says is wrong.
func (s *servicing) failure() error {
	switch c := s.completed; {
	case c == nil && s.err != nil:
		return plain(s.err)
	case c == nil:
		return errkind.Errorf(errkind.Internal, "the daemon did not say how it ended")
	case c.GetStatus() != tridentv1.StatusCode_STATUS_CODE_SUCCESS:
		return &tridentError{c.GetError()}
	}
	return nil
}

// outcome is the failure of an operation that ended well: one that found the
// host in need to be brought back. Where the stream was lost to a restart, the
// record of the host tells.
func (s *servicing) outcome(ctx context.Context, c *client.Client) error {
	select {
	case <-s.done:
	case <-time.After(askTime): // the daemon that had it hangs
	}
	select {
	case <-s.done:
		if s.completed != nil {
			return s.failure()
		}
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	last, err := tridentv1preview.NewStatusServiceClient(c.Conn()).GetLastError(ctx, &tridentv1preview.GetLastErrorRequest{})
	if err != nil {
		return fmt.Errorf("ask how it ended: %w", plain(err))
	}
	if last.GetError() != nil {
		return &tridentError{last.GetError()}
	}
	return nil
}

// tridentError is an error in upstream's form.
type tridentError struct{ wire *tridentv1.TridentError }

func (e *tridentError) Error() string {
	if m := e.wire.GetMessage(); m != "" {
		return strings.TrimRight(m, "\n")
	}
	if m := e.wire.GetErrorMessage(); m != "" {
		return m
	}
	return "it failed, and the daemon does not say why"
}

// statusError is the error of a call as a sentence: gRPC puts the code before
// it.
type statusError struct {
	text string
	error
}

func (e *statusError) Error() string { return e.text }
func (e *statusError) Unwrap() error { return e.error }

// plain takes gRPC's words off an error; kind and hint stay.
func plain(err error) error {
	if err == nil {
		return nil
	}
	if text, ok := strings.CutPrefix(err.Error(), "rpc error: code = "); ok {
		if _, said, ok := strings.Cut(text, " desc = "); ok {
			return &statusError{said, err}
		}
	}
	return err
}

// upstreamError is the error of one of upstream's commands, which have only its
// exit codes.
type upstreamError struct{ error }

func (e upstreamError) Unwrap() error { return e.error }

func asUpstream(err error) error {
	if err == nil {
		return nil
	}
	return upstreamError{err}
}

// services has upstream's services of a daemon.
func updates(c *client.Client) tridentv1.UpdateServiceClient {
	return tridentv1.NewUpdateServiceClient(c.Conn())
}
func rollbacks(c *client.Client) tridentv1preview.RollbackServiceClient {
	return tridentv1preview.NewRollbackServiceClient(c.Conn())
}
func installs(c *client.Client) tridentv1preview.InstallServiceClient {
	return tridentv1preview.NewInstallServiceClient(c.Conn())
}
