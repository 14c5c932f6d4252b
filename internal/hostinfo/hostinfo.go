// Package hostinfo describes this host in the terms of os-release(5) and
// systemd-sysext(8), with which systemd compares an extension image. It also reads the
// available memory.
//
// The package caches nothing, because an update or a merge may change the answers while
// the daemon runs.
package hostinfo

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/arch"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// Host is the running kernel and the operating system below a root folder. A field that
// os-release does not set is empty.
type Host struct {
	ID           string   // ID
	IDLike       []string // ID_LIKE
	VariantID    string   // VARIANT_ID
	VersionID    string   // VERSION_ID; rolling releases have none
	PrettyName   string   // PRETTY_NAME: the OS for people
	SysextLevel  string   // SYSEXT_LEVEL
	ConfextLevel string   // CONFEXT_LEVEL
	Architecture string   // of the kernel, in systemd's words: x86-64, arm64
	BootID       string   // changes with every boot; empty when the tree has no /proc
}

// Read reads the host whose root folder is root.
func Read(root string) (Host, error) {
	vars, err := osRelease(root)
	if err != nil {
		return Host{}, fmt.Errorf("read os-release: %w", err)
	}
	boot, err := bootID(root)
	if err != nil {
		return Host{}, fmt.Errorf("read boot ID: %w", err)
	}
	arch, err := architecture()
	if err != nil {
		return Host{}, fmt.Errorf("read the architecture of the kernel: %w", err)
	}
	return Host{
		ID:           vars["ID"],
		IDLike:       strings.Fields(vars["ID_LIKE"]),
		VariantID:    vars["VARIANT_ID"],
		VersionID:    vars["VERSION_ID"],
		PrettyName:   vars["PRETTY_NAME"],
		SysextLevel:  vars["SYSEXT_LEVEL"],
		ConfextLevel: vars["CONFEXT_LEVEL"],
		Architecture: arch,
		BootID:       boot,
	}, nil
}

// osRelease reads /etc/os-release or, if that does not exist, /usr/lib/os-release
// (os-release(5)).
func osRelease(root string) (map[string]string, error) {
	f, err := inroot.FS(root).Open("etc/os-release")
	if errors.Is(err, fs.ErrNotExist) {
		f, err = inroot.FS(root).Open("usr/lib/os-release")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ParseEnv(f)
}

var bootIDForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n$`)

func bootID(root string) (string, error) {
	const name = "proc/sys/kernel/random/boot_id"
	data, err := inroot.FS(root).ReadFile(name, 64)
	if errors.Is(err, fs.ErrNotExist) && root != "/" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !bootIDForm.Match(data) {
		return "", fmt.Errorf("%q in %s is not a UUID", data, name)
	}
	return strings.TrimSuffix(string(data), "\n"), nil
}

func architecture() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return arch.Systemd(unix.ByteSliceToString(u.Machine[:])), nil
}
