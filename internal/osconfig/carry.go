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

// maxIdentity is the largest file with a machine ID or a hostname that is read, in bytes.
const maxIdentity = 4096

// Carry copies the identity of the host from the running OS (old) to the new OS (new),
// both root folders: the machine ID and, if carryHostname, the hostname. Carry does not
// copy the keys of the SSH server, because upstream does not. If the running OS has no
// machine ID, systemd makes one when the new OS boots. Carry may be called again after
// a failure.
func Carry(old, new string, carryHostname bool) error {
	if err := carryMachineID(old, new); err != nil {
		return errkind.WithName(fmt.Errorf("carry the machine ID over: %w", readOnly("the machine ID", err)), errkind.NameCopyMachineId)
	}
	if !carryHostname {
		return nil
	}
	name, err := inroot.FS(old).ReadFile(hostnameFile[1:], maxIdentity)
	if errors.Is(err, fs.ErrNotExist) || err == nil && strings.TrimSpace(string(name)) == "" {
		return nil // the hostname of the image stays
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("carry the hostname over: %w", err), errkind.NameReadHostname)
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
		return errkind.Errorf(errkind.Precondition, "%s of the running OS has no machine ID: 32 hexadecimal digits", machineIDFile)
	}
	if err := removeDBusID(new); err != nil {
		return err
	}
	if now, _, err := readMachineID(new); err == nil && now == id {
		return nil
	}
	return Write(new, machineIDFile, 0o444, writerOf(id+"\n"))
}

// ResetMachineID removes the machine ID that came with an image, because all hosts
// installed from the image would have it. It writes an empty file and not
// "uninitialized": systemd makes an ID for either, but takes the second for a first
// boot too (machine-id(5)), in which presets would enable disabled services and
// systemd-firstboot would ask questions at the console. ResetMachineID does not change
// a tree without an ID: whoever built the image may want the first boot.
func ResetMachineID(root string) error {
	_, state, err := readMachineID(root)
	if err == nil && (state == idReal || state == idBroken) {
		err = Write(root, machineIDFile, 0o444, writerOf(""))
	}
	if err == nil {
		err = removeDBusID(root)
	}
	if err != nil {
		return errkind.WithName(fmt.Errorf("remove the machine ID of the image: %w", readOnly("the machine ID", err)), errkind.NameCreateMachineId)
	}
	return nil
}

// removeDBusID removes D-Bus's own file of the machine ID: D-Bus prefers that file to
// systemd's, and systemd copies the ID from it where its own file is empty. A symbolic
// link in the place of the file stays.
func removeDBusID(root string) error {
	return withPlace(root, dbusIDFile, func(at place) error {
		info, err := at.occupant()
		if err != nil || info == nil || !info.Mode().IsRegular() {
			return err
		}
		return at.dir.Remove(at.name)
	})
}

// idState is the content of the file of the machine ID.
type idState int

const (
	idFirstBoot idState = iota // no ID; the next boot is a first boot
	idNone                     // no ID; the next boot is not a first boot
	idReal                     // an ID
	idBroken                   // unreadable, or not an ID
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
