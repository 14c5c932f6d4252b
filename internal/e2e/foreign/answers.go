package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	tridentv1 "example.com/foreign/stubs/trident/v1"
)

// refusal is a status in words: its code, and its reason where it has one, as
// docs/errors.md lists them.
func refusal(err error) string {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "trident-project" {
			return st.Code().String() + " " + info.GetReason()
		}
	}
	return fmt.Sprintf("%s without a reason: %s", st.Code(), st.Message())
}

type doing = func(context.Context) (string, error)

// unary calls a method that has one answer, of which say tells what counts.
func unary[Q, A any](method func(context.Context, *Q, ...grpc.CallOption) (*A, error), req *Q, say func(*A) string) doing {
	return func(ctx context.Context) (string, error) {
		resp, err := method(ctx, req)
		if err != nil {
			return "", err
		}
		return say(resp), nil
	}
}

// ok is for answers of which nothing counts but that they came.
func ok[A any](*A) string { return "OK" }

// events reads a stream to its end.
func events[Q, A any](method func(context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[A], error), req *Q) doing {
	return func(ctx context.Context) (string, error) {
		stream, err := method(ctx, req)
		if err != nil {
			return "", err
		}
		n, err := drain(stream.Recv, nil)
		return fmt.Sprintf("OK after events: %t", n > 0), err
	}
}

func drain[A any](recv func() (*A, error), each func(*A) error) (n int, err error) {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n++
		if each != nil {
			if err := each(m); err != nil {
				return n, err
			}
		}
	}
}

// servicing calls a method with upstream's stream, and holds it to what upstream's
// clients rely on: Started first, Completed last, once each, and only log lines
// between them.
func servicing[Q any](method func(context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[tridentv1.ServicingResponse], error), req *Q) doing {
	return func(ctx context.Context) (string, error) {
		stream, err := method(ctx, req)
		if err != nil {
			return "", err
		}
		var shape strings.Builder
		var last *tridentv1.Completed
		_, err = drain(stream.Recv, func(m *tridentv1.ServicingResponse) error {
			if m.GetTimestamp() == nil {
				return fmt.Errorf("a message without its time: %v", m)
			}
			switch {
			case m.GetStarted() != nil:
				shape.WriteByte('s')
			case m.GetLog() != nil:
				shape.WriteByte('l')
			case m.GetCompleted() != nil:
				shape.WriteByte('c')
				last = m.GetCompleted()
			}
			return nil
		})
		if err != nil {
			return "", err
		}
		if !regexp.MustCompile("^sl*c$").MatchString(shape.String()) {
			return "", fmt.Errorf("the stream is of the shape %q", shape.String())
		}
		return completed(last), nil
	}
}

func completed(c *tridentv1.Completed) string {
	words := []string{
		strings.TrimPrefix(c.GetStatus().String(), "STATUS_CODE_"),
		strings.TrimPrefix(c.GetRebootStatus().String(), "REBOOT_"),
	}
	if c.ServicingKind != nil {
		words = append(words, strings.TrimPrefix(c.GetServicingKind().String(), "SERVICING_KIND_"))
	}
	if e := c.GetError(); e != nil {
		words = append(words, e.GetKind().String(), e.GetSubkind())
	}
	return strings.Join(words, " ")
}

func yes(is bool) string { return strconv.FormatBool(is) }
