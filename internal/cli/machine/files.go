package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

type filesOptions struct {
	app      *command.App
	path     string
	depth    int32
	maxBytes int64
	offset   int64
}

// newFilesCommand returns the group trident host files.
func newFilesCommand(a *command.App) *cobra.Command {
	return command.Group("files", "List, read, copy and measure files of the host",
		newFilesListCommand(a, listFiles), newFilesReadCommand(a, readFile), newFilesCopyCommand(a, copyFiles), newFilesUsageCommand(a, usage))
}

func newFilesListCommand(a *command.App, run func(context.Context, *filesOptions) error) *cobra.Command {
	o := &filesOptions{app: a}
	cmd := &cobra.Command{
		Use: "list PATH", Short: "List a folder of the host", Example: "  trident host files list /etc\n  trident host files list /var/log --depth 3",
		Args: command.Exactly("PATH"), RunE: command.Run(run, o, &o.path),
	}
	cmd.Flags().Int32Var(&o.depth, "depth", 1, "how many levels of folders to list")
	return cmd
}

// listFiles prints the table at the end, because its columns depend on all files.
func listFiles(ctx context.Context, o *filesOptions) error {
	return command.Print(ctx, o.app, "list "+o.path, func(c *client.Client) (*machinev1.ListFilesResponse, error) {
		stream, err := c.Files().ListFiles(ctx, &machinev1.ListFilesRequest{Path: o.path, Depth: o.depth})
		all := &machinev1.ListFilesResponse{}
		for err == nil {
			var m *machinev1.ListFilesResponse
			if m, err = stream.Recv(); err == nil {
				all.Files, all.IsTruncated = append(all.Files, m.GetFiles()...), m.GetIsTruncated()
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return all, err
	}, writeFiles)
}

func writeFiles(w *terminal.Table, all *machinev1.ListFilesResponse) {
	w.Head("MODE", "OWNER", "SIZE", "CHANGED", "PATH")
	for _, f := range all.GetFiles() {
		if f.GetError() != "" {
			w.Row("?", "", "", "", f.GetPath()+" ("+f.GetError()+")")
			continue
		}
		path := f.GetPath()
		if f.GetLinkTarget() != "" {
			path += " -> " + f.GetLinkTarget()
		}
		w.Row(modeText(f), fmt.Sprintf("%d:%d", f.GetUid(), f.GetGid()), bytesize.Short(f.GetSize()), terminal.FormatTime(f.GetModifyTime()), path)
	}
	if all.GetIsTruncated() {
		w.Line("There are more files than the daemon lists.")
	}
}

func modeText(f *machinev1.FileInfo) string {
	kind := map[machinev1.FileType]string{
		machinev1.FileType_FILE_TYPE_REGULAR: "-", machinev1.FileType_FILE_TYPE_FOLDER: "d", machinev1.FileType_FILE_TYPE_LINK: "l", machinev1.FileType_FILE_TYPE_SPECIAL: "s",
	}[f.GetType()]
	return kind + strings.TrimPrefix(fs.FileMode(f.GetMode()&0o777).String(), "-")
}

func newFilesReadCommand(a *command.App, run func(context.Context, *filesOptions) error) *cobra.Command {
	o := &filesOptions{app: a}
	cmd := &cobra.Command{
		Use: "read PATH", Short: "Print a file of the host", Example: "  trident host files read /etc/os-release",
		Long: "Read prints the bytes of a file as they are, whatever --output says.",
		Args: command.Exactly("PATH"), RunE: command.Run(run, o, &o.path),
	}
	cmd.Flags().Int64Var(&o.offset, "offset", 0, "where to begin, in bytes")
	cmd.Flags().Int64Var(&o.maxBytes, "max-bytes", 0, "how many bytes to print at most; 0 means 64 MiB")
	return cmd
}

func readFile(ctx context.Context, o *filesOptions) error {
	return receive(ctx, o.app, "read "+o.path, func(c *client.Client) (grpc.ServerStreamingClient[machinev1.ReadFileResponse], error) {
		return c.Files().ReadFile(ctx, &machinev1.ReadFileRequest{Path: o.path, Offset: o.offset, MaxBytes: o.maxBytes})
	}, func(m *machinev1.ReadFileResponse) error {
		if m.GetIsTruncated() {
			warn(o.app, "%s has more bytes: see --max-bytes", o.path)
		}
		_, err := o.app.Stdout.Write(m.GetData())
		return err
	})
}

func newFilesCopyCommand(a *command.App, run func(context.Context, *filesOptions) error) *cobra.Command {
	o := &filesOptions{app: a}
	cmd := &cobra.Command{
		Use: "copy PATH", Short: "Write a folder of the host to standard output, as a tar archive", Example: "  trident host files copy /etc | tar -x",
		Long: "Copy writes a tar archive to standard output. It warns of files that are not in the archive.",
		Args: command.Exactly("PATH"), RunE: command.Run(run, o, &o.path),
	}
	cmd.Flags().Int64Var(&o.maxBytes, "max-bytes", 0, "how large the archive may become; 0 means 1 GiB")
	return cmd
}

func copyFiles(ctx context.Context, o *filesOptions) error {
	return receive(ctx, o.app, "copy "+o.path, func(c *client.Client) (grpc.ServerStreamingClient[machinev1.CopyFilesResponse], error) {
		return c.Files().CopyFiles(ctx, &machinev1.CopyFilesRequest{Path: o.path, MaxBytes: o.maxBytes})
	}, func(m *machinev1.CopyFilesResponse) error {
		for _, f := range m.GetSkipped() {
			warn(o.app, "%s", f.GetError())
		}
		_, err := o.app.Stdout.Write(m.GetData())
		return err
	})
}

func newFilesUsageCommand(a *command.App, run func(context.Context, *filesOptions) error) *cobra.Command {
	o := &filesOptions{app: a}
	cmd := &cobra.Command{
		Use: "usage PATH", Short: "Show how many bytes the files of a folder use", Example: "  trident host files usage /var/log --depth 1",
		Args: command.Exactly("PATH"), RunE: command.Run(run, o, &o.path),
	}
	cmd.Flags().Int32Var(&o.depth, "depth", 0, "how many levels of folders to show, at most 3")
	return cmd
}

func usage(ctx context.Context, o *filesOptions) error {
	return command.Print(ctx, o.app, "measure "+o.path, func(c *client.Client) (*machinev1.DiskUsageResponse, error) {
		return c.Files().DiskUsage(ctx, &machinev1.DiskUsageRequest{Path: o.path, Depth: o.depth})
	}, func(w *terminal.Table, all *machinev1.DiskUsageResponse) {
		w.Head("USED", "FILES", "PATH")
		for _, f := range all.GetFolders() {
			w.Row(bytesize.Short(f.GetUsed()), f.GetFiles(), f.GetPath())
		}
		if all.GetIsIncomplete() {
			w.Line("Not all files were counted.")
		}
	})
}
