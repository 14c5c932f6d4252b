package api

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
	"github.com/trident-project/trident/proto/wire"
)

// installed is what an installation asks for.
func installed(t *testing.T, ctx context.Context, f *fixture, config *tridentv1.HostConfiguration) servicing.InstallRequest {
	t.Helper()
	f.host.step = talks
	read1(tridentv1preview.NewInstallServiceClient(f.conn).Install(ctx, &tridentv1preview.InstallRequest{
		Stage: &tridentv1preview.StageInstallRequest{Config: config}, Finalize: &tridentv1preview.FinalizeInstallRequest{},
	})).completed(t)
	asked, ok := f.host.asked[0].(servicing.InstallRequest)
	if !ok || !asked.Stage || !asked.Finalize || asked.CallerReboots || asked.Config == nil {
		t.Errorf("asked for %+v", f.host.asked)
	}
	return asked
}

func installByHandle(t *testing.T, f *fixture) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderConfigHandle, strconv.FormatInt(openConfig(t, f.conn, specOne), 10))
	if got := installed(t, ctx, f, nil); len(got.Config.Spec().OS.Sysexts) != 1 {
		t.Errorf("asked for %+v", f.host.asked)
	}
}

func TestAnInstallationIsStagedByItself(t *testing.T) {
	f := newFixture(t)
	f.host.step, f.host.outcome = talks, servicing.Outcome{Kind: servicing.CleanInstall, ImageSHA384: strings.Repeat("ab", 48)}
	got := read1(tridentv1preview.NewInstallServiceClient(f.conn).InstallStage(t.Context(), &tridentv1preview.StageInstallRequest{Config: configOf("{}")})).completed(t)
	hash := "sha384:" + strings.Repeat("ab", 48)
	want := &tridentv1.Completed{
		Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: tridentv1.RebootStatus_REBOOT_NOT_REQUIRED, ImageHash: &hash,
		ServicingKind: tridentv1.ServicingKind_SERVICING_KIND_CLEAN_INSTALL.Enum(),
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("completed (-want +got):\n%s", diff)
	}
	if asked, ok := f.host.asked[0].(servicing.InstallRequest); !ok || !asked.Stage || asked.Finalize || asked.Multiboot {
		t.Errorf("asked for %+v", f.host.asked)
	}
}

func TestAnInstallationThatCannotBeRequestedNamesTheField(t *testing.T) {
	f := newFixture(t)
	client := tridentv1preview.NewInstallServiceClient(f.conn)
	stage, finalize := &tridentv1preview.StageInstallRequest{}, &tridentv1preview.FinalizeInstallRequest{}
	multiboot := metadata.AppendToOutgoingContext(t.Context(), wire.HeaderMultiboot, "perhaps")
	wrong := &tridentv1.RebootManagement{Handling: 99}
	for name, err := range map[string]error{
		"stage":        read1(client.Install(t.Context(), &tridentv1preview.InstallRequest{Finalize: finalize})).err,
		"finalize":     read1(client.Install(t.Context(), &tridentv1preview.InstallRequest{Stage: stage})).err,
		"stage.config": read1(client.Install(t.Context(), &tridentv1preview.InstallRequest{Stage: stage, Finalize: finalize})).err,
		"config":       read1(client.InstallStage(t.Context(), stage)).err,
		"multiboot":    read1(client.InstallStage(multiboot, &tridentv1preview.StageInstallRequest{Config: configOf("{}")})).err,
		"reboot":       read1(client.Install(t.Context(), &tridentv1preview.InstallRequest{Stage: stage, Finalize: &tridentv1preview.FinalizeInstallRequest{Reboot: wrong}})).err,
		"to handle":    read1(client.InstallFinalize(t.Context(), &tridentv1preview.FinalizeInstallRequest{Reboot: wrong})).err,
	} {
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(f.host.asked) != 0 {
		t.Errorf("asked for %v", f.host.asked)
	}
}

// streamed is what writing a disk asks for, and how it ends.
func streamed(t *testing.T, f *fixture, req *tridentv1.StreamDiskRequest, headers ...string) (asked []any, end *tridentv1.Completed) {
	t.Helper()
	f.host.step, f.host.asked = talks, nil
	ctx := metadata.AppendToOutgoingContext(t.Context(), headers...)
	got := read1(tridentv1.NewStreamingServiceClient(f.conn).StreamDisk(ctx, req))
	return f.host.asked, got.completed(t)
}

func streamedWithin(t *testing.T, f *fixture) {
	t.Helper()
	asked, _ := streamed(t, f, &tridentv1.StreamDiskRequest{ImageUrl: "https://x/y.cosi"}, wire.HeaderBytesPerSecond, "1000", wire.HeaderDataBudget, "2000")
	want := servicing.StreamRequest{URL: "https://x/y.cosi", SHA384: servicing.Ignored, BytesPerSecond: 1000, DataBudget: 2000}
	if diff := cmp.Diff([]any{want}, asked); diff != "" {
		t.Error(diff)
	}
}

func TestTheLimitsOfStreamDiskAreNumbersOfBytes(t *testing.T) {
	f := newFixture(t)
	client := tridentv1.NewStreamingServiceClient(f.conn)
	for _, header := range []string{wire.HeaderBytesPerSecond, wire.HeaderDataBudget} {
		for _, given := range [][]string{{header, ""}, {header, "0"}, {header, "-1"}, {header, "1M"}, {header, "99999999999999999999"}, {header, "1", header, "2"}} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), given...)
			err := read1(client.StreamDisk(ctx, &tridentv1.StreamDiskRequest{ImageUrl: "https://x/y.cosi"})).err
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), header) {
				t.Errorf("%v: %v", given, err)
			}
		}
	}
	if len(f.host.asked) != 0 {
		t.Errorf("asked for %v", f.host.asked)
	}
}

