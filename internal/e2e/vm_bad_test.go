//go:build vm

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/errkind/grpckind"
)

// badVersion is a version that fails on a host, and what the host has to record about it.
type badVersion struct {
	fault          string // see package faulty
	soak, deadline string
	reason         string   // in the failure, a regular expression
	journal        []string // in the evidence
}

func (b badVersion) matchesReason(why string) bool {
	return regexp.MustCompile(b.reason).MatchString(why)
}

func badVersions() []badVersion {
	return []badVersion{
		{
			fault: "exits", soak: "2s", deadline: "3m", reason: "systemd had to restart it",
			journal: []string{"tridentd: this version always fails", "giving up trident 3.0.1"},
		},
		{
			// systemd kills a daemon that hangs after 30 s and restarts it. The deadline leaves
			// room for 15 s without an answer after a slow merge: the rescuer blocks a version
			// that hangs only when it has seen that.
			fault: "hangs", soak: "2s", deadline: "2m", reason: "it was not kept within 2m0s: it does not answer",
			journal: []string{"giving up trident 3.0.2: it was not kept within 2m0s", "tridentd.service: start operation timed out"},
		},
		{
			fault: "lies", soak: "2s", deadline: "3m", reason: "9.9.9",
			journal: []string{"9.9.9"},
		},
		{
			// Either the daemon or the rescuer counts the crashes first.
			fault: "crashes", soak: "20s", deadline: "3m", reason: "stopped",
			journal: []string{"panic: this version crashes"},
		},
		{
			// The daemon answers until it fails to open the datastore.
			fault: "datastore", soak: "2s", deadline: "3m", reason: "systemd had to restart it|it stopped after it had answered",
			journal: []string{"open datastore", "database is locked"},
		},
	}
}

func TestABadVersionIsRolledBackByItself(t *testing.T) {
	for _, bad := range badVersions() {
		t.Run(bad.fault, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			g.checkRollback(bad, base)
		})
	}
}

func TestABadVersionIsRolledBackToTheExtensionThatWasActiveAndTriedAgainWhenUnblocked(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.mustUpgrade("trident_2.0.0_x86-64.raw")
	exits, crashes := badVersions()[0], badVersions()[3]
	g.checkRollback(exits, good)
	g.checkRollback(crashes, good)
	g.checkRollback(exits, good)
	if n := g.sh("ls /var/lib/trident/self/evidence | wc -l"); n != "3" {
		t.Errorf("evidence of %s failures, want 3", n)
	}
}

// checkRollback offers a bad version and checks that the host rolls back without help and
// differs from before in the evidence of the failure only. It unblocks the version.
func (g *guest) checkRollback(bad badVersion, was string) {
	g.t.Helper()
	version, image := faults[bad.fault], "/share/"+bad.fault+".raw"
	g.checkVersion(was)
	before := g.hostState(exceptTrial)
	op, errs, code := g.offer("upgrade", "--on-host", image, "--allow-read-only-usr", "--soak", bad.soak, "--deadline", bad.deadline)
	if code != 7 || op.GetFailure().GetReason() != "UNHEALTHY" || !bad.matchesReason(op.GetFailure().GetMessage()) {
		g.t.Errorf("%s: exit code %d, failure %v, want UNHEALTHY because %q", bad.fault, code, op.GetFailure(), bad.reason)
	}
	g.checkDuration(bad, op.GetId())
	g.checkVersion(was)
	if diff := differences(before, g.awaitHostState(exceptTrial, before)); diff != "" {
		g.t.Errorf("%s: the host is not as it was\n%s", bad.fault, diff)
	}
	evidence := g.evidenceOf(bad, op)
	for _, want := range []string{op.GetFailure().GetMessage(), evidence, "Trident " + was + " runs."} {
		if !strings.Contains(errs, want) {
			g.t.Errorf("%s: the user is not told %q:\n%s", bad.fault, want, errs)
		}
	}
	g.checkBlocked(version, image, op.GetFailure().GetMessage(), evidence)
}

