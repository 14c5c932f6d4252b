package lab

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/errkind"
)

// firmware is the files of one kind of firmware: its code, which all guests share, and the
// variables of a new machine.
type firmware struct {
	code, variables string
	isSecure        bool // only the code in system management mode writes the variables
}

// The firmware of Debian's package ovmf. The variables for Secure Boot have one certificate,
// whose key the package has, too.
var (
	plainFirmware  = firmware{code: "/usr/share/OVMF/OVMF_CODE_4M.fd", variables: "/usr/share/OVMF/OVMF_VARS_4M.fd"}
	secureFirmware = firmware{code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", variables: "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd", isSecure: true}
)

const (
	signingKey         = "/usr/share/ovmf/PkKek-1-snakeoil.key"
	signingCertificate = "/usr/share/ovmf/PkKek-1-snakeoil.pem"
	signingPassword    = "snakeoil" // as the package documents
)

// signedKernel is the signed kernel of the live system, in the folder of a guest.
const signedKernel = "vmlinuz.signed"

func (o Options) firmware() firmware {
	if o.SecureBoot {
		return secureFirmware
	}
	return plainFirmware
}

// machine returns QEMU's type of machine.
func (o Options) machine() string {
	if o.SecureBoot {
		return "q35,smm=on"
	}
	return "q35"
}

// args returns QEMU's arguments for the firmware and its variables. The firmware does not
// boot from the network, which takes a minute where no disk boots. No device has a bootindex,
// because OVMF would order the boot entries by it.
func (f firmware) args(variables string) []string {
	args := []string{
		"-drive", "if=pflash,unit=0,format=raw,read-only=on,file=" + f.code,
		"-drive", "if=pflash,unit=1,format=raw,file=" + variables,
		"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no",
	}
	if f.isSecure {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	return args
}

// makeFirmware makes the variables of a new guest, and with Secure Boot its signed kernel.
func (vm *VM) makeFirmware(ctx context.Context) error {
	err := copyFile(vm.opts.firmware().variables, vm.path(variables))
	if errors.Is(err, fs.ErrNotExist) {
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "the lab lacks the firmware for guests: %w", err), "apt-get install ovmf")
	}
	if err != nil || !vm.opts.SecureBoot {
		return err
	}
	return Sign(ctx, vm.base.path(packedKernelFile), vm.path(signedKernel))
}

// Sign writes a signed copy of a program for firmware with Secure Boot (see Options). to may be
// the program itself.
func Sign(ctx context.Context, program, to string) error {
	if err := needTools(map[string]string{"sbsign": "sbsigntool", "openssl": "openssl"}); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	key := filepath.Join(dir, "key.pem")
	if _, err := tool(ctx, false, "openssl", "pkey", "-in", signingKey, "-passin", "pass:"+signingPassword, "-out", key); err != nil {
		return err
	}
	_, err = tool(ctx, false, "sbsign", "--key", key, "--cert", signingCertificate, "--output", to, program)
	return err
}
