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
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
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

// hostInMemory stands for a host: client.Dial("/run/trident/trident.sock") on a real one.
func hostInMemory(config clienttest.Config) (c *client.Client, stop func()) {
	host := clienttest.New(config)
	c, err := client.Dial("a host in memory", client.WithDialer(host.Dial))
	if err != nil {
		log.Fatal(err)
	}
	return c, func() { _ = c.Close(); host.Close() }
}

// Stage downloads and checks a version without effect; Activate tries and keeps it later, for
// example in a maintenance window.
func ExampleClient_Stage() {
	trident, stop := hostInMemory(clienttest.Config{Script: []*operationsv1.Event{
		clienttest.Step(operationsv1.Phase_PHASE_DOING, "fetch", nil),
		clienttest.Step(operationsv1.Phase_PHASE_DONE, "settle", nil),
	}})
	defer stop()
	ctx := context.Background()
	op, err := trident.Stage(ctx, client.Source{URL: "https://example.com/trident-2.0.0.raw"}, false, nil)
	fmt.Println(op.GetKind(), op.GetPhase(), err)
	op, err = trident.Activate(ctx, "2.0.0", &client.Trial{Soak: durationpb.New(time.Minute)}, nil)
	fmt.Println(op.GetKind(), op.GetPhase(), err)
	// Output:
	// self-stage PHASE_DONE <nil>
	// self-activate PHASE_DONE <nil>
}

