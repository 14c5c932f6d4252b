# rpm runs this when the files of the whole transaction are in place.
# trident-rescue deactivates a system extension of Trident that is not newer than the
# base. The image itself stays in the store.
if [ -L /var/lib/extensions/trident.raw ] && [ -x /usr/lib/trident/trident-rescue ]; then
	/usr/lib/trident/trident-rescue newest ||
		echo "trident: which of package and system extension is newer could not be settled; tridentd does it at its next start" >&2
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload

# --- come back
how=$(cat /run/trident/rpm-unmerged 2>/dev/null)
rm -f /run/trident/rpm-unmerged
case $how in
service)
	systemctl start systemd-sysext.service ||
		echo "trident: the system extensions could not be merged again; see: journalctl -u systemd-sysext.service" >&2
	;;
tool)
	systemd-run --quiet --collect --wait systemd-sysext merge ||
		echo "trident: the system extensions could not be merged again; try: systemd-sysext merge" >&2
	;;
esac
# --- come back ends

# The socket stays active during the restart, so no client is refused.
systemctl try-restart tridentd.service ||
	echo "trident: tridentd could not be restarted; see: journalctl -u tridentd.service" >&2
exit 0
