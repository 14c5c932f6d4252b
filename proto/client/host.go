package client

import (
	"context"
	"math"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
	"github.com/trident-project/trident/proto/wire"
)

// Host has the verbs that service the host. The verbs of Client service Trident itself.
type Host struct{ c *Client }

// Host returns the verbs for the host.
func (c *Client) Host() Host { return Host{c} }

// A Part says whether a verb stages, finalizes, or does both.
type Part string

// The parts. Staging changes nothing that runs; finalizing puts into effect what is
// staged.
const (
	Everything   Part = ""
	StageOnly    Part = "stage"
	FinalizeOnly Part = "finalize"
)

// A RollbackKind restricts which rollback Rollback may begin.
type RollbackKind = tridentv1preview.ManualRollbackKind

// The kinds of rollbacks: a reboot into the other slot, or a change of the running host.
const (
	AnyRollback     = tridentv1preview.ManualRollbackKind_ANY_ROLLBACK_REQUESTED
	ABRollback      = tridentv1preview.ManualRollbackKind_AB_ROLLBACK_REQUESTED
	RuntimeRollback = tridentv1preview.ManualRollbackKind_RUNTIME_ROLLBACK_REQUESTED
)

// How says how a verb of Host services the host.
type How struct {
	Part Part
	// CallerReboots leaves a necessary reboot to the caller: the verb returns with
	// REBOOT_REQUIRED when only the reboot remains. Otherwise Trident reboots the host,
	// and the verb returns when the operation has ended after that.
	CallerReboots bool
	// Multiboot, of Install, keeps the other operating systems of the host bootable.
	Multiboot bool
	// BytesPerSecond and DataBudget, of StreamDisk, limit the rate and the total of the
	// download, in bytes; 0 is no limit. For other verbs the configuration has these
	// limits.
	BytesPerSecond, DataBudget int64
	// FetchTimeout, of StreamDisk, limits the time of each step that reads the image,
	// rounded up to whole seconds; 0 is no limit.
	FetchTimeout time.Duration

	// forgotten: the system that boots next does not know the operation.
	forgotten bool
}

func (h How) reboot() *tridentv1.RebootManagement {
	if h.CallerReboots {
		return &tridentv1.RebootManagement{Handling: tridentv1.RebootHandling_CALLER_HANDLES_REBOOT}
	}
	return &tridentv1.RebootManagement{Handling: tridentv1.RebootHandling_TRIDENT_HANDLES_REBOOT}
}

// Get returns the host's configuration, what is staged, and the possible rollbacks.
func (h Host) Get(ctx context.Context) (*hostv1.GetHostResponse, error) {
	return hostv1.NewHostServiceClient(h.c.Conn()).GetHost(ctx, &hostv1.GetHostRequest{})
}

// Validate returns all faults in the text of a configuration. Faults are not an error.
func (h Host) Validate(ctx context.Context, config *Config) (resp *hostv1.ValidateConfigResponse, err error) {
	err = h.judge(ctx, config, func(ctx context.Context, host hostv1.HostServiceClient, handle int64) error {
		req := &hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_Text{Text: config.Text}}
		if handle != 0 {
			req.Config = &hostv1.ValidateConfigRequest_ConfigHandle{ConfigHandle: handle}
		}
		resp, err = host.ValidateConfig(ctx, req)
		return err
	})
	return resp, err
}

// Plan returns what Update would do. It changes nothing. The daemon may read a whole
// image for it: if ctx has no deadline the bound is 30 minutes, or that of WithTimeout if
// longer.
func (h Host) Plan(ctx context.Context, config *Config) (resp *hostv1.PlanUpdateResponse, err error) {
	ctx, cancel := h.c.bounded(ctx, planTime)
	defer cancel()
	err = h.judge(ctx, config, func(ctx context.Context, host hostv1.HostServiceClient, handle int64) error {
		req := &hostv1.PlanUpdateRequest{Config: &hostv1.PlanUpdateRequest_Text{Text: config.Text}}
		if handle != 0 {
			req.Config = &hostv1.PlanUpdateRequest_ConfigHandle{ConfigHandle: handle}
		}
		resp, err = host.PlanUpdate(ctx, req)
		return err
	})
	return resp, err
}

// PlanInstall returns what Install would do to the disks, and what it would destroy
// there. It changes nothing, and has the deadline of Plan.
func (h Host) PlanInstall(ctx context.Context, config *Config) (resp *hostv1.PlanInstallResponse, err error) {
	ctx, cancel := h.c.bounded(ctx, planTime)
	defer cancel()
	err = h.judge(ctx, config, func(ctx context.Context, host hostv1.HostServiceClient, handle int64) error {
		req := &hostv1.PlanInstallRequest{Config: &hostv1.PlanInstallRequest_Text{Text: config.Text}}
		if handle != 0 {
			req.Config = &hostv1.PlanInstallRequest_ConfigHandle{ConfigHandle: handle}
		}
		resp, err = host.PlanInstall(ctx, req)
		return err
	})
	return resp, err
}

