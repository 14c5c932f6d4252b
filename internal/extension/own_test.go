package extension

import "testing"

func TestOnlyOurOwnPathsAreAllowed(t *testing.T) {
	for path, want := range map[string]bool{
		"usr": true, "usr/bin": true, "usr/bin/trident": true, "usr/bin/tridentd": true, "usr/bin/trident2": false, "usr/bin/sh": false,
		"usr/bin/trident-gateway": true, "usr/lib/systemd/system/trident-gateway.service": true, "usr/lib/sysusers.d": true, "usr/lib/sysusers.d/trident-gateway.conf": true,
		"usr/lib/sysusers.d/trident-other.conf": false, "usr/lib/sysusers.d/basic.conf": false,
		"usr/lib/trident/trident-rescue": true, "usr/lib/trident/base.json": false, "usr/lib/trident/trust.d": false, "usr/lib/verity.d": false,
		"usr/lib/systemd/system/tridentd.socket": true, "usr/lib/systemd/system/sshd.service": false,
		"usr/lib/systemd/system/sockets.target.upholds/tridentd.socket": true, "usr/lib/systemd/system/sockets.target.upholds/x.socket": false,
		"usr/lib/systemd/system/sshd.service.d/trident.conf": false, "usr/lib/systemd/system/sshd.service.d": false,
		"usr/lib/systemd/system-generators/trident": false, "usr/lib/systemd/systemd": false,
		"usr/share/man/man1": true, "usr/share/man/man1/trident.1": true, "usr/share/man/man1/ls.1": false, "usr/share/man/man1/trident/x": false,
		"usr/share/doc/trident/README": true, "usr/share/doc/other": false, "usr/lib/os-release": false, "opt": false, "usr/lib/tmpfiles.d": false,
		"usr/share/licenses/trident": true, "usr/lib/extension-release.d/extension-release.trident": true,
		"usr/lib/extension-release.d/extension-release.other": false,
	} {
		if got := ownPath(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
