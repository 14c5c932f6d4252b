# The user comes from /usr/lib/sysusers.d/trident-gateway.conf.
if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers trident-gateway.conf || echo "the user trident-gateway could not be made" >&2
fi
# On a first install ($1 is 1) the distribution's preset decides which units are enabled.
if [ "$1" -eq 1 ] && command -v systemctl >/dev/null; then
	systemctl --no-reload preset trident-gateway.service trident-connect.service || echo "the units of trident-gateway could not be preset" >&2
fi
exit 0
