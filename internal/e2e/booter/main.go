// Command booter runs one function of package boot on the boot loader of its machine and
// prints what boots next, for tests with real firmware and a real systemd-boot.
//
//	booter -esp DIR -disk DEVICE [-partition N] entries
//	booter … stage A|B FOLDER     copies the boot files from FOLDER, a mounted ESP of an image
//	booter … try|keep|forget A|B
//
// The output is a boot.State as JSON, which names the slots volume-a and volume-b.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/slot"
)

func main() {
	esp := flag.String("esp", "/boot/efi", "folder where the ESP is mounted")
	disk := flag.String("disk", "", "disk with the ESP")
	partition := flag.Int("partition", 1, "number of the ESP")
	flag.Parse()
	if err := run(*esp, *disk, *partition, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "booter:", err)
		os.Exit(1)
	}
}

func run(esp, disk string, partition int, args []string, out io.Writer) error {
	found, err := find(disk, partition)
	if err != nil {
		return fmt.Errorf("find the ESP: %w", err)
	}
	vars, err := efivar.Open(efivar.DefaultDir)
	if err != nil {
		return err
	}
	loader, err := boot.New(boot.SystemdBoot, boot.Host{ESP: esp, Members: []efivar.HardDrive{found}, Vars: vars, Arch: boot.Arch(runtime.GOARCH)})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := do(ctx, loader, args); err != nil {
		return err
	}
	state, err := loader.Entries(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(map[string]string{
		"a": state.Names.A, "b": state.Names.B, "staged": state.Staged.String(),
		"booted": state.Booted.String(), "next": state.Next.String(), "default": state.Default.String(),
	})
}

// find returns the partition in the form of a boot entry of the firmware.
func find(disk string, partition int) (efivar.HardDrive, error) {
	f, err := os.Open(disk)
	if err != nil {
		return efivar.HardDrive{}, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return efivar.HardDrive{}, err
	}
	const sector = 512
	table, err := gpt.ReadDisk(f, size, sector)
	if err != nil {
		return efivar.HardDrive{}, err
	}
	for _, e := range table.Entries {
		if e.Number == partition {
			return efivar.HardDrive{Number: uint32(partition), Start: uint64(e.Offset / sector), Size: uint64(e.Size / sector), Partition: e.ID}, nil
		}
	}
	return efivar.HardDrive{}, fmt.Errorf("%s has no partition %d", disk, partition)
}

func do(ctx context.Context, loader boot.Loader, args []string) error {
	if len(args) == 1 && args[0] == "entries" {
		return nil
	}
	if len(args) < 2 {
		return errors.New("usage: booter entries | stage A|B FOLDER | try A|B | keep A|B | forget A|B")
	}
	s := map[string]slot.Slot{"A": slot.A, "B": slot.B}[args[1]]
	switch {
	case args[0] == "stage" && len(args) == 3:
		p, err := boot.Read(os.DirFS(args[2]), boot.Arch(runtime.GOARCH))
		if err != nil {
			return err
		}
		return loader.Stage(ctx, s, p)
	case args[0] == "try" && len(args) == 2:
		return loader.Try(ctx, s)
	case args[0] == "keep" && len(args) == 2:
		return loader.Keep(ctx, s)
	case args[0] == "forget" && len(args) == 2:
		return loader.Forget(ctx, s)
	}
	return fmt.Errorf("there is nothing to do that is called %q", args)
}