// PlanRebuild returns what RebuildRaid would do to the disks and arrays, and what it would
// destroy. It changes nothing. Without steps all arrays are whole.
func (h Host) PlanRebuild(ctx context.Context) (resp *hostv1.PlanRebuildResponse, err error) {
	err = h.c.unary(ctx, true, func(ctx context.Context, l *link) error {
		resp, err = hostv1.NewHostServiceClient(l.conn).PlanRebuild(ctx, &hostv1.PlanRebuildRequest{})
		return err
	})
	return resp, err
}

// RecoveryKey returns the recovery key that Trident has made for the encrypted volumes of an
// installation; "" is the newest one of this host. The error is of kind NotFound if the running
// system has no such key: it is only in the memory of the live system that installs. The key is
// a secret.
func (h Host) RecoveryKey(ctx context.Context, operationID string) (key []byte, err error) {
	err = h.c.unary(ctx, true, func(ctx context.Context, l *link) error {
		resp, err := hostv1.NewHostServiceClient(l.conn).GetRecoveryKey(ctx, &hostv1.GetRecoveryKeyRequest{OperationId: operationID})
		key = resp.GetKey()
		return err
	})
	return key, err
}

// judge calls a method that reads a configuration and changes nothing. handle is 0 if the
// call has to send the text.
func (h Host) judge(ctx context.Context, config *Config, call func(ctx context.Context, host hostv1.HostServiceClient, handle int64) error) error {
	return h.c.unary(ctx, true, func(ctx context.Context, l *link) error {
		handle, err := config.on(ctx, l, "")
		if err != nil {
			return err
		}
		return call(ctx, hostv1.NewHostServiceClient(l.conn), handle)
	})
}

// Update updates a provisioned host to a new configuration. With FinalizeOnly it ignores
// config. Events and errors are those of Watch.
func (h Host) Update(ctx context.Context, config *Config, how How, fn func(*Event)) (Outcome, error) {
	finalize := &tridentv1.FinalizeUpdateRequest{Reboot: how.reboot()}
	return h.service(ctx, how, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		client := tridentv1.NewUpdateServiceClient(l.conn)
		if how.Part == FinalizeOnly {
			return client.UpdateFinalize(ctx, finalize)
		}
		text, ctx, err := config.message(ctx, l, wire.UpdateConfigHandle)
		if err != nil {
			return nil, err
		}
		stage := &tridentv1.StageUpdateRequest{Config: text}
		if how.Part == StageOnly {
			return client.UpdateStage(ctx, stage)
		}
		return client.Update(ctx, &tridentv1.UpdateRequest{Stage: stage, Finalize: finalize})
	})
}

// Install installs a host by a configuration. With FinalizeOnly it ignores config. Events
// and errors are those of Watch.
func (h Host) Install(ctx context.Context, config *Config, how How, fn func(*Event)) (Outcome, error) {
	finalize := &tridentv1preview.FinalizeInstallRequest{Reboot: how.reboot()}
	return h.service(ctx, how, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		client := tridentv1preview.NewInstallServiceClient(l.conn)
		if how.Part == FinalizeOnly {
			return client.InstallFinalize(ctx, finalize)
		}
		text, ctx, err := config.message(ctx, l, wire.InstallConfigHandle)
		if err != nil {
			return nil, err
		}
		if how.Multiboot {
			if err := l.require(wire.InstallMultiboot); err != nil {
				return nil, err
			}
			ctx = metadata.AppendToOutgoingContext(ctx, wire.HeaderMultiboot, "true")
		}
		stage := &tridentv1preview.StageInstallRequest{Config: text}
		if how.Part == StageOnly {
			return client.InstallStage(ctx, stage)
		}
		return client.Install(ctx, &tridentv1preview.InstallRequest{Stage: stage, Finalize: finalize})
	})
}

// Rollback reverts the last update, if that update is of the given kind. Events and
// errors are those of Watch.
func (h Host) Rollback(ctx context.Context, kind RollbackKind, how How, fn func(*Event)) (Outcome, error) {
	finalize := &tridentv1preview.RollbackFinalizeRequest{Reboot: how.reboot()}
	return h.service(ctx, how, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		client := tridentv1preview.NewRollbackServiceClient(l.conn)
		switch how.Part {
		case StageOnly:
			return client.RollbackStage(ctx, &tridentv1preview.RollbackStageRequest{Kind: kind})
		case FinalizeOnly:
			return client.RollbackFinalize(ctx, finalize)
		}
		return client.Rollback(ctx, &tridentv1preview.RollbackRequest{Kind: kind, Finalize: finalize})
	})
}

