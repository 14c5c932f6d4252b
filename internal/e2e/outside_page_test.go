//go:build outside

package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/e2e/chrome"
	gatewayload "github.com/trident-project/trident/internal/gateway/jsonrpc/load"
	"github.com/trident-project/trident/proto/client/clienttest"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

var updatePictures = flag.Bool("update", false, "write the pictures of docs/page.md")

// browser is a folder with the programs that drive Chromium.
type browser struct {
	*rpcHost
	env []string
}

// newBrowser installs the programs beside a host.
func newBrowser(h *rpcHost) *browser {
	h.t.Helper()
	scripts, err := filepath.Abs("testdata/page")
	if err != nil {
		h.t.Fatal(err)
	}
	if err := chrome.Install(h.t.Context(), filepath.Join(h.dir, "browser"), scripts); err != nil {
		h.t.Fatal(err)
	}
	return &browser{h, []string{"PASSPHRASE=" + rpcPassphrase, "READER=" + h.token}}
}

// drive runs a script against the gateway at a port. The script reaches the handlers of
// control by URL.
func (b *browser) drive(t *testing.T, script, port string, control http.Handler, env ...string) {
	t.Helper()
	s := httptest.NewServer(control)
	defer s.Close()
	out, err := chrome.Drive(t.Context(), filepath.Join(b.dir, "browser"), script, append(append(b.env, "PAGE=https://localhost:"+port, "CONTROL="+s.URL), env...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
}

// pidAt returns the process that listens at a unix socket.
func pidAt(path string) (int, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil || err != nil {
		return 0, errors.Join(cerr, err)
	}
	return int(peer.Pid), nil
}

// In Chromium a person logs in, uploads an upgrade, watches it through a restart of tridentd,
// continues it, and reads why it failed: the root of this host is nearly empty.
func TestAPersonUpgradesAHostInTheBrowser(t *testing.T) {
	needs(t, "chromium", "node", "npm")
	p := built(t)
	h := newRPCHost(t, `rights: [{identity: "passphrase:admin", rights: [admin]}]`)
	b := newBrowser(h)
	h.sh(`mkdir -p host/usr/lib host/etc/trident/trust.d && cp -L /etc/os-release host/usr/lib/os-release && cp "$CERT" host/etc/trident/trust.d/trident.crt`, "CERT="+p.cert)
	control := http.NewServeMux()
	control.HandleFunc("/stop", func(w http.ResponseWriter, _ *http.Request) {
		socket := filepath.Join(h.dir, "host/run/trident/trident.sock")
		pid, err := pidAt(socket)
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGTERM)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for c, err := net.Dial("unix", socket); err == nil; c, err = net.Dial("unix", socket) {
			_ = c.Close()
			time.Sleep(10 * time.Millisecond) // tridentd has no other event for strangers
		}
	})
	control.HandleFunc("/start", func(http.ResponseWriter, *http.Request) {
		h.start(0, `serves the gateway of this host" socket=(\S+)`, "bin/tridentd", "--root", filepath.Join(h.dir, "host"), "--idle-timeout", "0")
	})
	b.drive(t, "host.mjs", h.port, control, "IMAGE="+p.image)
}

// In Chromium a person sees each view in each state: an upgrade that ends in a new version, one
// that fails with evidence, and a rollback. axe-core finds no violation in any view.
func TestThePageInEachState(t *testing.T) {
	needs(t, "chromium", "node", "npm")
	h := newRPCHost(t, `rights: [{identity: "passphrase:admin", rights: [admin]}]`)
	b := newBrowser(h)
	w := &pageWorld{socket: filepath.Join(h.dir, "fake.sock")}
	if err := w.become("slow"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.server.Close() })
	h.sh(`sed "s|^socket:.*|socket: $PWD/fake.sock|; s|audit.log|fake.log|" serve.yaml >fake.yaml; head -c 300000 /dev/urandom >trident-2.0.0.raw`)
	address := h.start(rpcUID, `the gateway serves" address=(\S+)`, "bin/trident-gateway", "serve", "-c", filepath.Join(h.dir, "fake.yaml"), "--wake-file", "", "--load-file", h.loadOfADay())
	_, port, _ := strings.Cut(address, ":")
	pictures := ""
	if *updatePictures {
		var err error
		if pictures, err = filepath.Abs("../../docs/pictures"); err != nil {
			t.Fatal(err)
		}
	}
	b.drive(t, "states.mjs", port, w, "PICTURES="+pictures, "IMAGE="+filepath.Join(h.dir, "trident-2.0.0.raw"))
}