// checkDuration checks the events of an operation, and that the rescuer gave the version
// up within its deadline.
func (g *guest) checkDuration(bad badVersion, id string) {
	g.t.Helper()
	var events []*client.Event
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	_, err := g.api.Watch(ctx, id, 0, func(e *client.Event) { events = append(events, e) })
	if failed := new(client.OperationError); !errors.As(err, &failed) {
		g.t.Fatalf("watch %s: %v", id, err)
	}
	var armed, restarted, givenUp time.Time
	for i, e := range events {
		if e.GetSequence() != uint64(i+1) {
			g.t.Fatalf("event %d has the number %d", i+1, e.GetSequence())
		}
		at := e.GetTime().AsTime()
		switch {
		case armed.IsZero() && e.GetStep() == "arm rescue":
			armed = at
		case restarted.IsZero() && e.GetChange().GetWaiting() == "restart":
			restarted = at
		case givenUp.IsZero() && e.GetPhase().String() == "PHASE_UNDOING":
			givenUp = at
		}
	}
	back := events[len(events)-1].GetTime().AsTime()
	g.t.Logf("%s: given up %.1f s after it was restarted into, back %.1f s after it was armed; deadline %s",
		bad.fault, givenUp.Sub(restarted).Seconds(), back.Sub(armed).Seconds(), bad.deadline)
	// The rescuer gives the version up at the deadline at the latest. To roll back takes
	// one more merge and one more start.
	deadline, err := time.ParseDuration(bad.deadline)
	if err != nil {
		g.t.Fatal(err)
	}
	if took := back.Sub(armed); took > deadline+time.Minute {
		g.t.Errorf("%s: it was back after %s, the deadline is %s", bad.fault, took, deadline)
	}
}

// evidenceOf checks the evidence of a version that failed, and returns its folder.
func (g *guest) evidenceOf(bad badVersion, op *client.Operation) string {
	g.t.Helper()
	history, err := g.api.History(g.t.Context(), 1)
	if err != nil || len(history) != 1 || history[0].GetOperationId() != op.GetId() {
		g.t.Fatalf("history: %v, %v", history, err)
	}
	dir := history[0].GetEvidence()
	journal := g.sh("cat " + dir + "/journal.txt")
	for _, want := range bad.journal {
		if !strings.Contains(journal, want) {
			g.t.Errorf("%s: %q is not in the journal that was kept:\n%s", bad.fault, want, journal)
		}
	}
	why := g.sh("cat " + dir + "/reason.txt")
	for _, want := range []string{op.GetId(), faults[bad.fault]} {
		if !strings.Contains(why, want) {
			g.t.Errorf("%s: %q is not in reason.txt:\n%s", bad.fault, want, why)
		}
	}
	if !bad.matchesReason(why) {
		g.t.Errorf("%s: %q is not in reason.txt:\n%s", bad.fault, bad.reason, why)
	}
	return dir
}

// checkBlocked checks that a version is blocked and refused, and unblocks it.
func (g *guest) checkBlocked(version, image, reason, evidence string) {
	g.t.Helper()
	status, _, _ := g.trident("self", "status")
	shown := slices.ContainsFunc(strings.Split(status, "\n"), func(line string) bool {
		return strings.HasPrefix(line, version+" ") && strings.Contains(line, reason) && strings.Contains(line, evidence)
	})
	if !shown {
		g.t.Errorf("%s is not shown as blocked:\n%s", version, status)
	}
	g.checkRefused(refusal{
		name: "blocked " + version, args: []string{"--on-host", image, "--allow-read-only-usr"}, kind: errkind.Blocked, code: 5,
		want: fmt.Sprintf("verify: trident %s failed on this host before: %s", version, reason),
		hint: "allow another attempt with: trident self unblock " + version,
	})
	if _, errs, code := g.trident("self", "unblock", version); code != 0 {
		g.t.Errorf("unblock %s: %d, %s", version, code, errs)
	}
	if st, err := g.api.Status(g.t.Context()); err != nil || len(st.GetBlocked()) != 0 {
		g.t.Errorf("still blocked: %v, %v", st.GetBlocked(), err)
	}
}

// offer runs a command of trident self that follows an operation, and returns the ended
// operation.
func (g *guest) offer(args ...string) (op *client.Operation, errs string, code int) {
	g.t.Helper()
	out, errs, code := g.trident(append([]string{"self", "--output", "json"}, args...)...)
	op = new(client.Operation)
	if err := protojson.Unmarshal([]byte(out), op); err != nil {
		g.t.Fatalf("trident self %s: %d, %v\n%s%s", args, code, err, out, errs)
	}
	return op, errs, code
}

// Filters of the lines of hostState. exceptNothing drops only the folder of the store,
// which the first offer makes. exceptTrial also drops what a trial may leave (files of the
// rescuer, units that have ended) and the numbers of mounts, which change.
const (
	exceptNothing = `grep -v ' \./self $'`
	// A verity device stays until the last process that was started from it has ended,
	// which may be a process of the test: TestTenUpgradesInARowLeaveNothingBehind
	// counts the devices.
	exceptTrial = exceptNothing + ` | grep -v ' verity$' | grep -v ' \./self/\(rescue\|previous\)\| /run/systemd/transient $' |
		grep -v '^\(systemd-sysext\|trident-rescue\)\.service .* \(dead\|exited\) ' | sed 's/^[0-9]* [0-9]* [0-9:]* //'`
)

