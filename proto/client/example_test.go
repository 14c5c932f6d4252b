package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// An upgrade is one call, over the restart by which Trident replaces itself.
func ExampleClient_Upgrade() {
	host := clienttest.New(clienttest.Config{Version: "1.0.0", NextVersion: "2.0.0", Script: upgradeScript()})
	defer host.Close()

	// On a host: client.Dial("/run/trident/trident.sock")
	trident, err := client.Dial("a host in memory", client.WithDialer(host.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer trident.Close()

	ctx := context.Background()
	source := client.Source{URL: "https://example.com/trident-2.0.0.raw"}
	op, err := trident.Upgrade(ctx, source, nil, func(e *client.Event) {
		if e.GetChange() != nil {
			fmt.Printf("%s, waiting for %q\n", e.GetStep(), e.GetChange().GetWaiting())
		}
	})
	if err != nil {
		log.Fatalf("%v (%s); %s", err, client.Kind(err), client.Hint(err))
	}
	version, err := trident.Version(ctx)
	fmt.Println(op.GetPhase(), version, err)

	// Output:
	// fetch, waiting for ""
	// verify, waiting for ""
	// restart, waiting for "restart"
	// prove, waiting for ""
	// settle, waiting for ""
	// PHASE_DONE 2.0.0 <nil>
}

// What a tool that services many hosts does with each way in which an upgrade can
// end. A host that is offered what it already has, or is busy, is not at fault.
func Example_whatToDoNext() {
	failure := &operationsv1.Failure{Reason: "UNHEALTHY", Message: "prove: trident 3.0.0 was thrown back: its service failed"}
	host := clienttest.New(clienttest.Config{Version: "2.0.0", Script: []*operationsv1.Event{
		clienttest.Step(operationsv1.Phase_PHASE_DOING, "activate", nil),
		clienttest.Step(operationsv1.Phase_PHASE_UNDOING, "activate", failure),
		clienttest.Step(operationsv1.Phase_PHASE_UNDONE, "fetch", failure),
	}})
	defer host.Close()
	trident, err := client.Dial("a host in memory", client.WithDialer(host.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer trident.Close()

	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	source := client.Source{URL: "https://example.com/trident-3.0.0.raw"}
	trial := &client.Trial{Soak: durationpb.New(time.Minute), Deadline: durationpb.New(5 * time.Minute)}
	op, err := trident.Upgrade(ctx, source, trial, nil)

	fmt.Println(next(op, err))
	fmt.Println(err)
	// Output:
	// stop the rollout: the version is bad
	// prove: trident 3.0.0 was thrown back: its service failed
}

// next says what to do after an upgrade.
func next(op *client.Operation, err error) string {
	if detached, ok := errors.AsType[*client.DetachedError](err); ok {
		return "watch " + detached.Operation + " again later"
	}
	if op.GetPhase() == operationsv1.Phase_PHASE_STUCK {
		return "stop, and send somebody to the host"
	}
	switch client.Kind(err) {
	case "":
		return "go on to the next host"
	case client.KindExists:
		return "go on: it has this version"
	case client.KindBusy, client.KindUnavailable:
		return "try this host again later"
	case client.KindUnhealthy, client.KindBlocked:
		return "stop the rollout: the version is bad"
	case client.KindUntrusted, client.KindCorrupt, client.KindForbidden, client.KindInvalid:
		return "stop the rollout: the image is bad"
	}
	return "leave this host out, and look at it: " + err.Error()
}

// Who knows the operation and the last event that it has seen can go on from
// there, in another process and after a reboot.
func ExampleClient_Watch() {
	host := clienttest.New(clienttest.Config{Version: "1.0.0", NextVersion: "2.0.0", Script: upgradeScript()})
	defer host.Close()
	trident, err := client.Dial("a host in memory", client.WithDialer(host.Dial))
	if err != nil {
		log.Fatal(err)
	}
	defer trident.Close()

	ctx, leave := context.WithCancel(context.Background())
	var id string
	var seen uint64
	_, err = trident.Upgrade(ctx, client.Source{URL: "https://example.com/t.raw"}, nil, func(e *client.Event) {
		if id, seen = e.GetOperationId(), e.GetSequence(); e.GetStep() == "verify" {
			leave()
		}
	})
	detached, ok := errors.AsType[*client.DetachedError](err)
	fmt.Println(ok && detached.Operation == id && detached.Sequence == seen)

	op, err := trident.Watch(context.Background(), id, seen, nil)
	fmt.Println(op.GetPhase(), err)
	// Output:
	// true
	// PHASE_DONE <nil>
}
