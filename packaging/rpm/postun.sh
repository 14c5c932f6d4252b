# $1 is the number of versions of this package that stay: 0 on an erase.
# On an upgrade posttrans merges the system extensions again.
[ "$1" -eq 0 ] || exit 0
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
systemctl reset-failed tridentd.service tridentd.socket tridentd-resume.path trident-update.timer trident-update.service 2>/dev/null
rm -rf /run/trident
exit 0