// NextRollback returns the kind of the rollback that Rollback with kind would begin: "ab",
// "runtime" or "none".
func (h Host) NextRollback(ctx context.Context, kind RollbackKind) (string, error) {
	resp, err := h.rollbacks().CheckRollback(ctx, &tridentv1preview.CheckRollbackRequest{Kind: kind})
	switch resp.GetKind() {
	case tridentv1preview.CheckRollbackKind_AB_ROLLBACK_EXPECTED:
		return "ab", nil
	case tridentv1preview.CheckRollbackKind_RUNTIME_ROLLBACK_EXPECTED:
		return "runtime", nil
	}
	return "none", err
}

// RollbackTarget returns the Host Configuration of the next rollback; "" if there is none.
func (h Host) RollbackTarget(ctx context.Context) (string, error) {
	resp, err := h.rollbacks().GetRollbackTarget(ctx, &tridentv1preview.GetRollbackTargetRequest{})
	return resp.GetRollbackTarget(), err
}

// RollbackChain returns the states that the host can return to, in YAML, the next one first.
func (h Host) RollbackChain(ctx context.Context) ([]string, error) {
	resp, err := h.rollbacks().GetRollbackChain(ctx, &tridentv1preview.GetRollbackChainRequest{})
	return resp.GetRollbackChain(), err
}

func (h Host) rollbacks() tridentv1preview.RollbackServiceClient {
	return tridentv1preview.NewRollbackServiceClient(h.c.Conn())
}

// Commit keeps the system that is booted. If an operation from before the boot does so
// itself, the Outcome is of that operation, and fn gets its events since the boot. It has
// no parts. Events and errors are those of Watch.
func (h Host) Commit(ctx context.Context, how How, fn func(*Event)) (Outcome, error) {
	return h.service(ctx, how, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		return tridentv1.NewCommitServiceClient(l.conn).Commit(ctx, &tridentv1.CommitRequest{Reboot: how.reboot()})
	})
}

// StreamDisk writes a disk of the host from an image. hash is the SHA-384 of the image's
// metadata: "sha384:" and 96 hexadecimal digits. Empty accepts any, and the Outcome has
// the actual hash. It returns at the reboot, whoever reboots: the system in the image
// does not know the operation. It has no parts. Events and errors are those of Watch.
func (h Host) StreamDisk(ctx context.Context, url, hash string, how How, fn func(*Event)) (Outcome, error) {
	req := &tridentv1.StreamDiskRequest{ImageUrl: url, Reboot: how.reboot()}
	if hash != "" {
		req.ImageHash = &hash
	}
	how.forgotten = true
	limits := map[string]int64{wire.HeaderBytesPerSecond: how.BytesPerSecond, wire.HeaderDataBudget: how.DataBudget}
	return h.service(ctx, how, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		if how.FetchTimeout != 0 {
			if err := l.require(wire.FetchTimeout); err != nil {
				return nil, err
			}
			ctx = metadata.AppendToOutgoingContext(ctx, wire.HeaderFetchTimeout, strconv.FormatFloat(math.Ceil(how.FetchTimeout.Seconds()), 'f', 0, 64))
		}
		for header, bytes := range limits {
			if bytes == 0 {
				continue
			}
			if err := l.require(wire.StreamDiskLimits); err != nil {
				return nil, err
			}
			ctx = metadata.AppendToOutgoingContext(ctx, header, strconv.FormatInt(bytes, 10))
		}
		return tridentv1.NewStreamingServiceClient(l.conn).StreamDisk(ctx, req)
	})
}

// RebuildRaid adds new disks to arrays that lost some. Events and errors are those of
// Watch.
func (h Host) RebuildRaid(ctx context.Context, fn func(*Event)) (Outcome, error) {
	return h.service(ctx, How{}, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		return tridentv1preview.NewRebuildRaidServiceClient(l.conn).RebuildRaid(ctx, &tridentv1preview.RebuildRaidRequest{})
	})
}

// CheckRoot checks whether the host runs from the expected root file system. Events and
// errors are those of Watch.
func (h Host) CheckRoot(ctx context.Context, fn func(*Event)) (Outcome, error) {
	return h.service(ctx, How{}, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		return tridentv1preview.NewCommitServiceClient(l.conn).CheckRoot(ctx, &tridentv1preview.CheckRootRequest{})
	})
}

type servicingStream = grpc.ServerStreamingClient[tridentv1.ServicingResponse]