// A person logs in by a certificate of the browser. The gateway ends in the middle of an upload,
// the host boots, and a token is revoked: the page attaches again by itself, and says what happened.
func TestTheLoginsOfThePage(t *testing.T) {
	needs(t, "chromium", "node", "npm")
	h := newRPCHost(t, `rights: [{identity: "passphrase:admin", rights: [admin]}, {identity: "uri:trident://admin", rights: [admin]}]`)
	b := newBrowser(h)
	w := &pageWorld{socket: filepath.Join(h.dir, "fake.sock")}
	if err := w.become("fresh"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.server.Close() })
	h.sh(`sed "s|^socket:.*|socket: $PWD/fake.sock|; s|audit.log|fake.log|" serve.yaml >fake.yaml; truncate -s 1900M large.raw; cp host/etc/trident/gateway/clients/admin.* .`)
	serve := func() (string, func()) {
		return h.begin(rpcUID, `the gateway serves" address=(\S+)`, "bin/trident-gateway", "serve", "-c", filepath.Join(h.dir, "fake.yaml"), "--wake-file", "", "--load-file", "")
	}
	address, end := serve()
	_, port, _ := strings.Cut(address, ":")
	h.sh(`sed -i "s|^listen:.*|listen: [\"` + address + `\"]|" fake.yaml`)
	control := http.NewServeMux()
	control.HandleFunc("/away", func(rw http.ResponseWriter, r *http.Request) {
		end()
		r.URL.Path = "/end"
		w.ServeHTTP(rw, r)
	})
	control.HandleFunc("/booted", func(rw http.ResponseWriter, r *http.Request) {
		w.ServeHTTP(rw, r)
		_, end = serve()
	})
	control.HandleFunc("/revoked", func(http.ResponseWriter, *http.Request) {
		h.sh(fmt.Sprintf("bin/trident-gateway token revoke panel -c fake.yaml; chgrp %d host/etc/trident/gateway/tokens.json", rpcUID))
	})
	b.drive(t, "logins.mjs", port, control, "CLIENT="+filepath.Join(h.dir, "admin"), "LARGE="+filepath.Join(h.dir, "large.raw"))
}

