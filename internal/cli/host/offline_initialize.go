package host

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/local"
	"github.com/trident-project/trident/internal/version"
)

type offlineInitializeOptions struct {
	app                         *command.App
	status, disk, history, root string
	lazy                        map[string]string
}

const offlineInitializeLong = `Offline-initialize writes the record of a host into an image under construction, so
that Trident can service the host from its first boot on. Image Customizer runs it
as the last script. It reads the partitions from the image's history and their
UUIDs from lsblk. Partitions whose ids end in -a and -b are the two slots of an A/B
update. --lazy-partitions names the partitions that the first boot makes.

HS_PATH, for existing scripts, is a host status in upstream's form, which is
recorded unchanged.`

func newOfflineInitializeCommand(a *command.App, run func(context.Context, *offlineInitializeOptions) error) *cobra.Command {
	o := &offlineInitializeOptions{app: a}
	var lazy valueList
	cmd := &cobra.Command{
		Use:   "offline-initialize [HS_PATH]",
		Short: "Write the first record of a host into its image",
		Example: `  trident offline-initialize
  trident offline-initialize --disk /dev/vda --history-path history.json`,
		Long: offlineInitializeLong,
		Args: command.AtMostOne,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.status = command.Argument(args, "")
			for _, flag := range []string{"history-path", "lazy-partitions", "disk"} {
				if o.status != "" && cmd.Flags().Changed(flag) {
					return command.UsageError(cmd, errors.New("HS_PATH and --"+flag+" exclude each other"))
				}
			}
			if o.lazy, err = parseLazy(lazy.text); err != nil {
				return command.UsageError(cmd, err)
			}
			return run(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.Var(&lazy, "lazy-partitions", "partitions that the first boot makes, as NAME:PARTUUID,…")
	flags.StringVar(&o.disk, "disk", "/dev/sda", "the path of the disk on the host")
	flags.StringVar(&o.history, "history-path", "/usr/share/image-customizer/history.json", "the file in which Image Customizer has recorded how it made the image")
	addRoot(cmd, &o.root)
	return cmd
}

// addRoot adds a hidden flag for tests, and for the tree of a host at another path.
func addRoot(cmd *cobra.Command, root *string) {
	cmd.Flags().StringVar(root, "root", "/", "the root folder of the host")
	_ = cmd.Flags().MarkHidden("root") // the flag exists
}

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func parseLazy(text string) (map[string]string, error) {
	out := map[string]string{}
	for item := range strings.SplitSeq(text, ",") {
		name, uuid, ok := strings.Cut(item, ":")
		switch {
		case text == "":
		case !ok || name == "" || !uuidForm.MatchString(uuid) || out[name] != "":
			err := errkind.Errorf(errkind.Invalid, "--lazy-partitions: %q is not NAME:PARTUUID, or is given twice", item)
			return nil, errkind.WithName(err, errkind.NameInvalidLazyPartition)
		default:
			out[name] = strings.ToLower(uuid)
		}
	}
	return out, nil
}

func offlineInitialize(ctx context.Context, o *offlineInitializeOptions) error {
	err := local.Initialize(ctx, local.Initialization{
		Root: o.root, Status: o.status, History: o.history, Disk: o.disk, Lazy: o.lazy, Version: version.String(), Tools: run.Host{},
	})
	if err != nil {
		return command.AsUpstream(fmt.Errorf("initialize the image: %w", command.Interrupted(ctx, err)))
	}
	o.app.Say("The image is ready to be serviced from its first boot on.")
	return nil
}

// valueList is a flag whose values add up, as one text with commas.
type valueList struct{ text string }

func (v *valueList) String() string { return v.text }

func (*valueList) Type() string { return "string" }

func (v *valueList) Set(s string) error {
	if v.text != "" && s != "" {
		s = v.text + "," + s
	} else if s == "" {
		s = v.text
	}
	v.text = s
	return nil
}
