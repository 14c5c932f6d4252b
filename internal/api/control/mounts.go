package control

import (
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/machine/mounts"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type mountServer struct {
	machinev1.UnimplementedMountServiceServer
	mounts *mounts.Service
}

// maxOptions bounds the options of a request.
const maxOptions = 64

func (s *mountServer) Mount(ctx context.Context, in *machinev1.MountRequest) (*machinev1.MountResponse, error) {
	if n := len(in.GetOptions()); n > maxOptions {
		return nil, errkind.Errorf(errkind.Invalid, "mount %s: %d options, at most %d are read", in.GetWhere(), n, maxOptions)
	}
	c := in.GetCredentials()
	unit, err := s.mounts.Mount(ctx, mounts.Request{
		What: in.GetWhat(), Where: in.GetWhere(), Type: in.GetType(), Options: in.GetOptions(), IsPersistent: in.GetPersistent(),
		Credentials: mounts.Credentials{Username: c.GetUsername(), Password: c.GetPassword(), Domain: c.GetDomain()},
	})
	if err != nil {
		return nil, err
	}
	return &machinev1.MountResponse{Unit: unit}, nil
}

func (s *mountServer) Unmount(ctx context.Context, in *machinev1.UnmountRequest) (*machinev1.UnmountResponse, error) {
	err := s.mounts.Unmount(ctx, mounts.Unmounting{Where: in.GetWhere(), IsLazy: in.GetLazy(), Forgets: in.GetForget()})
	if err != nil {
		return nil, err
	}
	return &machinev1.UnmountResponse{}, nil
}

func (s *mountServer) ListShares(context.Context, *machinev1.ListSharesRequest) (*machinev1.ListSharesResponse, error) {
	shares, err := s.mounts.Shares()
	if err != nil {
		return nil, err
	}
	out := &machinev1.ListSharesResponse{}
	for _, m := range shares {
		out.Shares = append(out.Shares, &machinev1.Share{
			What: text(m.What), Where: text(m.Where), Type: m.Type, Options: texts(m.Options), Mounted: m.IsMounted, Persistent: m.IsPersistent, Unit: text(m.Unit),
		})
	}
	return out, nil
}

func (s *mountServer) ListHolders(_ context.Context, in *machinev1.ListHoldersRequest) (*machinev1.ListHoldersResponse, error) {
	holders, isCut, err := s.mounts.Holders(in.GetWhere())
	if err != nil {
		return nil, err
	}
	out := &machinev1.ListHoldersResponse{Truncated: isCut}
	for _, h := range holders {
		out.Holders = append(out.Holders, &machinev1.Holder{Kind: kindToWire(h.Kind), Pid: int32(h.PID), Command: text(h.Command), Path: text(h.Path)})
	}
	return out, nil
}

func kindToWire(k mounts.HolderKind) machinev1.HolderKind {
	return map[mounts.HolderKind]machinev1.HolderKind{
		mounts.WorkingDirectory: machinev1.HolderKind_HOLDER_KIND_WORKING_DIRECTORY,
		mounts.RootDirectory:    machinev1.HolderKind_HOLDER_KIND_ROOT_DIRECTORY,
		mounts.Program:          machinev1.HolderKind_HOLDER_KIND_PROGRAM,
		mounts.OpenFile:         machinev1.HolderKind_HOLDER_KIND_OPEN_FILE,
		mounts.MappedFile:       machinev1.HolderKind_HOLDER_KIND_MAPPED_FILE,
		mounts.Mount:            machinev1.HolderKind_HOLDER_KIND_MOUNT,
		mounts.Swap:             machinev1.HolderKind_HOLDER_KIND_SWAP,
		mounts.LoopDevice:       machinev1.HolderKind_HOLDER_KIND_LOOP_DEVICE,
		mounts.Overlay:          machinev1.HolderKind_HOLDER_KIND_OVERLAY,
	}[k]
}

func texts(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = text(s)
	}
	return out
}
