//go:build vm

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

func TestAHostIsWatchedAndItsUnitsAreHandled(t *testing.T) {
	t.Parallel()
	g := start(t)
	lap := stopwatch(t)
	g.sh(`cd /etc/systemd/system
		printf '[Service]\nExecStart=sleep infinity\n' >plain.service
		printf '[Service]\nExecStart=false\n' >bad.service
		printf '[Service]\nExecStart=false\n' >worse.service
		systemctl daemon-reload`)
	g.handledUnits()
	lap("units")
	g.followedEvents()
	lap("events")
	g.followedKernel()
	g.selectedJournal()
	g.followedJournal()
	lap("journal")
	g.floodedJournal()
	lap("flood")
	g.capturedPackets()
	lap("capture")
}

// handledUnits lists, starts, restarts and stops units.
func (g *guest) handledUnits() {
	g.t.Helper()
	for _, unit := range []string{"tridentd.socket", "tridentd.service", "dbus.service", "dbus.socket"} {
		for _, job := range []string{"stop", "restart"} {
			g.refused([]string{job + " " + unit + ": ", "the host needs to be serviced"}, "host", "service", job, unit)
		}
		g.sh("systemctl is-active " + unit)
	}
	state := func() string {
		return g.sh("echo $(systemctl show -P ActiveState plain.service) $(systemctl show -P MainPID plain.service)")
	}
	g.must("host", "service", "start", "plain.service")
	started := state()
	g.must("host", "service", "restart", "plain.service")
	restarted := state()
	if out := g.must("host", "service", "stop", "plain.service"); !strings.Contains(out, "inactive (dead)") {
		g.t.Error(out)
	}
	if stopped := state(); !strings.HasPrefix(started, "active ") || !strings.HasPrefix(restarted, "active ") || started == restarted || stopped != "inactive 0" {
		g.t.Errorf("started: %s; restarted: %s; stopped: %s", started, restarted, stopped)
	}
	// systemd may start or unload a unit between the two.
	var ours, theirs []string
	for range 5 {
		theirs = strings.Split(g.sh("systemctl list-units --all --full --plain --no-legend --type=service | awk '{print $1, $2, $3, $4}' | sort"), "\n")
		var list machinev1.ListUnitsResponse
		if err := protojson.Unmarshal([]byte(g.must("host", "services", "--output", "json")), &list); err != nil {
			g.t.Fatal(err)
		}
		ours = nil
		for _, u := range list.GetUnits() {
			ours = append(ours, strings.Join([]string{u.GetName(), u.GetLoadState(), u.GetActiveState(), u.GetSubState()}, " "))
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		if slices.Equal(ours, theirs) {
			return
		}
	}
	g.t.Errorf("services:\n%s\nsystemctl:\n%s", strings.Join(ours, "\n"), strings.Join(theirs, "\n"))
}

// lines is the output of a command trident that goes on.
type lines struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    chan string
	stderr bytes.Buffer
}

// follow starts the command on this machine against the guest.
func (g *guest) follow(args ...string) *lines {
	g.t.Helper()
	l := &lines{t: g.t, out: make(chan string, 1024)}
	l.cmd = exec.CommandContext(g.t.Context(), g.f.trident, append([]string{"--socket", g.socket, "host"}, append(args, "--follow", "--output", "json")...)...)
	l.cmd.Stderr = &l.stderr
	out, err := l.cmd.StdoutPipe()
	if err == nil {
		err = l.cmd.Start()
	}
	if err != nil {
		g.t.Fatal(err)
	}
	go func() {
		defer close(l.out)
		for s := bufio.NewScanner(out); s.Scan(); {
			l.out <- s.Text()
		}
	}()
	return l
}

// end waits for the end of the command, and returns its errors.
func (l *lines) end() (stderr string, code int) {
	l.t.Helper()
	limit := time.AfterFunc(time.Minute, func() { _ = l.cmd.Process.Kill() })
	defer limit.Stop()
	for range l.out {
	}
	_ = l.cmd.Wait()
	return l.stderr.String(), l.cmd.ProcessState.ExitCode()
}

// stop interrupts the command, as a person does.
func (l *lines) stop() {
	l.t.Helper()
	_ = l.cmd.Process.Signal(os.Interrupt)
	l.end()
}

