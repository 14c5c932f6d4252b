package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/proto/client/clienttest"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// controlled is a host that records the requests about its units, logs, files, packets, power
// and mounts, and has one answer for each.
type controlled struct {
	machinev1.UnimplementedUnitServiceServer
	machinev1.UnimplementedLogServiceServer
	machinev1.UnimplementedFileServiceServer
	machinev1.UnimplementedCaptureServiceServer
	machinev1.UnimplementedPowerServiceServer
	machinev1.UnimplementedMountServiceServer

	mu       sync.Mutex
	requests []proto.Message
}

func (c *controlled) note(m proto.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, m)
}

// asked returns the requests since the last call of asked.
func (c *controlled) asked() []proto.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.requests
	c.requests = nil
	return out
}

func (c *controlled) config() *clienttest.Config {
	return &clienttest.Config{Version: "1", Control: clienttest.Control{Units: c, Logs: c, Files: c, Capture: c, Power: c, Mounts: c}}
}

// answeredAt is the time of all that the host answers.
var answeredAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// local is answeredAt as a person reads it.
func local() string { return answeredAt.Local().Format("2006-01-02 15:04:05") }

func (c *controlled) ListUnits(_ context.Context, in *machinev1.ListUnitsRequest) (*machinev1.ListUnitsResponse, error) {
	c.note(in)
	return &machinev1.ListUnitsResponse{Units: []*machinev1.Unit{{Name: "x.service", ActiveState: "active", SubState: "running", Description: "An example"}}, Omitted: 3}, nil
}

func (c *controlled) ShowUnit(_ context.Context, in *machinev1.ShowUnitRequest) (*machinev1.ShowUnitResponse, error) {
	c.note(in)
	memory := uint64(4096)
	return &machinev1.ShowUnitResponse{
		Unit:   &machinev1.Unit{Name: in.GetName(), ActiveState: "failed", SubState: "dead", Description: "An example", LoadState: "loaded"},
		Result: "exit-code", FragmentPath: "/etc/x.service", UnitFileState: "enabled", MainPid: 7, MemoryBytes: &memory, Restarts: 2, Protected: "people log in through it",
	}, nil
}

func (c *controlled) StartUnit(_ context.Context, in *machinev1.StartUnitRequest) (*machinev1.StartUnitResponse, error) {
	c.note(in)
	return &machinev1.StartUnitResponse{}, nil
}

func (c *controlled) StopUnit(_ context.Context, in *machinev1.StopUnitRequest) (*machinev1.StopUnitResponse, error) {
	c.note(in)
	return &machinev1.StopUnitResponse{}, nil
}

func (c *controlled) RestartUnit(_ context.Context, in *machinev1.RestartUnitRequest) (*machinev1.RestartUnitResponse, error) {
	c.note(in)
	return &machinev1.RestartUnitResponse{}, nil
}

func (c *controlled) Journal(in *machinev1.JournalRequest, out grpc.ServerStreamingServer[machinev1.JournalResponse]) error {
	c.note(in)
	when := timestamppb.New(answeredAt)
	return out.Send(&machinev1.JournalResponse{Entries: []*machinev1.JournalEntry{
		{Time: when, Identifier: "sshd", Pid: 12, Message: "hello", Cursor: "c1"},
		{Time: when, Identifier: "app", MessageBytes: []byte{0xff, 0xfe}},
		{OmittedBytes: 99},
	}})
}

func (c *controlled) Dmesg(in *machinev1.DmesgRequest, out grpc.ServerStreamingServer[machinev1.DmesgResponse]) error {
	c.note(in)
	return out.Send(&machinev1.DmesgResponse{Records: []*machinev1.KernelRecord{{SinceBoot: durationpb.New(1500 * time.Millisecond), Message: "usb"}, {Message: "late", Lost: true}}})
}

func (c *controlled) Events(in *machinev1.EventsRequest, out grpc.ServerStreamingServer[machinev1.EventsResponse]) error {
	c.note(in)
	return out.Send(&machinev1.EventsResponse{Lost: true, Event: &machinev1.HostEvent{Sequence: 4, Time: timestamppb.New(answeredAt), Kind: machinev1.HostEventKind_HOST_EVENT_KIND_UNIT_FAILED, Subject: "x.service"}})
}

