package grubcfg

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// With returns k without the arguments whose keys, the parts before "=", are in drop, and
// with the arguments add at the end.
func (k Kernel) With(drop, add []string) Kernel {
	k.Args = slices.DeleteFunc(slices.Clone(k.Args), func(arg string) bool {
		key, _, _ := strings.Cut(arg, "=")
		return slices.Contains(drop, key)
	})
	k.Args = append(k.Args, add...)
	return k
}

// SplitArgs splits arguments as the kernel does: at spaces outside of double quotes. The
// result has no quotes, as [Kernel].Args: GRUB adds them for words with spaces.
func SplitArgs(text string) []string {
	var out []string
	var word strings.Builder
	quoted, begun := false, false
	for _, r := range text {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case !quoted && (r == ' ' || r == '\t' || r == '\n'):
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		out = append(out, word.String())
	}
	return out
}

// maxCmdline is how many bytes of arguments a kernel reads: COMMAND_LINE_SIZE of x86 and of
// arm64 is 2048, with the end.
const maxCmdline = 2047

// Config returns the configuration of GRUB that boots k from the file system with the UUID
// fsUUID, in which /boot is the folder. If GRUB cannot boot it, GRUB reboots the host,
// which ends a trial; GRUB never waits for a person.
func (k Kernel) Config(fsUUID, folder string) (string, error) {
	if err := k.check(); err != nil {
		return "", err
	}
	if n := len(strings.Join(k.Args, " ")); n > maxCmdline {
		return "", errkind.Errorf(errkind.TooLarge, "the command line of the kernel has %d bytes, and the kernel reads %d", n, maxCmdline)
	}
	var out strings.Builder
	line := func(words ...string) {
		for i, w := range words {
			words[i] = quote(w)
		}
		fmt.Fprintln(&out, strings.Join(words, " "))
	}
	fmt.Fprintln(&out, "# Trident writes this file. Each update of the slot replaces it.")
	line("search", "--no-floppy", "--fs-uuid", "--set=root", fsUUID)
	line(append([]string{"linux", path.Join("/", folder, k.Linux)}, k.Args...)...)
	if len(k.Initrds) > 0 {
		words := []string{"initrd"}
		for _, name := range k.Initrds {
			words = append(words, path.Join("/", folder, name))
		}
		line(words...)
	}
	line("boot")
	// Only a failure leads here. A reboot ends a trial, as BootNext has gone. GRUB's exit alone
	// would not: many builds return success whatever their argument, and then firmware may show
	// its menu (UEFI 2.10, 3.1.1). It is for a GRUB without the command reboot.
	line("reboot")
	line("exit", "1")
	return out.String(), nil
}

// quote returns w as one word of GRUB's language.
func quote(w string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_./:=,@%+-", r)
	}
	if w != "" && !strings.ContainsFunc(w, func(r rune) bool { return !plain(r) }) {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}