// next returns the next line as a message.
func next[M any, P interface {
	*M
	proto.Message
}](l *lines) P {
	l.t.Helper()
	select {
	case line, ok := <-l.out:
		m := P(new(M))
		if err := protojson.Unmarshal([]byte(line), m); err != nil || !ok {
			l.t.Fatalf("%q, %v: %s", line, err, l.stderr.String())
		}
		return m
	case <-time.After(time.Minute):
		l.t.Fatalf("no line comes from %q", l.cmd.Args)
	}
	return nil
}

// seen has the events of a stream by their numbers.
type seen struct {
	g      *guest
	stream string
	last   uint64
}

// until takes events up to one that is wanted. Each event has the next number.
func (s *seen) until(l *lines, what string, is func(*machinev1.HostEvent) bool) *machinev1.HostEvent {
	s.g.t.Helper()
	for {
		m := next[machinev1.EventsResponse](l)
		e := m.GetEvent()
		if s.stream == "" {
			s.stream = m.GetStreamId()
		}
		if m.GetStreamId() != s.stream || m.GetLost() || e.GetSequence() != s.last+1 {
			s.g.t.Fatalf("before %s: after event %d comes %v", what, s.last, m)
		}
		s.last = e.GetSequence()
		if is(e) {
			return e
		}
	}
}

func event(kind machinev1.HostEventKind, subject string) func(*machinev1.HostEvent) bool {
	return func(e *machinev1.HostEvent) bool { return e.GetKind() == kind && e.GetSubject() == subject }
}

// followedEvents follows the events of the host, and continues after a pause.
func (g *guest) followedEvents() {
	g.t.Helper()
	const failed, mounted, unmounted = machinev1.HostEventKind_HOST_EVENT_KIND_UNIT_FAILED, machinev1.HostEventKind_HOST_EVENT_KIND_MOUNT, machinev1.HostEventKind_HOST_EVENT_KIND_UNMOUNT
	g.sh("systemctl restart tridentd.service") // which remembers nothing
	l, s := g.follow("events"), &seen{g: g}
	s.until(l, "the boot", event(machinev1.HostEventKind_HOST_EVENT_KIND_BOOT, g.sh("cat /proc/sys/kernel/random/boot_id")))
	g.sh("systemctl start bad.service")
	s.until(l, "a failed unit", event(failed, "bad.service"))
	g.sh("mkdir -p '/mnt/a b'; mount -t tmpfs none '/mnt/a b'")
	s.until(l, "a mount", event(mounted, "/mnt/a b"))
	g.must("update", g.file("os:\n  additionalFiles:\n  - destination: /etc/followed.conf\n    content: x\n    permissions: \"0644\"\n"))
	ops, err := g.api.Operations(g.t.Context(), 1, false)
	if err != nil || len(ops) != 1 {
		g.t.Fatal(ops, err)
	}
	s.until(l, "an operation", event(machinev1.HostEventKind_HOST_EVENT_KIND_OPERATION, ops[0].GetId()))
	l.stop()
	// While nobody follows, the daemon goes on watching.
	g.sh("umount '/mnt/a b'; systemctl start worse.service")
	l = g.follow("events", "--after", strconv.FormatUint(s.last, 10), "--stream", s.stream)
	defer l.stop()
	var both []string
	s.until(l, "an unmount and a failed unit", func(e *machinev1.HostEvent) bool {
		if event(unmounted, "/mnt/a b")(e) || event(failed, "worse.service")(e) {
			both = append(both, e.GetSubject())
		}
		return len(both) == 2
	})
	g.sh("systemctl reset-failed bad.service worse.service")
}

// followedKernel follows the log of the kernel.
func (g *guest) followedKernel() {
	g.t.Helper()
	l := g.follow("dmesg", "--lines", "1")
	defer l.stop()
	last := next[machinev1.KernelRecord](l)
	g.sh("echo '<3>a record of the test' >/dev/kmsg")
	for {
		r := next[machinev1.KernelRecord](l)
		if r.GetSequence() != last.GetSequence()+1 || r.GetLost() {
			g.t.Errorf("after %v comes %v", last, r)
		}
		if last = r; r.GetMessage() == "a record of the test" {
			break
		}
	}
	if last.GetPriority() != 3 || last.GetFacility() == 0 {
		g.t.Errorf("the record: %v", last)
	}
}