func (c *controlled) ListFiles(in *machinev1.ListFilesRequest, out grpc.ServerStreamingServer[machinev1.ListFilesResponse]) error {
	c.note(in)
	err := out.Send(&machinev1.ListFilesResponse{Files: []*machinev1.FileInfo{
		{Path: "a", Type: machinev1.FileType_FILE_TYPE_FOLDER, Mode: 0o755, Uid: 1, Gid: 2}, {Path: "l", Type: machinev1.FileType_FILE_TYPE_LINK, Mode: 0o777, LinkTarget: "a"},
	}})
	if err != nil {
		return err
	}
	return out.Send(&machinev1.ListFilesResponse{Files: []*machinev1.FileInfo{{Path: "b", Error: "it is gone"}}, IsTruncated: true})
}

func (c *controlled) ReadFile(in *machinev1.ReadFileRequest, out grpc.ServerStreamingServer[machinev1.ReadFileResponse]) error {
	c.note(in)
	if err := out.Send(&machinev1.ReadFileResponse{Data: []byte("ID=\x01x")}); err != nil {
		return err
	}
	return out.Send(&machinev1.ReadFileResponse{Data: []byte("\n"), IsTruncated: true})
}

func (c *controlled) CopyFiles(in *machinev1.CopyFilesRequest, out grpc.ServerStreamingServer[machinev1.CopyFilesResponse]) error {
	c.note(in)
	return out.Send(&machinev1.CopyFilesResponse{Data: []byte("tar"), Skipped: []*machinev1.FileInfo{{Error: "shadow is secret\x1b[2J"}}})
}

func (c *controlled) DiskUsage(_ context.Context, in *machinev1.DiskUsageRequest) (*machinev1.DiskUsageResponse, error) {
	c.note(in)
	return &machinev1.DiskUsageResponse{Folders: []*machinev1.FolderUsage{{Path: "/var", Used: 4096, Files: 2}}, IsIncomplete: true}, nil
}

func (c *controlled) Capture(in *machinev1.CaptureRequest, out grpc.ServerStreamingServer[machinev1.CaptureResponse]) error {
	c.note(in)
	return out.Send(&machinev1.CaptureResponse{Data: []byte{0xd4, 0xc3, 0xb2, 0xa1}, Dropped: 5})
}

func (c *controlled) Reboot(_ context.Context, in *machinev1.RebootRequest) (*machinev1.RebootResponse, error) {
	c.note(in)
	return &machinev1.RebootResponse{}, nil
}

func (c *controlled) Shutdown(_ context.Context, in *machinev1.ShutdownRequest) (*machinev1.ShutdownResponse, error) {
	c.note(in)
	return &machinev1.ShutdownResponse{}, nil
}

func (c *controlled) Mount(_ context.Context, in *machinev1.MountRequest) (*machinev1.MountResponse, error) {
	c.note(in)
	return &machinev1.MountResponse{Unit: "srv-x.mount"}, nil
}

func (c *controlled) Unmount(_ context.Context, in *machinev1.UnmountRequest) (*machinev1.UnmountResponse, error) {
	c.note(in)
	return &machinev1.UnmountResponse{}, nil
}

func (c *controlled) ListShares(_ context.Context, in *machinev1.ListSharesRequest) (*machinev1.ListSharesResponse, error) {
	c.note(in)
	return &machinev1.ListSharesResponse{Shares: []*machinev1.Share{{What: "nas:/x", Where: "/srv/x", Type: "nfs4", Mounted: true}}}, nil
}

func (c *controlled) ListHolders(_ context.Context, in *machinev1.ListHoldersRequest) (*machinev1.ListHoldersResponse, error) {
	c.note(in)
	return &machinev1.ListHoldersResponse{}, nil
}

