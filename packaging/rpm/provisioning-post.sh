# On a first install ($1 is 1) the distribution's preset decides whether the unit is enabled.
if [ "$1" -eq 1 ] && command -v systemctl >/dev/null; then
	systemctl --no-reload preset trident-network.service || echo "trident-network.service could not be preset" >&2
fi
exit 0
