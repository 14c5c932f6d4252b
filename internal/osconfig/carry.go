package osconfig

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

const (
	hostnameFile  = "/etc/hostname"
	machineIDFile = "/etc/machine-id"
	dbusIDFile    = "/var/lib/dbus/machine-id"
)

// maxIdentity bounds what is read of a machine ID and a hostname, in bytes.
const maxIdentity = 4096

// Carry brings what makes a host itself from the tree that runs to the new one:
// its machine ID and, if carryHostname, its name. Keys of its SSH server are not
// carried, as upstream does not. A host that has no machine ID yet gets a new one
// when the new tree boots. It may be called again.
func Carry(old, new string, carryHostname bool) error {
	if err := carryMachineID(old, new); err != nil {
		return errkind.WithName(fmt.Errorf("carry the machine ID over: %w", readOnly("the machine ID", err)), "CopyMachineId")
	}
	if !carryHostname {
		return nil
	}
	name, err := inroot.FS(old).ReadFile(hostnameFile[1:], maxIdentity)
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(name)) == "" {
		return nil // it is called what the image says
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("carry the hostname over: %w", err), "ReadHostname")
	}
	if now, err := inroot.FS(new).ReadFile(hostnameFile[1:], maxIdentity); err == nil && string(now) == string(name) {
		return nil
	}
	if err := Write(new, hostnameFile, 0o644, writerOf(string(name))); err != nil {
		return fmt.Errorf("carry the hostname over: %w", readOnly("the hostname", err))
	}
	return nil
}

func carryMachineID(old, new string) error {
	id, state, err := readMachineID(old)
	if err != nil {
		return err
	}
	switch state {
	case idNone, idFirstBoot:
		return ResetMachineID(new)
	case idBroken:
		return errkind.Errorf(errkind.Precondition, "%s of the running OS has no machine ID, which is 32 hexadecimal digits", machineIDFile)
	}
	if err := removeDBusID(new); err != nil {
		return err
	}
	if now, _, err := readMachineID(new); err == nil && now == id {
		return nil
	}
	return Write(new, machineIDFile, 0o444, writerOf(id+"\n"))
}

// ResetMachineID takes the machine ID out of a tree that several hosts are made
// from: with one in the image they would be twins. The file is empty then, and not
// "uninitialized", because both have systemd make an ID, but the second is a first
// boot as well (machine-id(5)): presets would undo the services that are disabled,
// and systemd-firstboot would ask at the console. A tree without an ID is left as
// it is: its builder may want the first boot.
func ResetMachineID(root string) error {
	_, state, err := readMachineID(root)
	if err == nil && (state == idReal || state == idBroken) {
		err = Write(root, machineIDFile, 0o444, writerOf(""))
	}
	if err == nil {
		err = removeDBusID(root)
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("take the machine ID out of the image: %w", readOnly("the machine ID", err)), "CreateMachineId")
	}
	return nil
}

// removeDBusID removes the ID that D-Bus reads before that of systemd, and that
// systemd takes for an empty one. A link to it stays.
func removeDBusID(root string) error {
	return withPlace(root, dbusIDFile, func(at place) error {
		info, err := at.occupant()
		if err != nil || info == nil || !info.Mode().IsRegular() {
			return err
		}
		return at.dir.Remove(at.name)
	})
}

// idState is what the file of the machine ID has.
type idState int

const (
	idFirstBoot idState = iota // none, and the next boot is a first one
	idNone                     // none, and it is not
	idReal
	idBroken // something else
)

func readMachineID(root string) (string, idState, error) {
	data, err := inroot.FS(root).ReadFile(machineIDFile[1:], maxIdentity)
	if errors.Is(err, fs.ErrNotExist) {
		return "", idFirstBoot, nil
	}
	if err != nil {
		return "", idBroken, err
	}
	switch id := strings.TrimSpace(string(data)); {
	case id == "":
		return "", idNone, nil
	case id == "uninitialized":
		return "", idFirstBoot, nil
	case len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id, "0") == "":
		return "", idBroken, nil
	default:
		return id, idReal, nil
	}
}