// Each command makes one request, which has all of its flags, and prints the answer.
func TestCommandsThatHandleTheHost(t *testing.T) {
	c := &controlled{}
	fleet(t, map[string]*clienttest.Config{"a": c.config()})
	urgent := int32(4)
	show := &machinev1.ShowUnitRequest{Name: "x.service"}
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("geheim\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, tt := range map[string]struct {
		want           []proto.Message
		stdout, stderr string // parts
	}{
		"services":                {want: []proto.Message{&machinev1.ListUnitsRequest{Patterns: []string{"*.service"}}}, stdout: "3 more units"},
		"services ssh* --state a": {want: []proto.Message{&machinev1.ListUnitsRequest{Patterns: []string{"ssh*"}, States: []string{"a"}}}, stdout: "x.service  active  running  An example"},
		"service show x.service":  {want: []proto.Message{show}, stdout: "people log in through it"},
		"service start x.service": {want: []proto.Message{&machinev1.StartUnitRequest{Name: "x.service"}, show}, stdout: "Unit x.service is started: failed (dead)."},
		"service stop x.service --allow-disconnect": {
			want: []proto.Message{&machinev1.StopUnitRequest{Name: "x.service", AllowDisconnect: true}, show}, stdout: "is stopped",
		},
		"service restart x.service": {want: []proto.Message{&machinev1.RestartUnitRequest{Name: "x.service"}, show}, stdout: "is restarted"},
		"logs": {
			want:   []proto.Message{&machinev1.JournalRequest{Tail: 100}},
			stdout: local() + " sshd[12]: hello\n" + local() + " app: (2 bytes that are not text)\n(an entry of 99 bytes is omitted)\n",
		},
		"logs -u sshd.service -p 4 -b -1 -g error --after c0 --follow -o json": {
			want:   []proto.Message{&machinev1.JournalRequest{Units: []string{"sshd.service"}, MaxPriority: &urgent, Boot: "-1", Grep: "error", AfterCursor: "c0", Follow: true}},
			stdout: `"cursor":"c1"`,
		},
		"dmesg -n 2":                      {want: []proto.Message{&machinev1.DmesgRequest{Tail: 2}}, stdout: "[    1.500000] usb\n(the kernel has overwritten records here) [    0.000000] late\n"},
		"events --after 3 --stream s":     {want: []proto.Message{&machinev1.EventsRequest{AfterSequence: 3, StreamId: "s"}}, stdout: "(events before this one were lost) 4 " + local() + " unit failed: x.service\n"},
		"files list /etc --depth 2":       {want: []proto.Message{&machinev1.ListFilesRequest{Path: "/etc", Depth: 2}}, stdout: "drwxr-xr-x  1:2"},
		"files read /x --offset 1":        {want: []proto.Message{&machinev1.ReadFileRequest{Path: "/x", Offset: 1}}, stdout: "ID=\x01x\n", stderr: "/x has more bytes"},
		"files copy /etc --max-bytes 9":   {want: []proto.Message{&machinev1.CopyFilesRequest{Path: "/etc", MaxBytes: 9}}, stdout: "tar", stderr: "shadow is secret"},
		"files usage /var --depth 1":      {want: []proto.Message{&machinev1.DiskUsageRequest{Path: "/var", Depth: 1}}, stdout: "Not all files were counted."},
		"reboot --force":                  {want: []proto.Message{&machinev1.RebootRequest{IgnoreInhibitors: true}}, stdout: "The host reboots."},
		"shutdown":                        {want: []proto.Message{&machinev1.ShutdownRequest{}}, stdout: "The host switches itself off."},
		"unmount /srv/x --lazy --forget":  {want: []proto.Message{&machinev1.UnmountRequest{Where: "/srv/x", Lazy: true, Forget: true}}, stderr: "/srv/x is not mounted any more."},
		"shares":                          {want: []proto.Message{&machinev1.ListSharesRequest{}}, stdout: "/srv/x  nas:/x  nfs4  yes      no"},
		"holders /srv/x":                  {want: []proto.Message{&machinev1.ListHoldersRequest{Where: "/srv/x"}}, stdout: "Nobody uses it."},
		"mount nas:/x /srv/x --option ro": {want: []proto.Message{&machinev1.MountRequest{What: "nas:/x", Where: "/srv/x", Options: []string{"ro"}}}, stdout: "nas:/x is mounted on /srv/x by srv-x.mount."},
		"capture e0 --time 2s --snap-length 9": {
			want: []proto.Message{&machinev1.CaptureRequest{Interface: "e0", SnapLength: 9, MaxTime: durationpb.New(2 * time.Second)}}, stdout: "\xd4\xc3\xb2\xa1", stderr: "the kernel has dropped 5 packets",
		},
		"mount //n/x /srv/x --persistent --username ann --domain d --password-file " + secret: {
			want: []proto.Message{&machinev1.MountRequest{
				What: "//n/x", Where: "/srv/x", Persistent: true, Credentials: &machinev1.ShareCredentials{Username: "ann", Password: "geheim", Domain: "d"},
			}},
			stdout: "is mounted",
		},
	} {
		code, stdout, stderr := trident(t, append([]string{"host", "--host", "a"}, strings.Fields(args)...)...)
		got := c.asked()
		if code != 0 || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
			t.Errorf("%s: exit code %d\n%q\n%q", args, code, stdout, stderr)
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: requests %v, want %v", args, got, tt.want)
			continue
		}
		for i := range got {
			if !proto.Equal(got[i], tt.want[i]) {
				t.Errorf("%s: request %v, want %v", args, got[i], tt.want[i])
			}
		}
		if strings.Contains(stderr, "\x1b") {
			t.Errorf("%s: a text of the host acts on the terminal: %q", args, stderr)
		}
	}
}