// loadOfADay writes the history of the load of a day, and returns its file.
func (h *rpcHost) loadOfADay() string {
	h.t.Helper()
	path, now := filepath.Join(h.dir, "load"), time.Now()
	history, err := gatewayload.Open(path, now, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	for i := range 24 * 60 {
		v := 7 + 5*math.Sin(float64(i)/230) + 2*math.Sin(float64(i)/17)
		if i > 800 && i < 860 {
			v += 9
		}
		if err := history.Add(gatewayload.Minute{
			Sample:   gatewayload.Sample{Time: now.Add(-time.Duration(i) * time.Minute), Load1: v, Load5: v * 0.9, Load15: v * 0.8},
			DiskRead: int64(v * v * 1e5), DiskWritten: int64(v * 3e5),
		}); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := os.Chown(path, rpcUID, rpcUID); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// pageWorld is a host in place of a real one. It is in one of several states, each with a tridentd
// of its own at the same socket.
type pageWorld struct {
	socket string
	mu     sync.Mutex
	server *clienttest.Server
}

// ServeHTTP ends tridentd, or has another one take its place: /end, /slow, /fresh, /kept, /failed.
func (w *pageWorld) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if err := w.become(strings.TrimPrefix(r.URL.Path, "/")); err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
	}
}

func (w *pageWorld) become(state string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server != nil {
		w.server.Close()
	}
	if state == "end" {
		return nil
	}
	config, ok := pageStates()[state]
	if !ok {
		return fmt.Errorf("there is no state %q", state)
	}
	config.Steps, config.System, config.Control = upgradeSteps, fakeSystem{state: state}, clienttest.Control{Units: fakeUnits{}, Logs: fakeLogs{}}
	w.server = clienttest.New(config)
	return errors.Join(w.server.Listen(w.socket), os.Chmod(w.socket, 0o666))
}

var began = time.Date(2026, 11, 30, 9, 30, 0, 0, time.UTC)

func minute(minutes int) *timestamppb.Timestamp {
	return timestamppb.New(began.Add(time.Duration(minutes) * time.Minute))
}

// upgradeSteps has the steps of an upgrade of Trident.
var upgradeSteps = []string{"fetch", "verify", "probe", "arm rescue", "return", "activate", "restart", "prove", "settle"}

// stepsTo returns the steps of an upgrade, of which the last one that was begun is named. If then is
// set, those are in that state, and not done.
func stepsTo(last string, then operationsv1.StepState) (out []*operationsv1.Step) {
	state := operationsv1.StepState_STEP_STATE_DONE
	for _, name := range upgradeSteps {
		step := &operationsv1.Step{Name: name, State: state}
		if then != 0 && state == operationsv1.StepState_STEP_STATE_DONE {
			step.State = then
		}
		if name == last {
			state = operationsv1.StepState_STEP_STATE_PENDING
		}
		out = append(out, step)
	}
	return out
}

// pageStates has a configuration of tridentd for each state.
func pageStates() map[string]clienttest.Config {
	const evidence = "/var/lib/trident/self/evidence/op-1"
	failure := &operationsv1.Failure{
		Reason: "UNHEALTHY", Message: "upgrade Trident: prove: tridentd 2.0.0 did not answer for 10s: it exits with code 1 at its start",
		Hint: "read the evidence, and report the fault to the author of the version",
	}
	script := []*operationsv1.Event{
		clienttest.Step(operationsv1.Phase_PHASE_DOING, "fetch", nil), clienttest.Progress("fetch", 12<<20, 48<<20), clienttest.Progress("fetch", 30<<20, 48<<20),
		clienttest.Log("fetch", operationsv1.Severity_SEVERITY_INFO, "received 30 MiB of 48 MiB"),
		clienttest.Step(operationsv1.Phase_PHASE_DOING, "verify", nil), clienttest.Step(operationsv1.Phase_PHASE_DOING, "activate", nil),
		clienttest.Log("activate", operationsv1.Severity_SEVERITY_WARNING, "/usr is read-only while the extension is merged"),
		clienttest.Restart("restart"),
	}
	trusted := []*selfv1.TrustedCertificate{{Subject: "CN=Trident releases", Fingerprint: "8a73", NotAfter: minute(500_000), Path: "/usr/lib/trident/trust.d/trident.crt"}}
	base := &selfv1.GetStatusResponse{
		RunningVersion: "1.4.0", Origin: selfv1.Origin_ORIGIN_EXTENSION, BaseVersion: "1.3.0", ActiveVersion: "1.4.0", Merged: true, Verity: true, RollbackTarget: "base",
		Trusted: trusted, Images: []*selfv1.Image{{Version: "1.4.0", RootHash: "ab", Size: 48 << 20, StagedTime: minute(-5000), Active: true}},
	}
	kept := proto.CloneOf(base)
	kept.RunningVersion, kept.ActiveVersion, kept.RollbackTarget = "2.0.0", "2.0.0", "1.4.0"
	kept.Images[0].Active, kept.Images[0].Previous = false, true
	kept.Images = append([]*selfv1.Image{{Version: "2.0.0", RootHash: "cd", Size: 50 << 20, StagedTime: minute(0), Active: true}}, kept.Images...)
	failed := proto.CloneOf(base)
	failed.Images = append(failed.Images, &selfv1.Image{Version: "1.9.0", RootHash: "ef", Size: 49 << 20, StagedTime: minute(-20)}, &selfv1.Image{Version: "2.0.0", RootHash: "cd", Size: 50 << 20, StagedTime: minute(0)})
	failed.Blocked = []*selfv1.BlockedVersion{{Version: "2.0.0", Reason: "tridentd did not answer", Time: minute(3), OperationId: "op-1", Evidence: evidence}}
	entry := &selfv1.HistoryEntry{OperationId: "op-1", Kind: "self-upgrade", FromVersion: "1.4.0", ToVersion: "2.0.0", StartTime: minute(0), EndTime: minute(3), Phase: operationsv1.Phase_PHASE_DONE}
	lost := proto.CloneOf(entry)
	lost.Phase, lost.Failure, lost.Evidence = operationsv1.Phase_PHASE_UNDONE, failure, evidence
	failed.Last = lost
	updates := &selfv1.CheckUpdatesResponse{
		RunningVersion: "1.4.0", Feed: "https://updates.example.org/trident", Channel: "stable", RefreshTime: minute(0), ExpireTime: minute(10_000),
		Offer:  &selfv1.Release{Version: "2.0.0", Size: 50 << 20, TransferSize: 3 << 20, PublishTime: minute(-900)},
		Others: []*selfv1.Release{{Version: "1.4.0", Size: 48 << 20, PublishTime: minute(-9000), Reasons: []*selfv1.Reason{{Kind: selfv1.ReasonKind_REASON_KIND_CURRENT, Message: "version 1.4.0 runs on this host"}}}},
	}
	op := func(phase operationsv1.Phase, list []*operationsv1.Step, f *operationsv1.Failure) []*operationsv1.Operation {
		return []*operationsv1.Operation{{
			Id: "op-1", Kind: "self-upgrade", Summary: "upgrade Trident", Phase: phase, Steps: list, Step: "settle", Failure: f, CreateTime: minute(0), UpdateTime: minute(3), AskedBy: "passphrase:admin",
		}}
	}
	return map[string]clienttest.Config{
		"slow":   {Version: "1.4.0", Status: base, Script: script[:4], Updates: updates},
		"fresh":  {Version: "1.4.0", Status: base, Script: script, Updates: updates},
		"booted": {Version: "1.4.0", Status: base, Script: script, Updates: updates},
		"kept": {Version: "2.0.0", Status: kept, Script: script, Updates: updates, History: []*selfv1.HistoryEntry{entry},
			Operations: op(operationsv1.Phase_PHASE_DONE, stepsTo("settle", 0), nil)},
		"failed": {Version: "1.4.0", Status: failed, Script: script, Updates: updates, History: []*selfv1.HistoryEntry{lost},
			Operations: op(operationsv1.Phase_PHASE_UNDONE, stepsTo("prove", operationsv1.StepState_STEP_STATE_UNDONE), failure)},
	}
}

// fakeSystem answers as a host does.
type fakeSystem struct {
	machinev1.UnimplementedSystemServiceServer
	state string // of the pageWorld
}

func (fakeSystem) GetVersion(context.Context, *machinev1.GetVersionRequest) (*machinev1.GetVersionResponse, error) {
	return &machinev1.GetVersionResponse{Hostname: "host1", Kernel: "Linux", KernelRelease: "6.12.9-amd64", Machine: "x86_64", OsPrettyName: "Debian GNU/Linux 13 (trixie)"}, nil
}

func (s fakeSystem) GetUptime(context.Context, *machinev1.GetUptimeRequest) (*machinev1.GetUptimeResponse, error) {
	id := "2b5c2f0e-2c3e-4ea8-9d0c-0d2d6c8e7b11"
	if s.state == "booted" {
		id = "6d1f7a90-55d1-4a43-8a5b-0b5f7a1f0c22"
	}
	return &machinev1.GetUptimeResponse{Uptime: durationpb.New(90 * time.Hour), BootTime: minute(-5400), BootId: id}, nil
}

func (fakeSystem) GetMemory(context.Context, *machinev1.GetMemoryRequest) (*machinev1.GetMemoryResponse, error) {
	return &machinev1.GetMemoryResponse{MemTotal: proto.Uint64(8 << 30), MemAvailable: proto.Uint64(5 << 30)}, nil
}

func (fakeSystem) ListMounts(context.Context, *machinev1.ListMountsRequest) (*machinev1.ListMountsResponse, error) {
	return &machinev1.ListMountsResponse{Mounts: []*machinev1.MountPoint{
		{Source: "/dev/vda2", Target: "/", Type: "ext4", Size: proto.Uint64(20 << 30), Free: proto.Uint64(12 << 30)},
		{Source: "proc", Target: "/proc", Type: "proc"},
		{Source: "sysext", Target: "/usr", Type: "overlay", Options: []string{"ro", "lowerdir=/run/systemd/sysext/meta/usr:/run/systemd/sysext/extensions/trident/usr:/usr"}, Size: proto.Uint64(20 << 30), Free: proto.Uint64(12 << 30)},
		{Source: "nas.example.org:/backup", Target: "/mnt/backup", Type: "nfs4", Size: proto.Uint64(4 << 40), Free: proto.Uint64(1 << 40)},
	}}, nil
}

func (fakeSystem) ListDisks(context.Context, *machinev1.ListDisksRequest) (*machinev1.ListDisksResponse, error) {
	n := uint64(time.Since(began).Milliseconds())
	return &machinev1.ListDisksResponse{Disks: []*machinev1.Disk{
		{Name: "vda", Kind: machinev1.BlockKind_BLOCK_KIND_DISK, Size: 32 << 30, Model: "QEMU", Statistics: &machinev1.DiskStatistics{BytesRead: 300 * n, BytesWritten: 900 * n}},
		{Name: "vda2", Parent: "vda", Kind: machinev1.BlockKind_BLOCK_KIND_PARTITION, Size: 20 << 30, MountPoints: []string{"/"}},
	}}, nil
}

type fakeUnits struct {
	machinev1.UnimplementedUnitServiceServer
}

func (fakeUnits) ListUnits(context.Context, *machinev1.ListUnitsRequest) (*machinev1.ListUnitsResponse, error) {
	return &machinev1.ListUnitsResponse{Units: []*machinev1.Unit{
		{Name: "backup.service", Description: "Copy /home to the server", LoadState: "loaded", ActiveState: "failed", SubState: "failed"},
		{Name: "ssh.service", Description: "OpenBSD Secure Shell server", LoadState: "loaded", ActiveState: "active", SubState: "running"},
		{Name: "tridentd.socket", Description: "Socket of Trident", LoadState: "loaded", ActiveState: "active", SubState: "running"},
	}}, nil
}

func (fakeUnits) ShowUnit(_ context.Context, r *machinev1.ShowUnitRequest) (*machinev1.ShowUnitResponse, error) {
	return &machinev1.ShowUnitResponse{
		Unit:         &machinev1.Unit{Name: r.GetName(), Description: "Copy /home to the server", ActiveState: "failed", SubState: "failed"},
		FragmentPath: "/etc/systemd/system/" + r.GetName(), Result: "exit-code", UnitFileState: "enabled", StateChangeTime: minute(-30),
	}, nil
}

type fakeLogs struct {
	machinev1.UnimplementedLogServiceServer
}

// Journal sends two entries, and a third one to those who follow.
func (fakeLogs) Journal(r *machinev1.JournalRequest, stream grpc.ServerStreamingServer[machinev1.JournalResponse]) error {
	entry := func(n int, priority int32, text string) *machinev1.JournalEntry {
		return &machinev1.JournalEntry{Cursor: fmt.Sprint(n), Time: minute(n), Unit: "backup.service", Identifier: "backup", Pid: 4711, Priority: proto.Int32(priority), Message: text}
	}
	if !r.GetFollow() {
		return stream.Send(&machinev1.JournalResponse{Entries: []*machinev1.JournalEntry{entry(1, 6, "begins"), entry(2, 3, "<b>the server</b> does not answer")}})
	}
	if err := stream.Send(&machinev1.JournalResponse{Entries: []*machinev1.JournalEntry{entry(3, 4, "tries again after "+r.GetAfterCursor())}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}
