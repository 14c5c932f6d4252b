package luks

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
)

const (
	cryptsetup  = "cryptsetup"
	cryptenroll = "systemd-cryptenroll"
	// iterations of PBKDF2. They slow down an attacker who guesses passphrases; a key of
	// this package is random, and nobody guesses 256 bits.
	iterations = "1000"
	// dataSectors is the size of the header in sectors of 512 bytes: 16 MiB.
	dataSectors = "32768"
	keyFile     = "--key-file=/dev/stdin"
)

// Host is the Manager of this host.
type Host struct {
	// Run runs a tool. Nil means [run.Output].
	Run func(context.Context, run.Command) ([]byte, error)
	// TPM is the TPM for systemd-cryptenroll(1), as its option --tpm2-device names it; ""
	// means the TPM of the machine.
	TPM string
	// Root has dev and sys. Nil means the root folder.
	Root fs.FS
}

var _ Manager = Host{}

// tool runs a tool with key on its standard input.
func (h Host) tool(ctx context.Context, key Key, name string, args ...string) error {
	use := h.Run
	if use == nil {
		use = run.Output
	}
	_, err := use(ctx, run.Command{Path: name, Args: args, Stdin: bytes.NewReader(key)})
	if exit, ok := errors.AsType[*run.ExitError](err); ok && name == cryptsetup && exit.Status == "exit status 2" {
		return errkind.Errorf(errkind.Denied, "the key opens no key slot") // cryptsetup(8), RETURN CODES
	}
	return err
}

// Format implements [Manager].
func (h Host) Format(ctx context.Context, v Volume, key Key) error {
	err := h.tool(ctx, key, cryptsetup, "luksFormat", "--batch-mode", "--type=luks2", "--cipher=aes-xts-plain64", "--key-size=512",
		"--hash=sha512", "--pbkdf=pbkdf2", "--pbkdf-force-iterations="+iterations, "--offset="+dataSectors, "--key-slot=0",
		"--uuid="+v.UUID, keyFile, v.Device)
	return describe(err, "encrypt", v)
}

// Open implements [Manager].
func (h Host) Open(ctx context.Context, v Volume, key Key) error {
	is, err := h.isOpen(v.Name)
	if err != nil || is != "" {
		if want := "CRYPT-LUKS2-" + strings.ReplaceAll(v.UUID, "-", "") + "-"; err == nil && !strings.HasPrefix(is, want) {
			err = errkind.Errorf(errkind.Precondition, "/dev/mapper has another volume of this name")
		}
		return describe(err, "open", v)
	}
	return describe(h.tool(ctx, key, cryptsetup, "open", "--type=luks2", keyFile, v.Device, v.Name), "open", v)
}

// isOpen returns the UUID that the kernel has for the device named name, or "".
func (h Host) isOpen(name string) (string, error) {
	root := h.Root
	if root == nil {
		root = os.DirFS("/")
	}
	all, err := fs.Glob(root, "sys/block/dm-*/dm/name")
	if err != nil {
		return "", err
	}
	for _, file := range all {
		got, err := fs.ReadFile(root, file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be closed meanwhile
			return "", err
		}
		if err == nil && strings.TrimSpace(string(got)) == name {
			uuid, err := fs.ReadFile(root, path.Join(path.Dir(file), "uuid"))
			return cmp.Or(strings.TrimSpace(string(uuid)), "none"), err
		}
	}
	return "", nil
}

// Close implements [Manager].
func (h Host) Close(ctx context.Context, v Volume) error {
	if is, err := h.isOpen(v.Name); err != nil || is == "" {
		return describe(err, "close", v)
	}
	return describe(h.tool(ctx, nil, cryptsetup, "close", v.Name), "close", v)
}

// Test implements [Manager].
func (h Host) Test(ctx context.Context, v Volume, key Key) error {
	return describe(h.tool(ctx, key, cryptsetup, "open", "--test-passphrase", "--type=luks2", keyFile, v.Device), "test a key of", v)
}

// Enroll implements [Manager].
func (h Host) Enroll(ctx context.Context, v Volume, key Key, to Binding) (token int, err error) {
	before, err := h.Header(ctx, v.Device)
	if err != nil {
		return 0, err
	}
	if n, ok := before.Bound(to); ok {
		return n, nil
	}
	if err := h.enroll(ctx, v, key, to); err != nil {
		return 0, describe(err, "bind to the TPM the volume", v)
	}
	after, err := h.Header(ctx, v.Device)
	if err != nil {
		return 0, err
	}
	for _, t := range after.Tokens {
		if _, had := before.Token(t.Number); !had && t.Type == tpmToken {
			return t.Number, nil
		}
	}
	return 0, describe(errkind.Errorf(errkind.Internal, "%s has added no token", cryptenroll), "bind to the TPM the volume", v)
}

func (h Host) enroll(ctx context.Context, v Volume, key Key, to Binding) error {
	device := cmp.Or(h.TPM, "auto")
	unlock := "--unlock-key-file=/dev/stdin"
	if key == nil {
		unlock = "--unlock-tpm2-device=" + device
	} else if err := h.Test(ctx, v, key); err != nil {
		return err
	}
	// Without these two empty options, the tool binds to a policy or a public key that it finds.
	err := h.tool(ctx, key, cryptenroll, v.Device, unlock, "--tpm2-device="+device, "--tpm2-pcrlock=", "--tpm2-public-key=", to.argument())
	if exit, ok := errors.AsType[*run.ExitError](err); ok && key == nil {
		return errkind.Errorf(errkind.Denied, "the TPM in its present state does not open it, or cannot be used: %w", exit)
	}
	return err
}

// Wipe implements [Manager]. The token is removed last, so that a repetition finds its slots.
func (h Host) Wipe(ctx context.Context, v Volume, token int) error {
	head, err := h.Header(ctx, v.Device)
	if err != nil {
		return err
	}
	t, ok := head.Token(token)
	if !ok {
		return nil
	}
	for _, s := range t.Slots {
		if err := h.KillSlot(ctx, v, s); err != nil {
			return err
		}
	}
	return describe(h.tool(ctx, nil, cryptsetup, "token", "remove", "--token-id="+strconv.Itoa(token), v.Device), "remove a token of", v)
}

// KillSlot implements [Manager].
func (h Host) KillSlot(ctx context.Context, v Volume, slot int) error {
	head, err := h.Header(ctx, v.Device)
	if err != nil || !slices.Contains(head.Slots, slot) {
		return err
	}
	if err := head.MayKill(slot); err != nil {
		return describe(err, "remove a key slot of", v)
	}
	return describe(h.tool(ctx, nil, cryptsetup, "luksKillSlot", "--batch-mode", v.Device, strconv.Itoa(slot)), "remove a key slot of", v)
}

// MayKill returns an error of kind Precondition if slot is the last key slot.
func (h Header) MayKill(slot int) error {
	if len(h.Slots) > 1 {
		return nil
	}
	return errkind.Errorf(errkind.Precondition, "slot %d is the last key slot, and nothing would open the volume", slot)
}

// describe adds to err what was done, and to which volume.
func describe(err error, what string, v Volume) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s (%s): %w", what, v.Name, v.Device, err)
}