// hostState returns everything that an operation on Trident could change, as lines.
func (g *guest) hostState(except string) []string {
	g.t.Helper()
	if _, err := g.api.Version(g.t.Context()); err != nil { // so that the daemon runs
		g.t.Fatal(err)
	}
	return strings.Split(g.sh(`
	# The rescuer of the trial before looks once a second whether it is over.
	timeout 60 sh -c "while systemctl list-units --all --no-legend --plain 'trident-rescue-*' | grep -q .; do sleep 0.2; done"
	{
		echo "link $(readlink /var/lib/extensions/trident.raw)"
		echo "merged" $(cat /usr/.systemd-sysext/extensions 2>/dev/null)
		cd /var/lib/trident
		find . -mindepth 1 \( -path ./self/evidence -o -name 'datastore*' \) -prune -o -type d -printf '%M %p %l\n' -o -printf '%M %s %T@ %i %p %l\n'
		find /etc/extensions /run/extensions /var/lib/extensions /etc/systemd /run/systemd/system /run/systemd/transient -printf '%M %p %l\n' 2>/dev/null
		ls /usr/lib/systemd/system | cksum
		grep -v ' /run/user/\| /run/credentials/' /proc/self/mountinfo
		cat /sys/block/loop*/loop/backing_file 2>/dev/null
		# systemd names a device by its root hash, or by its loop device when one of that name is on its way out.
		cat /sys/block/dm-*/dm/name 2>/dev/null | sed -E 's/^([0-9a-f]{64}|loop[0-9]+p[0-9]+)-verity$/verity/' | sort | uniq -c
		systemctl list-units --all --no-legend --plain 'trident*' 'systemd-sysext*'
	} | tr -s ' ' | `+except+" | sort"), "\n")
}

// differences returns the lines that only one of two host states has.
func differences(before, after []string) string {
	var out []string
	for _, line := range before {
		if !slices.Contains(after, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "\n")
}

// awaitHostState waits up to a minute until the host state is was, and returns the last
// host state. systemd-udevd keeps files of a merged image open until it reloads.
func (g *guest) awaitHostState(except string, was []string) []string {
	g.t.Helper()
	now := g.hostState(except)
	for end := time.Now().Add(time.Minute); differences(was, now) != "" && time.Now().Before(end); {
		g.sh("udevadm control --reload")
		now = g.hostState(except)
	}
	return now
}

// A refusal is an upgrade that Trident refuses, and how.
type refusal struct {
	name string
	args []string // of trident self upgrade
	kind errkind.Kind
	code int    // the exit code
	want string // the whole sentence, with N for a number of bytes
	hint string
}

// counted matches numbers that differ between runs.
var counted = regexp.MustCompile(` [0-9]{5,} `)

// checkRefused checks that Trident refuses an upgrade with one message, one kind and one
// exit code, and does not change the host.
func (g *guest) checkRefused(r refusal) {
	g.t.Helper()
	before := g.hostState(exceptNothing)
	op, errs, code := g.offer(append([]string{"upgrade"}, r.args...)...)
	f := op.GetFailure()
	if f.GetReason() != string(r.kind) || f.GetCode() != int32(grpckind.Code(r.kind)) || code != r.code || op.GetPhase().String() != "PHASE_UNDONE" {
		g.t.Errorf("%s: %s, code %d, exit code %d, %s; want %s, %d", r.name, f.GetReason(), f.GetCode(), code, op.GetPhase(), r.kind, r.code)
	}
	if counted.ReplaceAllString(f.GetMessage(), " N ") != r.want || f.GetHint() != r.hint {
		g.t.Errorf("%s:\n got %q\nhint %q\nwant %q\nhint %q", r.name, f.GetMessage(), f.GetHint(), r.want, r.hint)
	}
	shown := strings.TrimSpace(errs)
	shown = shown[strings.LastIndex(shown, "\n")+1:]
	var said struct{ Kind, Message, Hint string }
	if err := json.Unmarshal([]byte(shown), &said); err != nil {
		g.t.Errorf("%s: the last line is no error as JSON: %v\n%s", r.name, err, errs)
	}
	if said.Kind != string(r.kind) || said.Message != "upgrade Trident: "+f.GetMessage() || said.Hint != r.hint {
		g.t.Errorf("%s: the user is told %+v, want %s, %q, %q", r.name, said, r.kind, f.GetMessage(), r.hint)
	}
	if diff := differences(before, g.hostState(exceptNothing)); diff != "" {
		g.t.Errorf("%s: the host has changed\n%s", r.name, diff)
	}
}
