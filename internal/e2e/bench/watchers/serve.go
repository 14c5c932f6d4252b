package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/api"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/operation"
)

// blockSize is how much is hashed between two reports of progress, in bytes. It
// makes some ten thousand reports a second.
const blockSize = 64 << 10

// load is what the operation does.
type load struct {
	Blocks int `json:"blocks"`
	Line   int `json:"line"` // blocks between lines of its log; 0 for none
}

// serve is the daemon. It begins the operation, says its ID, has it work when a
// line is read, and says how long that took and how many events there were.
func serve(dir, socket string, work load) error {
	ctx := context.Background()
	store, err := hoststate.Open(ctx, filepath.Join(dir, "datastore.sqlite"))
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	runner := operation.New(ctx, operation.Config{Journal: store, Life: operation.Life{Boot: "b", Process: "p"}, Logger: quiet})
	var worked time.Duration
	released := make(chan struct{})
	start := operation.Register(runner, operation.Kind[load]{Name: "bench", Steps: []operation.Step[load]{
		{Name: "work", Do: func(_ context.Context, r *operation.Run[load]) error {
			<-released
			begun := time.Now()
			work.do(r)
			worked = time.Since(begun)
			return nil
		}},
	}})
	if err := runner.Resume(ctx); err != nil {
		return err
	}
	raw, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	l := api.Listen(raw, quiet)
	server := api.New(api.Config{Root: dir, HostID: func() string { return "" }, Version: "0.0.0", Operations: runner, Store: store, Logger: quiet, AlsoUID: uint32(os.Geteuid())})
	go func() { _ = server.Serve(l) }() // ends with Stop
	op, err := start(ctx, "be watched", work)
	if err != nil {
		return err
	}
	fmt.Println(op.ID)
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	close(released)
	if op, err = settled(ctx, runner, op.ID); err != nil {
		return err
	}
	fmt.Println(worked.Nanoseconds(), op.Sequence)
	lines.Scan() // until the watchers have seen it all
	stopping, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	server.Stop(stopping, l)
	return errors.Join(runner.Shutdown(ctx), store.Close())
}

// settled waits as nobody who watches does: without reading events.
func settled(ctx context.Context, r *operation.Runner, id string) (operation.Operation, error) {
	for {
		changed := r.Changed()
		op, err := r.Get(ctx, id)
		if err != nil || op.Phase.Settled() {
			return op, err
		}
		<-changed
	}
}

func (l load) do(r *operation.Run[load]) {
	block := make([]byte, blockSize)
	for i := range l.Blocks {
		sum := sha256.Sum256(block)
		copy(block, sum[:])
		r.Progress(int64(i)*blockSize, int64(l.Blocks)*blockSize)
		if l.Line > 0 && i%l.Line == 0 {
			r.Logf(slog.LevelInfo, "block %d of %d has the digest %x", i, l.Blocks, sum)
		}
	}
}
