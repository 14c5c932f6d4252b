package machine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// mountCommands are those about file systems and shares.
func mountCommands(a *command.App) []*cobra.Command {
	return []*cobra.Command{newMountCommand(a, mount), newUnmountCommand(a, unmount), newSharesCommand(a), newHoldersCommand(a, holders)}
}

func mountsOf(c *client.Client) machinev1.MountServiceClient {
	return machinev1.NewMountServiceClient(c.Conn())
}

type mountOptions struct {
	app          *command.App
	what, where  string
	fsType       string
	options      []string
	persistent   bool
	username     string
	domain       string
	passwordFile string
}

func newMountCommand(a *command.App, run func(context.Context, *mountOptions) error) *cobra.Command {
	o := &mountOptions{app: a}
	cmd := &cobra.Command{
		Use:   "mount WHAT WHERE",
		Short: "Mount a file system: a disk, or a share of another host",
		Long: `Mount mounts a file system on the folder WHERE, as a mount unit of systemd. WHAT is a
device, a UUID= or LABEL=, or a share: HOST:/PATH (nfs), //HOST/SHARE (cifs), a tag
(9p, virtiofs). Programs on it get no other user's rights, and files on it are no
devices (nosuid, nodev). Folders that the host itself needs are refused.`,
		Example: `  trident host mount /dev/sdb1 /mnt/backup
  trident host mount nas:/export/data /srv/data --type nfs --persistent
  trident host mount //nas/team /srv/team --type cifs --username ann --password-file password`,
		Args: command.Exactly("WHAT", "WHERE"),
		RunE: command.Run(run, o, &o.what, &o.where),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.fsType, "type", "", "the type of the file system, such as nfs, cifs or ext4; by default the kernel finds it")
	flags.StringArrayVar(&o.options, "option", nil, "an `OPTION` of mount(8), such as ro; several are given one by one")
	flags.BoolVar(&o.persistent, "persistent", false, "mount it at each boot as well")
	flags.StringVar(&o.username, "username", "", "the user of a share of type cifs")
	flags.StringVar(&o.domain, "domain", "", "the domain of that user")
	flags.StringVar(&o.passwordFile, "password-file", "", "the file with the password of that user; - reads standard input")
	cmd.MarkFlagsRequiredTogether("username", "password-file")
	return cmd
}

// maxPassword bounds a password, in bytes.
const maxPassword = 4096

func mount(ctx context.Context, o *mountOptions) error {
	doing := "mount " + o.where // as the daemon says it, see command.Print
	in := &machinev1.MountRequest{What: o.what, Where: o.where, Type: o.fsType, Options: o.options, Persistent: o.persistent}
	if o.username != "" {
		password, err := readPassword(ctx, o.passwordFile)
		if err != nil {
			return fmt.Errorf("%s: read --password-file: %w", doing, err)
		}
		in.Credentials = &machinev1.ShareCredentials{Username: o.username, Password: password, Domain: o.domain}
	}
	return command.Print(ctx, o.app, doing, func(c *client.Client) (*machinev1.MountResponse, error) { return mountsOf(c).Mount(ctx, in) }, func(w *terminal.Table, out *machinev1.MountResponse) {
		w.Line("%s is mounted on %s by %s.", o.what, o.where, out.GetUnit())
	})
}

// readPassword returns the first line of a file; "-" is standard input.
func readPassword(ctx context.Context, name string) (string, error) {
	from := command.Stdin(ctx)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }()
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, maxPassword+1))
	if err != nil {
		return "", err
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(data) > maxPassword || len(line) == 0 {
		return "", errkind.Errorf(errkind.Invalid, "it must have one line, of at most %d bytes", maxPassword)
	}
	return string(line), nil
}

type unmountOptions struct {
	app          *command.App
	where        string
	lazy, forget bool
}

func newUnmountCommand(a *command.App, run func(context.Context, *unmountOptions) error) *cobra.Command {
	o := &unmountOptions{app: a}
	cmd := &cobra.Command{
		Use:   "unmount WHERE",
		Short: "Unmount a file system",
		Long: `Unmount unmounts the file system on the folder WHERE. If it is in use, unmount fails
and names who uses it. Services that require it are stopped first.`,
		Example: `  trident host unmount /mnt/backup
  trident host unmount /srv/data --forget`,
		Args: command.Exactly("WHERE"),
		RunE: command.Run(run, o, &o.where),
	}
	cmd.Flags().BoolVar(&o.lazy, "lazy", false, "detach it at once, and leave it to those who use it")
	cmd.Flags().BoolVar(&o.forget, "forget", false, "also remove what mounts it at each boot")
	return cmd
}

func unmount(ctx context.Context, o *unmountOptions) error {
	return o.app.Ask(ctx, "unmount "+o.where, func(c *client.Client) error {
		_, err := mountsOf(c).Unmount(ctx, &machinev1.UnmountRequest{Where: o.where, Lazy: o.lazy, Forget: o.forget})
		if err == nil {
			o.app.Say("%s is not mounted any more.", terminal.Line(o.where))
		}
		return err
	})
}

func newSharesCommand(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:     "shares",
		Short:   "List the shares of other hosts that are mounted, or mounted at each boot",
		Example: "  trident host shares",
		Args:    command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return command.Print(ctx, a, "list shares", func(c *client.Client) (*machinev1.ListSharesResponse, error) {
				return mountsOf(c).ListShares(ctx, &machinev1.ListSharesRequest{})
			}, writeShares)
		},
	}
}

func writeShares(w *terminal.Table, out *machinev1.ListSharesResponse) {
	if len(out.GetShares()) == 0 {
		w.Line("This host has no shares.")
		return
	}
	w.Head("WHERE", "WHAT", "TYPE", "MOUNTED", "AT EACH BOOT")
	for _, s := range out.GetShares() {
		w.Row(s.GetWhere(), s.GetWhat(), s.GetType(), yes(s.GetMounted()), yes(s.GetPersistent()))
	}
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

type holdersOptions struct {
	app   *command.App
	where string
}

func newHoldersCommand(a *command.App, run func(context.Context, *holdersOptions) error) *cobra.Command {
	o := &holdersOptions{app: a}
	return &cobra.Command{
		Use:     "holders WHERE",
		Short:   "List who uses a mounted file system",
		Long:    "Holders lists the processes and the parts of the host that use the file system on the\nfolder WHERE. Holders in the kernel itself, such as an NFS server, are not visible.",
		Example: "  trident host holders /mnt/backup",
		Args:    command.Exactly("WHERE"),
		RunE:    command.Run(run, o, &o.where),
	}
}

func holders(ctx context.Context, o *holdersOptions) error {
	return command.Print(ctx, o.app, "list holders of "+o.where, func(c *client.Client) (*machinev1.ListHoldersResponse, error) {
		return mountsOf(c).ListHolders(ctx, &machinev1.ListHoldersRequest{Where: o.where})
	}, writeHolders)
}

func writeHolders(w *terminal.Table, out *machinev1.ListHoldersResponse) {
	if len(out.GetHolders()) == 0 {
		w.Line("Nobody uses it.")
		return
	}
	w.Head("PID", "COMMAND", "USE", "PATH")
	for _, h := range out.GetHolders() {
		pid := "-"
		if h.GetPid() != 0 {
			pid = fmt.Sprint(h.GetPid())
		}
		w.Row(pid, h.GetCommand(), use(h.GetKind()), h.GetPath())
	}
	if out.GetTruncated() {
		w.Line("There are more.")
	}
}

// use is the kind of a holder in words.
func use(k machinev1.HolderKind) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(k.String(), "HOLDER_KIND_")), "_", " ")
}