func TestTheHashOfADiskImage(t *testing.T) {
	hash := strings.Repeat("0a", 48)
	for text, want := range map[string]string{
		"-": "ignored", "ignored": "ignored", "sha384:" + hash: hash, "sha384:" + strings.ToUpper(hash): hash,
		"sha256:" + hash: "", "": "", hash: "", "sha384:" + hash[2:]: "", "sha384:" + hash + "0a": "", "sha384:" + hash[2:] + "zz": "", "SHA384:" + hash: "",
	} {
		t.Run("hash "+text, func(t *testing.T) {
			req := &tridentv1.StreamDiskRequest{ImageUrl: "https://x/y.cosi"}
			if text != "-" {
				req.ImageHash = &text
			}
			asked, end := streamed(t, newFixture(t), req)
			if want == "" {
				if len(asked) != 0 || end.GetError().GetSubkind() != "unsupported-hash-kind" || end.GetError().GetKind() != tridentv1.TridentErrorKind_INVALID_INPUT_ERROR {
					t.Errorf("asked for %v, completed %v", asked, end)
				}
				return
			}
			if diff := cmp.Diff([]any{servicing.StreamRequest{URL: "https://x/y.cosi", SHA384: want}}, asked); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnInvalidImageURLIsRefusedWithoutItsText(t *testing.T) {
	f := newFixture(t)
	client := tridentv1.NewStreamingServiceClient(f.conn)
	for _, text := range []string{"", "/srv/secret.cosi", "https://user:secret@x:port/y", "\x00secret:"} {
		err := read1(client.StreamDisk(t.Context(), &tridentv1.StreamDiskRequest{ImageUrl: text})).err
		if status.Code(err) != codes.InvalidArgument || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestThePlanOfAnInstallationHasTextAndFields(t *testing.T) {
	f := newFixture(t)
	f.host.plan.Storage = &storage.Description{
		For: storage.Install, Slot: slot.A,
		Disks: []storage.DiskPlan{{
			ID: "os", Device: "/dev/disk/by-id/x", Path: "/dev/vda", Model: "M\xff", Serial: "S", Size: 10, SectorSize: 512, Removable: true, UUID: "u",
			Partitions: []storage.PartitionPlan{{
				ID: "root-a", Action: storage.Create, Number: 2, Path: "/dev/vda2", Offset: 3, Size: 4, Grown: true, Type: "root", UUID: "v", Label: "l",
			}},
			Destroys: []storage.Loss{{What: "partition", Path: "/dev/vda1", Size: 5, Label: "old", UUID: "w", Content: "ext4"}},
		}},
		Layers: []storage.Layer{
			{ID: "root-a", Kind: storage.LayerArray, Members: []string{"r1", "r2"}, Action: storage.Create, Path: "/dev/md/r", Name: "r", Level: "raid1", UUID: "z", Size: 6},
			{ID: "root", Kind: storage.LayerPair, Members: []string{"root-a", "root-b"}},
		},
		Mounts:  []storage.Mount{{ID: "root", Source: "image", Type: "ext4", At: "/"}},
		Formats: []storage.Format{{ID: "swap", Path: "/dev/vda3", Type: "swap", UUID: "y", Mount: "none"}},
	}
	f.host.plan.Steps = []servicing.PlannedStep{{Name: "reboot", Effects: []servicing.Effect{{Kind: "reboot", Text: "reboot the host"}}}}
	got, err := hostv1.NewHostServiceClient(f.conn).PlanInstall(t.Context(), &hostv1.PlanInstallRequest{
		Config: &hostv1.PlanInstallRequest_ConfigHandle{ConfigHandle: openConfig(t, f.conn, specOne)},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &hostv1.PlanInstallResponse{
		Text:  strings.ToValidUTF8(f.host.plan.String(), "?"),
		Steps: []*hostv1.PlannedStep{{Name: "reboot", Actions: []*hostv1.Action{{Kind: "reboot", Message: "reboot the host"}}}},
		Storage: &hostv1.StoragePlan{
			Purpose: "install", Slot: "volume-a",
			Disks: []*hostv1.DiskPlan{{
				Id: "os", Device: "/dev/disk/by-id/x", Path: "/dev/vda", Model: "M?", Serial: "S", Size: 10, SectorSize: 512, Removable: true, Uuid: "u",
				Partitions: []*hostv1.PartitionPlan{{
					Id: "root-a", Action: "create", Number: 2, Path: "/dev/vda2", Offset: 3, Size: 4, Grown: true, Type: "root", Uuid: "v", Label: "l",
				}},
				Destroys: []*hostv1.Loss{{What: "partition", Path: "/dev/vda1", Size: 5, Label: "old", Uuid: "w", Content: "ext4"}},
			}},
			Layers: []*hostv1.Layer{
				{Id: "root-a", Kind: "array", Members: []string{"r1", "r2"}, Action: "create", Path: "/dev/md/r", Name: "r", Level: "raid1", Uuid: "z", Size: 6},
				{Id: "root", Kind: "ab-volume", Members: []string{"root-a", "root-b"}},
			},
			Mounts:  []*hostv1.Mount{{Id: "root", Source: "image", Type: "ext4", At: "/"}},
			Formats: []*hostv1.Format{{Id: "swap", Path: "/dev/vda3", Type: "swap", Uuid: "y", Mount: "none"}},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(f.host.asked) != 1 {
		t.Errorf("asked for %v", f.host.asked)
	}
	text := func(config string) *hostv1.PlanInstallRequest {
		return &hostv1.PlanInstallRequest{Config: &hostv1.PlanInstallRequest_Text{Text: config}}
	}
	if _, err := hostv1.NewHostServiceClient(f.conn).PlanInstall(t.Context(), text(faulty)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a faulty one: %v", err)
	}
	f.host.refuse = errkind.Errorf(errkind.Precondition, "the disk is in use")
	if _, err := hostv1.NewHostServiceClient(f.conn).PlanInstall(t.Context(), text("{}")); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a host that cannot have it: %v", err)
	}
	if _, busy := f.runner.Active(); busy {
		t.Error("a plan has begun an operation")
	}
}

func TestThePlanOfARebuildIsOnTheWire(t *testing.T) {
	f := newFixture(t)
	host := hostv1.NewHostServiceClient(f.conn)
	got, err := host.PlanRebuild(t.Context(), &hostv1.PlanRebuildRequest{})
	if err != nil || !strings.HasPrefix(got.GetText(), "All arrays are whole") || len(got.GetSteps()) > 0 {
		t.Errorf("whole arrays: %v, %v", got, err)
	}
	f.host.plan = servicing.Plan{
		Kind: "rebuild-raid", Warnings: []string{"a member is missing"},
		Steps:   []servicing.PlannedStep{{Name: "add", Effects: []servicing.Effect{{Kind: "add-member", Object: "b", Text: "add b"}}}},
		Storage: &storage.Description{For: "rebuild", Disks: []storage.DiskPlan{{ID: "two", Destroys: []storage.Loss{{What: "partition", Path: "/dev/sdb1"}}}}},
	}
	got, err = host.PlanRebuild(t.Context(), &hostv1.PlanRebuildRequest{})
	if err != nil || got.GetSteps()[0].GetActions()[0].GetObject() != "b" || got.GetDisks()[0].GetDestroys()[0].GetPath() != "/dev/sdb1" ||
		len(got.GetWarnings()) != 1 || !strings.Contains(got.GetText(), "add b") {
		t.Errorf("%v, %v", got, err)
	}
	f.host.refuse = errkind.Errorf(errkind.Precondition, "no member survives")
	if _, err := host.PlanRebuild(t.Context(), &hostv1.PlanRebuildRequest{}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("an array that cannot be rebuilt: %v", err)
	}
}

func TestTheRecoveryKeyIsGivenToRoot(t *testing.T) {
	f := newFixture(t)
	host := hostv1.NewHostServiceClient(f.conn)
	got, err := host.GetRecoveryKey(t.Context(), &hostv1.GetRecoveryKeyRequest{OperationId: "one"})
	if err != nil || got.GetOperationId() != "one" || string(got.GetKey()) != "key of one" {
		t.Errorf("%v, %v", got, err)
	}
	if rule := access()[hostv1.HostService_GetRecoveryKey_FullMethodName]; rule.may != root || rule.worksWithoutHost {
		t.Errorf("the rule of the call is %+v", rule)
	}
	f.host.refuse = errkind.Errorf(errkind.NotFound, "there is none")
	if _, err := host.GetRecoveryKey(t.Context(), &hostv1.GetRecoveryKeyRequest{}); status.Code(err) != codes.NotFound {
		t.Errorf("no key: %v", err)
	}
}

func TestExtensionsThatTheImageCarriesAreReported(t *testing.T) {
	f := newFixture(t)
	f.host.carried = []servicing.CarriedExtension{{Class: "confext", Path: "/var/lib/confexts/a.raw", SHA384: "ab"}}
	got, err := hostv1.NewHostServiceClient(f.conn).GetHost(t.Context(), &hostv1.GetHostRequest{})
	want := []*hostv1.ActiveExtension{{Kind: "confext", Path: "/var/lib/confexts/a.raw", Sha384: "ab", Carried: true}}
	if diff := cmp.Diff(want, got.GetExtensions(), protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("%v: -want +got:\n%s", err, diff)
	}
}
