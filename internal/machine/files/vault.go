package files

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// lockedFiles are single files that nobody gets below any tree, and lockedTrees are patterns of
// folders and files of which nobody gets anything: passwords, private keys, and the settings
// of Trident, which have tokens.
func lockedFiles() []string {
	return []string{"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd", "/etc/krb5.keytab", "/etc/ipsec.secrets"}
}

func lockedTrees() []string {
	return []string{
		"/etc/trident", "/var/lib/trident", "/run/trident",
		"/etc/ssh/ssh_host_*_key", "/etc/ssl/private", "/etc/pki/*/private", "/etc/letsencrypt", "/etc/wireguard",
		"/etc/NetworkManager/system-connections", "/etc/cryptsetup-keys.d", "/run/cryptsetup-keys.d",
		"/etc/credstore", "/etc/credstore.encrypted", "/usr/lib/credstore", "/usr/lib/credstore.encrypted", "/run/credstore", "/run/credentials",
		"/boot/loader/random-seed", "/efi/loader/random-seed", "/boot/efi/loader/random-seed",
		"/boot/loader/credentials", "/efi/loader/credentials", "/boot/efi/loader/credentials", "/root", "/home/*/.ssh",
		"/var/lib/systemd/credential.secret", "/var/lib/systemd/random-seed",
	}
}

// keyNames are patterns of names that private keys have. Such a file is locked unless all
// users of the host may read it.
func keyNames() []string { return []string{"*.key", "*_key", "*.keytab", "*.p12", "*.pfx"} }

// A vault knows the files of a host that nobody gets.
type vault struct {
	root  string // the real path of the root folder of the host, "" for /
	files map[[2]uint64]bool
}

// newVault finds the locked files below the open folder root, also to recognise their other
// names (hard links, bind mounts).
func newVault(root int) (*vault, error) {
	real, err := realPath(root)
	if err != nil {
		return nil, err
	}
	v := &vault{root: strings.TrimSuffix(real, "/"), files: map[[2]uint64]bool{}}
	for _, name := range lockedFiles() {
		fd, err := openAt(root, name[1:], 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
		if err != nil {
			continue // it does not exist
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			v.files[[2]uint64{st.Dev, st.Ino}] = true
		}
		_ = unix.Close(fd)
	}
	return v, nil
}

// examine makes a node of an open file, which it closes if it fails. The content of a locked
// node cannot be opened.
func (v *vault) examine(fd int, name string) (_ *node, err error) {
	n := &node{fd: fd, path: name}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := unix.Fstat(fd, &n.st); err != nil {
		return nil, explain(name, name, err)
	}
	real, err := realPath(fd)
	if err != nil {
		return nil, err
	}
	below, ok := strings.CutPrefix(real, v.root)
	if !ok || !strings.HasPrefix(below, "/") { // deleted, or moved out of the host's tree
		return nil, errkind.Errorf(errkind.Denied, "%s was moved while it was examined", name)
	}
	n.real = below
	if v.isLocked(n) {
		n.lock = errkind.Errorf(errkind.Denied, "%s: nobody may read it: it has passwords or private keys of the host or of Trident", name)
	}
	return n, nil
}

func (v *vault) isLocked(n *node) bool {
	if v.files[[2]uint64{n.st.Dev, n.st.Ino}] {
		return true
	}
	for _, tree := range append(lockedTrees(), lockedFiles()...) {
		// Compare as many parts as the pattern has.
		depth, end := strings.Count(tree, "/"), len(n.real)
		for i, seen := 0, 0; i < len(n.real); i++ {
			if n.real[i] == '/' {
				if seen++; seen == depth+1 {
					end = i
					break
				}
			}
		}
		if ok, _ := path.Match(tree, n.real[:end]); ok {
			return true
		}
	}
	if !n.isRegular() || n.st.Mode&0o004 != 0 {
		return false
	}
	for _, pattern := range keyNames() {
		if ok, _ := path.Match(pattern, path.Base(n.real)); ok {
			return true
		}
	}
	return false
}