// journal returns the entries of a query that ends.
func (g *guest) journal(req *machinev1.JournalRequest) (out []*machinev1.JournalEntry) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	stream, err := g.api.Logs().Journal(ctx, req)
	for err == nil {
		var m *machinev1.JournalResponse
		if m, err = stream.Recv(); err == nil {
			out = append(out, m.GetEntries()...)
		}
	}
	if !errors.Is(err, io.EOF) {
		g.t.Fatal(err)
	}
	return out
}

func messages(entries []*machinev1.JournalEntry) (out []string) {
	for _, e := range entries {
		out = append(out, e.GetMessage())
	}
	return out
}

// selectedJournal reads the journal by unit, priority and time, and what is not text.
func (g *guest) selectedJournal() {
	g.t.Helper()
	g.sh(`systemd-run --quiet --wait --unit=talker sh -c 'echo "<6>one"; echo "<3>two"; echo "<6>three"'
		printf 'MESSAGE=a\377\376b\nSYSLOG_IDENTIFIER=binary\nBLOB=\001\377\n' | logger --journald
		journalctl --sync`)
	unit := &machinev1.JournalRequest{Units: []string{"talker.service"}, MaxPriority: proto.Int32(6)}
	all := slices.DeleteFunc(g.journal(unit), func(e *machinev1.JournalEntry) bool { return e.GetIdentifier() != "sh" })
	if got := messages(all); !slices.Equal(got, []string{"one", "two", "three"}) {
		g.t.Fatalf("of the unit: %q", got)
	}
	unit.Since = all[1].GetTime()
	if got := messages(g.journal(unit)); slices.Contains(got, "one") && all[0].GetTime().AsTime().Before(all[1].GetTime().AsTime()) || !slices.Contains(got, "two") {
		g.t.Errorf("since the second: %q", got)
	}
	unit.Since, unit.AfterCursor = nil, all[1].GetCursor()
	if got := messages(g.journal(unit)); slices.Contains(got, "two") || !slices.Contains(got, "three") {
		g.t.Errorf("after the second: %q", got)
	}
	out := g.must("host", "logs", "--unit", "talker.service", "--priority", "3", "--since", "10m")
	if !strings.HasSuffix(out, ": two\n") || strings.Count(out, "\n") != 1 {
		g.t.Errorf("of priority 3: %s", out)
	}
	for _, e := range g.journal(&machinev1.JournalRequest{Tail: 50, AllFields: true}) {
		if e.GetIdentifier() != "binary" {
			continue
		}
		i := slices.IndexFunc(e.GetFields(), func(f *machinev1.JournalField) bool { return f.GetName() == "BLOB" })
		if string(e.GetMessageBytes()) != "a\xff\xfeb" || e.GetMessage() != "" || i < 0 || string(e.GetFields()[i].GetValue()) != "\x01\xff" {
			g.t.Errorf("the entry with bytes: %v", e)
		}
		return
	}
	g.t.Error("the entry with bytes is missing")
}

// followedJournal follows the journal of a unit over a restart of tridentd.
func (g *guest) followedJournal() {
	g.t.Helper()
	g.sh(`systemd-run --quiet --unit=ticker sh -c 'i=0; while :; do i=$((i + 1)); echo tick $i; sleep 0.1; done'`)
	defer g.sh("systemctl stop ticker.service")
	tick, cursor := 0, ""
	take := func(l *lines, until int) {
		g.t.Helper()
		for tick < until {
			e := next[machinev1.JournalEntry](l)
			if e.GetIdentifier() != "sh" { // systemd says that the unit has started
				continue
			}
			if want := fmt.Sprint("tick ", tick+1); e.GetMessage() != want {
				g.t.Fatalf("%v comes, want %s", e, want)
			}
			tick, cursor = tick+1, e.GetCursor()
		}
	}
	l := g.follow("logs", "--unit", "ticker.service", "--lines", "0")
	take(l, 5)
	g.sh("systemctl restart tridentd.service")
	if errs, code := l.end(); code == 0 || !strings.Contains(errs, `"kind":"UNAVAILABLE"`) || !strings.Contains(errs, "tridentd ends or restarts") || strings.Count(errs, "\n") != 1 {
		g.t.Errorf("at the restart of tridentd: %d, %s", code, errs)
	}
	l = g.follow("logs", "--unit", "ticker.service", "--after", cursor)
	take(l, tick+10)
	l.stop()
}