func TestTheTimeAndTheFilterOfARequest(t *testing.T) {
	c := &controlled{}
	fleet(t, map[string]*clienttest.Config{"a": c.config()})
	before := time.Now()
	if code, _, stderr := trident(t, "host", "logs", "--host", "a", "--since", "1h"); code != 0 {
		t.Fatal(stderr)
	}
	since := c.asked()[0].(*machinev1.JournalRequest).GetSince().AsTime()
	if since.Before(before.Add(-time.Hour)) || since.After(time.Now().Add(-time.Hour)) {
		t.Errorf("--since 1h at %s begins at %s", before, since)
	}
	if code, _, stderr := trident(t, "host", "capture", "e0", "--host", "a", "--filter", "2\n40 0 0 12\n6 0 0 262144\n"); code != 0 {
		t.Fatal(stderr)
	}
	want := &machinev1.CaptureRequest{Interface: "e0", MaxTime: durationpb.New(time.Minute), Filter: []*machinev1.BpfInstruction{{Op: 40, K: 12}, {Op: 6, K: 262144}}}
	if got := c.asked()[0]; !proto.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A fault is found before the host is asked, or says which host has failed in doing what.
func TestFaultsOfCommandsThatHandleTheHost(t *testing.T) {
	c := &controlled{}
	fleet(t, map[string]*clienttest.Config{"a": c.config(), "old": {Version: "1"}})
	for args, want := range map[string]string{
		"capture e0 --host a --filter tcp":                                  "line 1 is not an instruction",
		"mount //n/x /srv/x --host a --username u --password-file /missing": "mount /srv/x: read --password-file",
		"logs --host old":                      "read the journal",
		"dmesg --host old":                     "read the log of the kernel",
		"events --host old":                    "read the events",
		"files list / --host old":              "list /",
		"files copy / --host old":              "copy /",
		"files usage / --host old":             "measure /",
		"service start x.service --host old":   "start x.service",
		"service restart x.service --host old": "restart x.service",
		"unmount /x --host old":                "unmount /x",
		"reboot --host old":                    "reboot the host",
	} {
		code, stdout, stderr := trident(t, append([]string{"host"}, strings.Fields(args)...)...)
		if code == 0 || stdout != "" || !strings.Contains(stderr, want) || len(c.asked()) != 0 {
			t.Errorf("%s: exit code %d\n%s%s", args, code, stdout, stderr)
		}
	}
}

// refusing is a host that refuses each mount in the words of the daemon.
type refusing struct {
	machinev1.UnimplementedMountServiceServer
}

func (refusing) Mount(_ context.Context, in *machinev1.MountRequest) (*machinev1.MountResponse, error) {
	return nil, status.Errorf(codes.AlreadyExists, "mount %s: /dev/sdb1 is mounted there", in.GetWhere())
}

func TestARefusedMountSaysOnceWhatFailed(t *testing.T) {
	fleet(t, map[string]*clienttest.Config{"a": {Control: clienttest.Control{Mounts: refusing{}}}})
	code, _, stderr := trident(t, "host", "mount", "nas:/x", "/Mnt/x", "--host", "a")
	if code == 0 || !strings.Contains(stderr, "mount /Mnt/x: /dev/sdb1 is mounted there") || strings.Count(stderr, "mount /Mnt/x") != 1 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestNamesOfUnitsAreCompleted(t *testing.T) {
	fleet(t, map[string]*clienttest.Config{"a": (&controlled{}).config()})
	t.Setenv("TRIDENT_HOST", "a")
	_, stdout, stderr := trident(t, "__complete", "host", "service", "stop", "")
	if !strings.Contains(stdout, "x.service\tAn example") {
		t.Errorf("%s%s", stdout, stderr)
	}
}
