package api

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/api/control"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/machine/capture"
	"github.com/trident-project/trident/internal/machine/files"
	"github.com/trident-project/trident/internal/machine/logs"
	"github.com/trident-project/trident/internal/machine/mounts"
	"github.com/trident-project/trident/internal/machine/power"
	"github.com/trident-project/trident/internal/machine/units"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// testControl returns services of a host with the units a.service and tridentd.service.
func testControl(ctx context.Context, root string, operations power.Operations) *control.Services {
	fake := &systemdtest.Fake{}
	for _, name := range []string{"a.service", "tridentd.service"} {
		fake.Define(systemdtest.Definition{Name: name})
		_ = fake.Run(ctx, systemd.StartJob, name)
	}
	return &control.Services{
		Units: &units.Service{Jobs: fake}, Logs: &logs.Service{Root: root, Tools: run.Host{}}, Events: logs.NewEvents(ctx, "boot 1", time.Now(), nil),
		Files: &files.Service{Root: root}, Capture: &capture.Service{Root: "/"}, Power: &power.Service{Login: &systemdtest.Login{}, Operations: operations},
		Mounts: mounts.New(root, fake, run.Host{}),
	}
}

func TestMountsAreServed(t *testing.T) {
	f := newFixture(t)
	client := machinev1.NewMountServiceClient(f.conn)
	folder := filepath.Join(f.root, "proc/self")
	line := "30 1 0:30 / /srv/\\xff rw,nosuid - nfs4 nas:/x rw\n"
	if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, "mountinfo"), []byte(line), 0o644)); err != nil {
		t.Fatal(err)
	}
	shares, err := client.ListShares(t.Context(), &machinev1.ListSharesRequest{})
	if err != nil || len(shares.GetShares()) != 1 || shares.GetShares()[0].GetWhat() != "nas:/x" || !shares.GetShares()[0].GetMounted() {
		t.Errorf("%v, %v", shares, err)
	}
	holders, err := client.ListHolders(t.Context(), &machinev1.ListHoldersRequest{Where: "/nowhere"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("%v, %v", holders, err)
	}
	if _, err := client.Mount(t.Context(), &machinev1.MountRequest{What: "/dev/sda", Where: "/usr"}); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	if _, err := client.Unmount(t.Context(), &machinev1.UnmountRequest{Where: "/"}); status.Code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	many := make([]string, 65)
	if _, err := client.Mount(t.Context(), &machinev1.MountRequest{What: "/dev/sda", Where: "/srv/a", Options: many}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

func TestUnitsAreServed(t *testing.T) {
	client := machinev1.NewUnitServiceClient(newFixture(t).conn)
	list, err := client.ListUnits(t.Context(), &machinev1.ListUnitsRequest{Patterns: []string{"a.*"}, States: []string{"running"}})
	if err != nil || len(list.GetUnits()) != 1 || list.GetUnits()[0].GetName() != "a.service" || list.GetUnits()[0].GetActiveState() != "active" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := client.StopUnit(t.Context(), &machinev1.StopUnitRequest{Name: "a.service"}); err != nil {
		t.Error(err)
	}
	shown, err := client.ShowUnit(t.Context(), &machinev1.ShowUnitRequest{Name: "a.service"})
	if err != nil || shown.GetUnit().GetActiveState() != "inactive" || shown.GetProtected() != "" {
		t.Errorf("%v, %v", shown, err)
	}
	_, err = client.RestartUnit(t.Context(), &machinev1.RestartUnitRequest{Name: "tridentd.service", AllowDisconnect: true})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "tridentd.service") {
		t.Errorf("got %v", err)
	}
	if _, err := client.StartUnit(t.Context(), &machinev1.StartUnitRequest{Name: "absent.service"}); status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
}

// A person who follows events reads that tridentd ends, and nothing of an operation.
func TestAFollowedStreamSaysThatTridentdEnds(t *testing.T) {
	f := newFixture(t)
	events, err := machinev1.NewLogServiceClient(f.conn).Events(t.Context(), &machinev1.EventsRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := events.Recv(); err != nil || m.GetEvent().GetSubject() != "boot 1" {
		t.Fatal(m, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f.server.Stop(ctx, f.listener)
	if m, err := events.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "tridentd ends or restarts") || strings.Contains(err.Error(), "operation") {
		t.Error(m, err)
	}
}

func TestFilesAreServed(t *testing.T) {
	f := newFixture(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(f.root, "etc"), 0o755))
	must(os.WriteFile(filepath.Join(f.root, "etc/app.conf"), []byte(strings.Repeat("x", 200_000)), 0o644))
	must(os.WriteFile(filepath.Join(f.root, "etc/not-\xff-utf8"), nil, 0o644))
	client := machinev1.NewFileServiceClient(f.conn)

	reading, err := client.ReadFile(t.Context(), &machinev1.ReadFileRequest{Path: "/etc/app.conf", MaxBytes: 150_000})
	must(err)
	size, isTruncated := 0, false
	for {
		m, err := reading.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		must(err)
		size, isTruncated = size+len(m.GetData()), m.GetIsTruncated()
	}
	if size != 150_000 || !isTruncated {
		t.Errorf("%d bytes, %t", size, isTruncated)
	}
	listing, err := client.ListFiles(t.Context(), &machinev1.ListFilesRequest{Path: "/etc"})
	must(err)
	m, err := listing.Recv()
	if err != nil || len(m.GetFiles()) != 2 || m.GetFiles()[1].GetPath() != `/etc/not-\xff-utf8` || m.GetFiles()[0].GetSize() != 200_000 || m.GetFiles()[0].GetType() != machinev1.FileType_FILE_TYPE_REGULAR {
		t.Errorf("%v, %v", m, err)
	}
	usage, err := client.DiskUsage(t.Context(), &machinev1.DiskUsageRequest{Path: "/etc"})
	if err != nil || usage.GetFolders()[0].GetUsed() < 200_000 || usage.GetFolders()[0].GetFiles() != 2 {
		t.Errorf("%v, %v", usage, err)
	}
	for path, want := range map[string]codes.Code{"/etc/absent": codes.NotFound, "/root/x": codes.PermissionDenied, "/etc/../root": codes.InvalidArgument} {
		if _, err := client.StatFile(t.Context(), &machinev1.StatFileRequest{Path: path}); status.Code(err) != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
		copying, err := client.CopyFiles(t.Context(), &machinev1.CopyFilesRequest{Path: path})
		must(err)
		if _, err := copying.Recv(); status.Code(err) != want || !strings.Contains(err.Error(), "copy files: ") {
			t.Errorf("copy %s: %v, want %s", path, err, want)
		}
	}
}

// A stream without an end does not hold up the end of the server, and says that it can go on.
func TestAServerThatStopsEndsTheStreams(t *testing.T) {
	f := newFixture(t)
	stream, err := machinev1.NewLogServiceClient(f.conn).Events(t.Context(), &machinev1.EventsRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || first.GetEvent().GetKind() != machinev1.HostEventKind_HOST_EVENT_KIND_BOOT || first.GetEvent().GetSequence() != 1 || first.GetStreamId() == "" {
		t.Fatalf("%v, %v", first, err)
	}
	f.server.gate.endWatches()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestPowerAndPacketsAreServed(t *testing.T) {
	f := newFixture(t)
	if _, err := machinev1.NewPowerServiceClient(f.conn).Reboot(t.Context(), &machinev1.RebootRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := machinev1.NewPowerServiceClient(f.conn).Shutdown(t.Context(), &machinev1.ShutdownRequest{}); err != nil {
		t.Error(err)
	}
	packets, err := machinev1.NewCaptureServiceClient(f.conn).Capture(t.Context(), &machinev1.CaptureRequest{Interface: "absent0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := packets.Recv(); status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
}
