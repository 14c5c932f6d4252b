# On an erase ($1 is 0) disable and stop the units.
if [ "$1" -eq 0 ] && command -v systemctl >/dev/null; then
	systemctl --no-reload disable trident-gateway.service trident-connect.service || echo "the units of trident-gateway could not be disabled" >&2
	[ ! -d /run/systemd/system ] || systemctl stop trident-gateway.service trident-gateway-wake.path trident-connect.service || echo "the units of trident-gateway could not be stopped" >&2
fi
exit 0