// Rollback returns Trident itself to its previous version.
func ExampleClient_Rollback() {
	trident, stop := hostInMemory(clienttest.Config{Version: "2.0.0", NextVersion: "1.0.0", Script: upgradeScript()})
	defer stop()
	ctx := context.Background()
	op, err := trident.Rollback(ctx, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	version, err := trident.Version(ctx)
	fmt.Println(op.GetPhase(), version, err)
	// Output: PHASE_DONE 1.0.0 <nil>
}

// An operation belongs to the daemon: any client may cancel it, and Trident undoes its steps.
func ExampleClient_Cancel() {
	trident, stop := hostInMemory(clienttest.Config{Script: []*operationsv1.Event{
		clienttest.Step(operationsv1.Phase_PHASE_DOING, "fetch", nil), // and does not end
	}})
	defer stop()
	ctx := context.Background()
	_, err := trident.Stage(ctx, client.Source{URL: "https://example.com/t.raw"}, false, func(e *client.Event) {
		if e.GetPhase() == operationsv1.Phase_PHASE_DOING {
			if _, err := trident.Cancel(ctx, e.GetOperationId()); err != nil {
				log.Print(err)
			}
		}
	})
	fmt.Println(client.Kind(err))
	// Output: CANCELLED
}

// Status says which version runs and which version Rollback would return to.
func ExampleClient_Status() {
	trident, stop := hostInMemory(clienttest.Config{Status: &client.Status{
		RunningVersion: "2.0.0", ActiveVersion: "2.0.0", BaseVersion: "1.0.0", RollbackTarget: "base",
	}})
	defer stop()
	status, err := trident.Status(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.GetRunningVersion(), "runs; a rollback goes to", status.GetRollbackTarget())
	// Output: 2.0.0 runs; a rollback goes to base
}

// Validate finds all faults of a Host Configuration before anything begins.
func ExampleHost_Validate() {
	trident, stop := hostInMemory(clienttest.Config{Findings: []*hostv1.Finding{
		{Line: 2, Column: 3, Path: "image.url", Severity: hostv1.Severity_SEVERITY_ERROR, Message: "is missing"},
	}})
	defer stop()
	found, err := trident.Host().Validate(context.Background(), &client.Config{Text: "image:\n  sha384: ignored\n"})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range found.GetFindings() {
		fmt.Printf("%d:%d: %s %s\n", f.GetLine(), f.GetColumn(), f.GetPath(), f.GetMessage())
	}
	fmt.Println("valid:", found.GetValid())
	// Output:
	// 2:3: image.url is missing
	// valid: false
}

// Install writes an operating system to the disks of a host. The verb follows the operation
// through the reboot, into the system that was installed.
func ExampleHost_Install() {
	trident, stop := hostInMemory(clienttest.Config{Script: rebootScript()})
	defer stop()
	config := &client.Config{Text: "image:\n  url: https://example.com/os.cosi\n  sha384: ignored\n"}
	out, err := trident.Host().Install(context.Background(), config, client.How{}, func(e *client.Event) {
		if e.GetChange().GetWaiting() == "reboot" {
			fmt.Println("the host reboots")
		}
	})
	fmt.Println(out.Operation.GetPhase(), err)
	// Output:
	// the host reboots
	// PHASE_DONE <nil>
}

// An update can be staged at any time, and finalized in a maintenance window. Here the caller
// reboots the host.
func ExampleHost_Update() {
	trident, stop := hostInMemory(clienttest.Config{Script: rebootScript()})
	defer stop()
	ctx, host := context.Background(), trident.Host()
	config := &client.Config{Text: "image:\n  url: https://example.com/os.cosi\n  sha384: ignored\n"}
	out, err := host.Update(ctx, config, client.How{CallerReboots: true}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(out.Completed.GetRebootStatus(), out.Operation.GetWaiting())
	// Output: REBOOT_REQUIRED reboot
}

// Rollback returns the host to its previous state, if the last update was of this kind.
func ExampleHost_Rollback() {
	trident, stop := hostInMemory(clienttest.Config{Script: updateScript()})
	defer stop()
	out, err := trident.Host().Rollback(context.Background(), client.RuntimeRollback, client.How{}, nil)
	fmt.Println(out.Operation.GetKind(), out.Operation.GetPhase(), err)
	// Output: host-rollback PHASE_DONE <nil>
}

// After a reboot into a new system, Commit waits for its health checks, and keeps it.
func ExampleHost_Commit() {
	trident, stop := hostInMemory(clienttest.Config{NothingToDo: true})
	defer stop()
	out, err := trident.Host().Commit(context.Background(), client.How{}, nil)
	fmt.Println(out.Operation == nil, out.Completed.GetServicingKind(), err)
	// Output: true SERVICING_KIND_NONE_REQUIRED <nil>
}

// StreamDisk writes a whole disk, and returns when the host reboots: the new system does not
// know the operation. The caller limits the download, and learns the hash of the image.
func ExampleHost_StreamDisk() {
	hash := "sha384:0123"
	trident, stop := hostInMemory(clienttest.Config{
		Script:    []*operationsv1.Event{clienttest.Step(operationsv1.Phase_PHASE_DOING, "write", nil), clienttest.Reboot("reboot")},
		Completed: &client.Completed{Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, ImageHash: &hash},
	})
	defer stop()
	how := client.How{BytesPerSecond: 10 << 20, FetchTimeout: time.Hour}
	out, err := trident.Host().StreamDisk(context.Background(), "https://example.com/os.cosi", "", how, nil)
	fmt.Println(out.Completed.GetImageHash(), err)
	// Output: sha384:0123 <nil>
}

// The owner of a host decides what it takes, and asks what the update feed offers.
func ExampleClient_CheckUpdates() {
	trident, stop := hostInMemory(clienttest.Config{Version: "1.0.0", Updates: &client.Updates{
		RunningVersion: "1.0.0", Offer: &selfv1.Release{Version: "2.0.0", Size: 52_428_800, TransferSize: 2_500_000},
		Others: []*selfv1.Release{{Version: "3.0.0", Reasons: []*selfv1.Reason{{Message: "Version 3.0.0 failed on this host before."}}}},
	}})
	defer stop()
	ctx := context.Background()
	if _, err := trident.SetPolicy(ctx, &client.Policy{MaxBytes: 10 << 20}, []string{"max_bytes"}, nil); err != nil {
		log.Fatal(err)
	}
	updates, err := trident.CheckUpdates(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(updates.GetOffer().GetVersion(), "needs", updates.GetOffer().GetTransferSize(), "bytes")
	for _, other := range updates.GetOthers() {
		fmt.Println("not", other.GetVersion()+":", other.GetReasons()[0].GetMessage())
	}
	// Output:
	// 2.0.0 needs 2500000 bytes
	// not 3.0.0: Version 3.0.0 failed on this host before.
}
