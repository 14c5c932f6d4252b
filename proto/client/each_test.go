package client_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

func TestEachHostIsServedAndNoneStopsAnother(t *testing.T) {
	all := servers{"b": nil}
	for _, name := range []string{"a", "c", "d"} {
		all[name] = clienttest.New(clienttest.Config{Version: name})
		t.Cleanup(all[name].Close)
	}
	var now, most atomic.Int32
	versions := make(chan string, 4)
	errs := client.Each(t.Context(), []string{"a", "b", "c", "d"}, 2, func(ctx context.Context, c *client.Client) error {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		v, err := c.Version(ctx)
		if err != nil {
			return err
		}
		versions <- v
		if v == "c" {
			return errors.New("not this one")
		}
		return nil
	}, client.WithTargetDialer(all.dial))
	if most.Load() > 2 || len(versions) != 3 {
		t.Errorf("%d at a time, %d answers", most.Load(), len(versions))
	}
	var failed []string
	for _, err := range errs {
		host, _ := errors.AsType[*client.HostError](err)
		if host == nil {
			host = &client.HostError{}
		}
		failed = append(failed, host.Host+" "+string(client.Kind(err)))
	}
	if diff := cmp.Diff([]string{" ", "b UNAVAILABLE", "c INTERNAL", " "}, failed); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if joined := errors.Join(errs...); joined == nil || strings.Count(joined.Error(), "\n") != 1 {
		t.Errorf("joined: %v", joined)
	}
}

func TestHostsThatWereNotBegunSayWhy(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	errs := client.Each(ctx, []string{"a", "b"}, 0, func(context.Context, *client.Client) error {
		cancel(why)
		return nil
	})
	if errs[0] != nil || !errors.Is(errs[1], why) {
		t.Errorf("errors %v", errs)
	}
	if len(client.Each(t.Context(), nil, 1, nil)) != 0 {
		t.Error("errors of no hosts")
	}
}
