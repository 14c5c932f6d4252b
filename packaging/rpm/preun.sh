# $1 is the number of versions of this package that stay: 0 on an erase.
[ "$1" -eq 0 ] || exit 0
command -v systemctl >/dev/null || exit 0

systemctl --no-reload disable tridentd.socket tridentd-resume.path trident-update.timer
# Stop the timer and the path unit first: they would start the service again.
stop_units() { systemctl stop trident-update.timer tridentd-resume.path tridentd.socket tridentd.service 'trident-rescue*'; }
if [ -d /run/systemd/system ]; then
	# A daemon that runs an operation, or the rescuer, would restore the extension.
	stop_units 2>/dev/null || echo "trident: the units could not be stopped yet" >&2
fi

# Delete only Trident's own link, not another file of that name.
case $(readlink /var/lib/extensions/trident.raw 2>/dev/null) in
*trident/self/*) rm -f /var/lib/extensions/trident.raw ;;
esac
rm -f /etc/systemd/system/trident-rescue* /etc/systemd/system/*.wants/trident-rescue*

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

if [ -d /run/systemd/system ]; then
	# The merged extension upheld the units (Upholds=), so systemd has started them
	# again. After the reload it does not.
	systemctl daemon-reload
	stop_units || echo "trident: the units could not be stopped" >&2
	# systemd keeps the time of the last run of a persistent timer.
	systemctl clean --what=state trident-update.timer 2>/dev/null
fi
exit 0
