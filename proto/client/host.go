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

// Host has the verbs for the host that Trident services; those of Client itself
// are for Trident.
type Host struct{ c *Client }

// Host returns the verbs for the host.
func (c *Client) Host() Host { return Host{c} }

// A Part of servicing can be done by itself.
type Part string

// The parts. Staging changes nothing that runs; finalizing puts into effect what
// is staged.
const (
	Everything   Part = ""
	StageOnly    Part = "stage"
	FinalizeOnly Part = "finalize"
)

// How says how far a verb of Host goes.
type How struct {
	Part Part
	// CallerReboots leaves a reboot that is needed to the caller: the verb returns
	// when everything else is done, with REBOOT_REQUIRED. Otherwise Trident
	// reboots, and the verb goes on after that until the operation has ended.
	CallerReboots bool
	// Multiboot, of Install, leaves what else can be booted on the host.
	Multiboot bool
	// BytesPerSecond and DataBudget, of StreamDisk, bound how fast the image may
	// come and what it may cost in all, in bytes; 0 is no limit. For the others the
	// configuration has them.
	BytesPerSecond, DataBudget int64
	// FetchTimeout, of StreamDisk, bounds how long each step that reads the image may
	// take, in whole seconds; 0 is no limit.
	FetchTimeout time.Duration

	// forgotten: what is booted then knows nothing of the operation.
	forgotten bool
}

func (h How) reboot() *tridentv1.RebootManagement {
	if h.CallerReboots {
		return &tridentv1.RebootManagement{Handling: tridentv1.RebootHandling_CALLER_HANDLES_REBOOT}
	}
	return &tridentv1.RebootManagement{Handling: tridentv1.RebootHandling_TRIDENT_HANDLES_REBOOT}
}

// Get says what the host runs, what it is about to run, and what it can go back to.
func (h Host) Get(ctx context.Context) (*hostv1.GetHostResponse, error) {
	return hostv1.NewHostServiceClient(h.c.Conn()).GetHost(ctx, &hostv1.GetHostRequest{})
}

// Validate finds everything that is wrong with a configuration by itself. That
// there is something is no error.
func (h Host) Validate(ctx context.Context, config *Config) (resp *hostv1.ValidateConfigResponse, err error) {
	err = h.c.unary(ctx, true, func(ctx context.Context, l *link) error {
		req := &hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_Text{Text: config.Text}}
		switch handle, err := config.on(ctx, l, ""); {
		case err != nil:
			return err
		case handle != 0:
			req.Config = &hostv1.ValidateConfigRequest_ConfigHandle{ConfigHandle: handle}
		}
		resp, err = hostv1.NewHostServiceClient(l.conn).ValidateConfig(ctx, req)
		return err
	})
	return resp, err
}

// Plan says what Update would be and do. It changes nothing. It may take as long as
// reading an image: without a deadline it has 30 minutes, or those of WithTimeout.
func (h Host) Plan(ctx context.Context, config *Config) (resp *hostv1.PlanUpdateResponse, err error) {
	ctx, cancel := h.c.planning(ctx)
	defer cancel()
	err = h.c.unary(ctx, true, func(ctx context.Context, l *link) error {
		req := &hostv1.PlanUpdateRequest{Config: &hostv1.PlanUpdateRequest_Text{Text: config.Text}}
		switch handle, err := config.on(ctx, l, ""); {
		case err != nil:
			return err
		case handle != 0:
			req.Config = &hostv1.PlanUpdateRequest_ConfigHandle{ConfigHandle: handle}
		}
		resp, err = hostv1.NewHostServiceClient(l.conn).PlanUpdate(ctx, req)
		return err
	})
	return resp, err
}

// PlanInstall says what Install would make of the disks, and destroy there. It
// changes nothing, and takes as long as Plan.
func (h Host) PlanInstall(ctx context.Context, config *Config) (resp *hostv1.PlanInstallResponse, err error) {
	ctx, cancel := h.c.planning(ctx)
	defer cancel()
	err = h.c.unary(ctx, true, func(ctx context.Context, l *link) error {
		req := &hostv1.PlanInstallRequest{Config: &hostv1.PlanInstallRequest_Text{Text: config.Text}}
		switch handle, err := config.on(ctx, l, ""); {
		case err != nil:
			return err
		case handle != 0:
			req.Config = &hostv1.PlanInstallRequest_ConfigHandle{ConfigHandle: handle}
		}
		resp, err = hostv1.NewHostServiceClient(l.conn).PlanInstall(ctx, req)
		return err
	})
	return resp, err
}

// Update brings a configuration into effect on a host that has one; with
// FinalizeOnly config is not used. What it hands to fn and returns is as in Watch,
// and the outcome.
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

// Install makes a host what the configuration says; with FinalizeOnly config is
// not used. What it hands to fn and returns is as in Update.
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

// Rollback undoes the last update, if it is of the kind that is asked for. What
// it hands to fn and returns is as in Update.
func (h Host) Rollback(ctx context.Context, kind tridentv1preview.ManualRollbackKind, how How, fn func(*Event)) (Outcome, error) {
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

// Commit confirms what was booted. What leads to that mostly began before the
// boot: the operation is that one then, and its events are those since the boot.
// What it hands to fn and returns is as in Update; there are no parts.
func (h Host) Commit(ctx context.Context, how How, fn func(*Event)) (Outcome, error) {
	return h.service(ctx, how, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		return tridentv1.NewCommitServiceClient(l.conn).Commit(ctx, &tridentv1.CommitRequest{Reboot: how.reboot()})
	})
}

// StreamDisk writes a disk of the host from an image. hash is that of the image's
// metadata, sha384: and 96 hexadecimal digits; empty is any, and then the outcome
// says which it was. The verb ends with the reboot, whoever does it: what is booted
// then is of the image, and knows of no operation. For the rest, what it hands to
// fn and returns is as in Update; there are no parts.
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

// RebuildRaid puts new disks into arrays that lost some. What it hands to fn and
// returns is as in Update.
func (h Host) RebuildRaid(ctx context.Context, fn func(*Event)) (Outcome, error) {
	return h.service(ctx, How{}, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		return tridentv1preview.NewRebuildRaidServiceClient(l.conn).RebuildRaid(ctx, &tridentv1preview.RebuildRaidRequest{})
	})
}

// CheckRoot says whether the host runs from the root file system that it should.
// What it hands to fn and returns is as in Update.
func (h Host) CheckRoot(ctx context.Context, fn func(*Event)) (Outcome, error) {
	return h.service(ctx, How{}, fn, func(ctx context.Context, l *link) (servicingStream, error) {
		return tridentv1preview.NewCommitServiceClient(l.conn).CheckRoot(ctx, &tridentv1preview.CheckRootRequest{})
	})
}

type servicingStream = grpc.ServerStreamingClient[tridentv1.ServicingResponse]
