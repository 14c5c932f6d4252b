-- rpm runs this before it checks the file systems. While a system extension is merged
-- /usr is read-only, and rpm would fail ("needs more space on /usr").
-- In Lua, because on a first install into an empty tree there is no shell yet.
if posix.stat("/run/systemd/system") and posix.access("/bin/sh", "x") then
	os.execute([[
# --- step aside
# Ask PID 1, and read its mount table: a scriptlet has a mount namespace of its own, with
# a /usr of its own.
merged() { grep -q ' - overlay sysext ' /proc/1/mountinfo; }
if test -d /run/systemd/system && merged; then
	mkdir -p /run/trident
	if test "$(systemctl show -P ActiveState systemd-sysext.service)" = active; then
		echo service >/run/trident/rpm-unmerged
		systemctl stop systemd-sysext.service
	fi
	if merged; then
		test -e /run/trident/rpm-unmerged || echo tool >/run/trident/rpm-unmerged
		systemd-run --quiet --collect --wait systemd-sysext unmerge
	fi
	if merged; then
		echo "trident: the system extensions cannot be unmerged, so /usr stays read-only; see: journalctl -u systemd-sysext.service" >&2
	fi
fi
# --- step aside ends
]])
end