// floodLines is how many lines a program writes as fast as the guest lets it, and flood how much
// more memory tridentd may need for them, in KiB.
const (
	floodLines = 10000
	floodKiB   = 32 << 10
)

// floodedJournal follows a program that writes faster than its readers read, one of which does
// not read at all meanwhile.
func (g *guest) floodedJournal() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 3*time.Minute)
	defer cancel()
	request := &machinev1.JournalRequest{Units: []string{"flood.service"}, Follow: true}
	memory := func(key string) int {
		g.t.Helper()
		kib, err := strconv.Atoi(g.sh("awk '$1 == \"" + key + ":\" {print $2}' /proc/$(systemctl show -P MainPID tridentd.service)/status"))
		if err != nil {
			g.t.Fatal(err)
		}
		return kib
	}
	before := memory("VmRSS")
	g.sh("echo 5 >/proc/$(systemctl show -P MainPID tridentd.service)/clear_refs") // VmHWM begins again
	idle, err := g.api.Logs().Journal(ctx, request)
	if err != nil {
		g.t.Fatal(err)
	}
	began := time.Now()
	g.sh(fmt.Sprintf("systemd-run --quiet --wait --unit=flood -p LogRateLimitIntervalSec=0 sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do seq $(( (i - 1) * %[1]d + 1 )) $((i * %[1]d)); done'", floodLines/10))
	written := time.Since(began)
	read := func(stream interface {
		Recv() (*machinev1.JournalResponse, error)
	}) {
		g.t.Helper()
		for n := 0; n < floodLines; {
			m, err := stream.Recv()
			if err != nil {
				g.t.Fatalf("after line %d: %v", n, err)
			}
			for _, e := range m.GetEntries() {
				if e.GetIdentifier() != "sh" && e.GetIdentifier() != "seq" {
					continue
				}
				if n++; e.GetMessage() != strconv.Itoa(n) {
					g.t.Fatalf("%q comes, want %d", e.GetMessage(), n)
				}
			}
		}
	}
	busy, err := g.api.Logs().Journal(ctx, request)
	if err != nil {
		g.t.Fatal(err)
	}
	began = time.Now()
	read(busy)
	took := time.Since(began)
	read(idle)
	most, after := memory("VmHWM"), memory("VmRSS")
	g.t.Logf("%d lines: written in %.1f s, read in %.1f s; tridentd had %d KiB before, at most %d KiB, and %d KiB after", floodLines, written.Seconds(), took.Seconds(), before, most, after)
	if most > before+floodKiB {
		g.t.Errorf("tridentd grew from %d KiB to %d KiB", before, most)
	}
}

// capturedPackets records the packets of the interface that has the connection of the caller.
func (g *guest) capturedPackets() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	const most = 1500
	stream, err := g.api.Capture().Capture(ctx, &machinev1.CaptureRequest{Interface: "eth0", MaxBytes: most, MaxTime: durationpb.New(time.Minute)})
	if err != nil {
		g.t.Fatal(err)
	}
	var file []byte
	isSent := false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			g.t.Fatal(err)
		}
		if file = append(file, m.GetData()...); !isSent { // the header: from now on it records
			isSent = true
			go func() {
				_, _ = g.Run(ctx, `bash -c 'while :; do echo a packet of the test >/dev/udp/10.0.2.2/9; sleep 0.05; done'`, nil)
			}()
		}
	}
	if len(file) > most || len(file) < most/2 {
		g.t.Fatalf("the file has %d bytes", len(file))
	}
	ours := 0
	for rest := file[24:]; len(rest) > 0; {
		size := binary.LittleEndian.Uint32(rest[8:])
		p := rest[16 : 16+size]
		rest = rest[16+size:]
		switch {
		case bytes.Contains(p, []byte("a packet of the test")):
			ours++
		case len(p) > 23 && binary.BigEndian.Uint16(p[12:]) == 0x0800 && p[23] == 6:
			g.t.Errorf("a packet of the connection of the caller: %x", p)
		}
	}
	if ours < 5 {
		g.t.Errorf("%d packets of the test", ours)
	}
}
