package control

import (
	"context"
	"fmt"
	"io/fs"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/machine/files"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type fileServer struct {
	machinev1.UnimplementedFileServiceServer
	files *files.Service
}

func (s *fileServer) ListFiles(req *machinev1.ListFilesRequest, stream grpc.ServerStreamingServer[machinev1.ListFilesResponse]) error {
	isTruncated, err := s.files.List(stream.Context(), req.GetPath(), int(req.GetDepth()), func(found []files.Info) error {
		return stream.Send(&machinev1.ListFilesResponse{Files: filesToWire(found)})
	})
	if err == nil && isTruncated {
		err = stream.Send(&machinev1.ListFilesResponse{IsTruncated: true})
	}
	return fileError("list files", err)
}

func (s *fileServer) StatFile(_ context.Context, req *machinev1.StatFileRequest) (*machinev1.StatFileResponse, error) {
	i, err := s.files.Stat(req.GetPath())
	if err != nil {
		return nil, fileError("show a file", err)
	}
	return &machinev1.StatFileResponse{File: fileToWire(i)}, nil
}

func (s *fileServer) ReadFile(req *machinev1.ReadFileRequest, stream grpc.ServerStreamingServer[machinev1.ReadFileResponse]) error {
	isTruncated, err := s.files.Read(stream.Context(), req.GetPath(), req.GetOffset(), req.GetMaxBytes(), func(i files.Info) error {
		return stream.Send(&machinev1.ReadFileResponse{File: fileToWire(i)})
	}, func(data []byte) error {
		return stream.Send(&machinev1.ReadFileResponse{Data: data})
	})
	if err == nil && isTruncated {
		err = stream.Send(&machinev1.ReadFileResponse{IsTruncated: true})
	}
	return fileError("read a file", err)
}

func (s *fileServer) CopyFiles(req *machinev1.CopyFilesRequest, stream grpc.ServerStreamingServer[machinev1.CopyFilesResponse]) error {
	skipped, err := s.files.Copy(stream.Context(), req.GetPath(), req.GetMaxBytes(), func(data []byte) error {
		return stream.Send(&machinev1.CopyFilesResponse{Data: data})
	})
	if err == nil && len(skipped) > 0 {
		err = stream.Send(&machinev1.CopyFilesResponse{Skipped: filesToWire(skipped)})
	}
	return fileError("copy files", err)
}

func (s *fileServer) DiskUsage(ctx context.Context, req *machinev1.DiskUsageRequest) (*machinev1.DiskUsageResponse, error) {
	folders, isIncomplete, err := s.files.Usage(ctx, req.GetPath(), int(req.GetDepth()))
	if err != nil {
		return nil, fileError("measure a folder", err)
	}
	out := &machinev1.DiskUsageResponse{IsIncomplete: isIncomplete}
	for _, f := range folders {
		out.Folders = append(out.Folders, &machinev1.FolderUsage{Path: text(f.Path), Used: f.Used, Files: f.Files})
	}
	return out, nil
}

// fileError adds what was being done to the error of a call.
func fileError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func filesToWire(found []files.Info) (out []*machinev1.FileInfo) {
	for _, i := range found {
		out = append(out, fileToWire(i))
	}
	return out
}

func fileToWire(i files.Info) *machinev1.FileInfo {
	if i.Err != nil {
		return &machinev1.FileInfo{Path: text(i.Path), Error: errorText(i.Err)}
	}
	return &machinev1.FileInfo{
		Path: text(i.Path), Type: typeToWire(i.Mode), Size: i.Size, Used: i.Used, Mode: modeToWire(i.Mode), Uid: i.UID, Gid: i.GID, ModifyTime: stamp(i.Modified), LinkTarget: text(i.Target),
	}
}

func typeToWire(m fs.FileMode) machinev1.FileType {
	switch {
	case m.IsRegular():
		return machinev1.FileType_FILE_TYPE_REGULAR
	case m.IsDir():
		return machinev1.FileType_FILE_TYPE_FOLDER
	case m&fs.ModeSymlink != 0:
		return machinev1.FileType_FILE_TYPE_LINK
	}
	return machinev1.FileType_FILE_TYPE_SPECIAL
}

func modeToWire(m fs.FileMode) uint32 {
	out := uint32(m.Perm())
	for bit, is := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&is != 0 {
			out |= bit
		}
	}
	return out
}
