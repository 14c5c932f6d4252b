package main

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/grpc"

	handles "example.com/foreign/stubs/trident/handles/v1"
	host "example.com/foreign/stubs/trident/host/v1"
	machine "example.com/foreign/stubs/trident/machine/v1"
	operations "example.com/foreign/stubs/trident/operations/v1"
	self "example.com/foreign/stubs/trident/self/v1"
	setup "example.com/foreign/stubs/trident/setup/v1"
)

// own calls the methods of Trident's own services.
func own(conn grpc.ClientConnInterface) []call {
	ops, me := operations.NewOperationsServiceClient(conn), self.NewSelfServiceClient(conn)
	h, here := handles.NewHandleServiceClient(conn), host.NewHostServiceClient(conn)
	running := machine.NewSystemServiceClient(conn)
	mounts := machine.NewMountServiceClient(conn)
	units, logs := machine.NewUnitServiceClient(conn), machine.NewLogServiceClient(conn)
	files, power := machine.NewFileServiceClient(conn), machine.NewPowerServiceClient(conn)
	reset := machine.NewResetServiceClient(conn)
	text := "os: {}\n"
	nowhere := &self.Source{From: &self.Source_Path{Path: "/nowhere.raw"}}
	const gone = "PHASE_UNDONE NOT_FOUND"
	var handle int64 // of the configuration
	var operation string
	return []call{
		{method: "trident.setup.v1.SetupService/Handshake", want: "OK",
			do: unary(setup.NewSetupServiceClient(conn).Handshake, &setup.HandshakeRequest{ClientName: "foreign"}, ok)},

		{method: "trident.handles.v1.HandleService/OpenConfig", want: "OK", do: func(ctx context.Context) (_ string, err error) {
			handle, err = openConfig(ctx, h, text)
			return "OK", err
		}},
		{method: "trident.host.v1.HostService/ValidateConfig", want: "true", do: func(ctx context.Context) (string, error) {
			resp, err := here.ValidateConfig(ctx, &host.ValidateConfigRequest{Config: &host.ValidateConfigRequest_ConfigHandle{ConfigHandle: handle}})
			return yes(resp.GetValid()), err
		}},
		{method: "trident.host.v1.HostService/PlanUpdate", want: "SERVICING_KIND_NONE_REQUIRED",
			do: unary(here.PlanUpdate, &host.PlanUpdateRequest{Config: &host.PlanUpdateRequest_Text{Text: text}},
				func(r *host.PlanUpdateResponse) string { return r.GetKind().String() })},
		{method: "trident.host.v1.HostService/PlanInstall", want: invalid,
			do: unary(here.PlanInstall, &host.PlanInstallRequest{Config: &host.PlanInstallRequest_Text{Text: text}}, ok)},
		{method: "trident.host.v1.HostService/PlanRebuild", want: precondition, do: unary(here.PlanRebuild, &host.PlanRebuildRequest{}, ok)},
		{method: "trident.host.v1.HostService/GetRecoveryKey", want: notFound, do: unary(here.GetRecoveryKey, &host.GetRecoveryKeyRequest{}, ok)},
		{method: "trident.host.v1.HostService/GetHost", want: "HOST_PHASE_FRESH", host: "HOST_PHASE_SETTLED",
			do: unary(here.GetHost, &host.GetHostRequest{}, func(r *host.GetHostResponse) string { return r.GetPhase().String() })},
		{method: "trident.machine.v1.SystemService/GetVersion", want: "OK", do: unary(running.GetVersion, &machine.GetVersionRequest{}, ok)},
		{method: "trident.machine.v1.SystemService/GetUptime", want: "OK", do: unary(running.GetUptime, &machine.GetUptimeRequest{}, ok)},
		{method: "trident.machine.v1.SystemService/GetLoad", want: "OK", do: unary(running.GetLoad, &machine.GetLoadRequest{}, ok)},
		{method: "trident.machine.v1.SystemService/GetMemory", want: "OK", do: unary(running.GetMemory, &machine.GetMemoryRequest{}, ok)},
		{method: "trident.machine.v1.SystemService/GetCpus", want: "OK", do: unary(running.GetCpus, &machine.GetCpusRequest{}, ok)},
		{method: "trident.machine.v1.SystemService/GetStat", want: "OK", do: unary(running.GetStat, &machine.GetStatRequest{}, ok)},
		{method: "trident.machine.v1.SystemService/ListDisks", want: "OK", do: unary(running.ListDisks, &machine.ListDisksRequest{}, ok)},
		{method: "trident.machine.v1.SystemService/ListMounts", want: "OK", do: unary(running.ListMounts, &machine.ListMountsRequest{}, ok)},
		{method: "trident.machine.v1.SystemService/ListNetworkDevices", want: "OK", do: unary(running.ListNetworkDevices, &machine.ListNetworkDevicesRequest{}, ok)},
		{method: "trident.machine.v1.SystemService/GetArguments", want: "1", do: unary(running.GetArguments, &machine.GetArgumentsRequest{Pids: []int32{1}},
			func(r *machine.GetArgumentsResponse) string { return strconv.Itoa(len(r.GetProcesses())) })},
		{method: "trident.machine.v1.SystemService/ListProcesses", want: "true", do: func(ctx context.Context) (string, error) {
			stream, err := running.ListProcesses(ctx, &machine.ListProcessesRequest{})
			if err != nil {
				return "", err
			}
			n := 0
			_, err = drain(stream.Recv, func(r *machine.ListProcessesResponse) error { n += len(r.GetProcesses()); return nil })
			return yes(n > 0), err
		}},
		{method: "trident.machine.v1.SystemService/ListSockets", want: "true", do: func(ctx context.Context) (string, error) {
			stream, err := running.ListSockets(ctx, &machine.ListSocketsRequest{Protocols: []machine.SocketProtocol{machine.SocketProtocol_SOCKET_PROTOCOL_UNIX}})
			if err != nil {
				return "", err
			}
			n := 0
			_, err = drain(stream.Recv, func(r *machine.ListSocketsResponse) error { n += len(r.GetSockets()); return nil })
			return yes(n > 0), err
		}},
		{method: "trident.handles.v1.HandleService/Close", want: "OK", do: func(ctx context.Context) (string, error) {
			resp, err := h.Close(ctx, &handles.CloseRequest{Handle: handle})
			return ok(resp), err
		}},
		{method: "trident.handles.v1.HandleService/OpenImage", want: notFound, do: func(ctx context.Context) (string, error) {
			stream, err := h.OpenImage(ctx)
			if err != nil {
				return "", err
			}
			_ = stream.Send(&handles.OpenImageRequest{Part: &handles.OpenImageRequest_Start_{Start: &handles.OpenImageRequest_Start{
				Kind: handles.ImageKind_IMAGE_KIND_SYSEXT, From: &handles.OpenImageRequest_Start_Path{Path: "/nowhere.raw"},
			}}}) // what is wrong comes with the answer
			resp, err := stream.CloseAndRecv()
			return fmt.Sprint(resp.GetImageHandle()), err
		}},

		{method: "trident.operations.v1.OperationsService/List", want: "true", do: func(ctx context.Context) (string, error) {
			resp, err := ops.List(ctx, &operations.ListRequest{})
			if len(resp.GetOperations()) > 0 {
				operation = resp.GetOperations()[0].GetId()
			}
			return yes(operation != ""), err
		}},
		{method: "trident.operations.v1.OperationsService/Get", want: "true", do: func(ctx context.Context) (string, error) {
			resp, err := ops.Get(ctx, &operations.GetRequest{Id: operation})
			return yes(resp.GetOperation().GetId() == operation), err
		}},
		{method: "trident.operations.v1.OperationsService/Watch", want: "OK after events: true", do: func(ctx context.Context) (string, error) {
			return events(ops.Watch, &operations.WatchRequest{Id: operation})(ctx)
		}},
		{method: "trident.operations.v1.OperationsService/Cancel", want: precondition, do: func(ctx context.Context) (string, error) {
			return unary(ops.Cancel, &operations.CancelRequest{Id: operation}, ok)(ctx)
		}},

		{method: "trident.operations.v1.OperationsService/Continue", want: precondition, do: func(ctx context.Context) (string, error) {
			return unary(ops.Continue, &operations.ContinueRequest{Id: operation}, ok)(ctx)
		}},
		{method: "trident.self.v1.SelfService/GetStatus", want: "true",
			do: unary(me.GetStatus, &self.GetStatusRequest{}, func(r *self.GetStatusResponse) string { return yes(r.GetRunningVersion() != "") })},
		{method: "trident.self.v1.SelfService/History", want: "0",
			do: unary(me.History, &self.HistoryRequest{}, func(r *self.HistoryResponse) string { return strconv.Itoa(len(r.GetEntries())) })},
		{method: "trident.self.v1.SelfService/Stage", want: gone, do: func(ctx context.Context) (string, error) {
			stream, err := me.Stage(ctx)
			if err != nil {
				return "", err
			}
			_ = stream.Send(&self.StageRequest{Part: &self.StageRequest_Start_{Start: &self.StageRequest_Start{Source: nowhere}}})
			var last string
			_, err = drain(stream.Recv, func(r *self.StageResponse) error { last = ended(r.GetEvent()); return nil })
			return last, err
		}},
		{method: "trident.self.v1.SelfService/Upgrade", want: gone, do: func(ctx context.Context) (string, error) {
			mayTakeUsr := &self.Trial{AllowReadOnlyUsr: true} // hosts are asked before images are fetched
			stream, err := me.Upgrade(ctx)
			if err != nil {
				return "", err
			}
			_ = stream.Send(&self.UpgradeRequest{Part: &self.UpgradeRequest_Start_{Start: &self.UpgradeRequest_Start{Source: nowhere, Trial: mayTakeUsr}}})
			var last string
			_, err = drain(stream.Recv, func(r *self.UpgradeResponse) error { last = ended(r.GetEvent()); return nil })
			return last, err
		}},
		{method: "trident.self.v1.SelfService/Activate", want: notFound, do: events(me.Activate, &self.ActivateRequest{Version: "9.9.9"})},
		{method: "trident.self.v1.SelfService/Rollback", want: precondition, do: events(me.Rollback, &self.RollbackRequest{})},
		{method: "trident.self.v1.SelfService/Unblock", want: notFound, do: unary(me.Unblock, &self.UnblockRequest{Version: "9.9.9"}, ok)},
		{method: "trident.self.v1.SelfService/CheckUpdates", want: "REASON_KIND_NO_FEED",
			do: unary(me.CheckUpdates, &self.CheckUpdatesRequest{}, func(r *self.CheckUpdatesResponse) string { return r.GetReasons()[0].GetKind().String() })},
		{method: "trident.self.v1.SelfService/SetPolicy", want: "beta",
			do: unary(me.SetPolicy, &self.SetPolicyRequest{Policy: &self.Policy{Channel: "beta"}, Set: []string{"channel"}}, func(r *self.SetPolicyResponse) string { return r.GetPolicy().GetChannel() })},
		{method: "trident.self.v1.SelfService/GetPolicy", want: "beta",
			do: unary(me.GetPolicy, &self.GetPolicyRequest{}, func(r *self.GetPolicyResponse) string { return r.GetPolicy().GetChannel() })},
		{method: "trident.machine.v1.UnitService/ListUnits", want: invalid,
			do: unary(units.ListUnits, &machine.ListUnitsRequest{Patterns: []string{""}}, ok)},
		{method: "trident.machine.v1.UnitService/ShowUnit", want: invalid, do: unary(units.ShowUnit, &machine.ShowUnitRequest{}, ok)},
		{method: "trident.machine.v1.UnitService/StartUnit", want: invalid, do: unary(units.StartUnit, &machine.StartUnitRequest{}, ok)},
		{method: "trident.machine.v1.UnitService/StopUnit", want: invalid, do: unary(units.StopUnit, &machine.StopUnitRequest{}, ok)},
		{method: "trident.machine.v1.UnitService/RestartUnit", want: invalid, do: unary(units.RestartUnit, &machine.RestartUnitRequest{}, ok)},
		{method: "trident.machine.v1.LogService/Journal", want: invalid, do: func(ctx context.Context) (string, error) {
			stream, err := logs.Journal(ctx, &machine.JournalRequest{Tail: -1})
			return received(stream, err)
		}},
		{method: "trident.machine.v1.LogService/Dmesg", want: invalid, do: func(ctx context.Context) (string, error) {
			stream, err := logs.Dmesg(ctx, &machine.DmesgRequest{Tail: -1})
			return received(stream, err)
		}},
		{method: "trident.machine.v1.LogService/Events", want: "OK", do: func(ctx context.Context) (string, error) {
			stream, err := logs.Events(ctx, &machine.EventsRequest{})
			return received(stream, err)
		}},
		{method: "trident.machine.v1.FileService/ListFiles", want: invalid, do: func(ctx context.Context) (string, error) {
			stream, err := files.ListFiles(ctx, &machine.ListFilesRequest{})
			return received(stream, err)
		}},
		{method: "trident.machine.v1.FileService/StatFile", want: invalid, do: unary(files.StatFile, &machine.StatFileRequest{}, ok)},
		{method: "trident.machine.v1.FileService/ReadFile", want: invalid, do: func(ctx context.Context) (string, error) {
			stream, err := files.ReadFile(ctx, &machine.ReadFileRequest{})
			return received(stream, err)
		}},
		{method: "trident.machine.v1.FileService/CopyFiles", want: invalid, do: func(ctx context.Context) (string, error) {
			stream, err := files.CopyFiles(ctx, &machine.CopyFilesRequest{})
			return received(stream, err)
		}},
		{method: "trident.machine.v1.FileService/DiskUsage", want: invalid, do: unary(files.DiskUsage, &machine.DiskUsageRequest{}, ok)},
		{method: "trident.machine.v1.CaptureService/Capture", want: invalid, do: func(ctx context.Context) (string, error) {
			stream, err := machine.NewCaptureServiceClient(conn).Capture(ctx, &machine.CaptureRequest{})
			return received(stream, err)
		}},
		{method: "trident.machine.v1.MountService/Mount", want: "FailedPrecondition FORBIDDEN", do: unary(mounts.Mount, &machine.MountRequest{What: "/dev/sda", Where: "/usr"}, ok)},
		{method: "trident.machine.v1.MountService/Unmount", want: "FailedPrecondition FORBIDDEN", do: unary(mounts.Unmount, &machine.UnmountRequest{Where: "/usr"}, ok)},
		{method: "trident.machine.v1.MountService/ListShares", want: unsupported, host: "OK", do: unary(mounts.ListShares, &machine.ListSharesRequest{}, ok)},
		{method: "trident.machine.v1.MountService/ListHolders", want: unsupported, host: notFound, do: unary(mounts.ListHolders, &machine.ListHoldersRequest{Where: "/no/mount"}, ok)},
		{method: "trident.machine.v1.PowerService/Reboot", want: unsupported, endsHost: true, do: unary(power.Reboot, &machine.RebootRequest{}, ok)},
		{method: "trident.machine.v1.PowerService/Shutdown", want: unsupported, endsHost: true, do: unary(power.Shutdown, &machine.ShutdownRequest{}, ok)},
		{method: "trident.machine.v1.ResetService/PlanReset", want: "OK", do: unary(reset.PlanReset, &machine.PlanResetRequest{}, ok)},
		{method: "trident.machine.v1.ResetService/Reset", want: invalid, do: func(ctx context.Context) (string, error) {
			stream, err := reset.Reset(ctx, &machine.ResetRequest{})
			return received(stream, err)
		}},
		{method: "trident.self.v1.SelfService/Remove", want: notFound, do: unary(me.Remove, &self.RemoveRequest{Version: "9.9.9"}, ok)},
	}
}

// received returns OK if the first message of a stream comes.
func received[M any](stream grpc.ServerStreamingClient[M], err error) (string, error) {
	if err == nil {
		_, err = stream.Recv()
	}
	return "OK", err
}

// ended is how an operation stands after an event.
func ended(e *operations.Event) string {
	return e.GetPhase().String() + " " + e.GetChange().GetFailure().GetReason()
}

// openConfig sends a configuration in two pieces.
func openConfig(ctx context.Context, h handles.HandleServiceClient, text string) (int64, error) {
	stream, err := h.OpenConfig(ctx)
	if err != nil {
		return 0, err
	}
	_ = stream.Send(&handles.OpenConfigRequest{Part: &handles.OpenConfigRequest_Start_{Start: &handles.OpenConfigRequest_Start{Size: int64(len(text))}}})
	for _, part := range []string{text[:3], text[3:]} {
		_ = stream.Send(&handles.OpenConfigRequest{Part: &handles.OpenConfigRequest_Chunk{Chunk: []byte(part)}})
	}
	resp, err := stream.CloseAndRecv()
	return resp.GetConfigHandle(), err
}
