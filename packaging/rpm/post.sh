# $1 is the number of versions of this package that will be installed: 1 on a first install.
# A failed scriptlet would leave the transaction half done, so these never fail.
if [ "$1" -eq 1 ] && command -v systemctl >/dev/null; then
	systemctl --no-reload preset tridentd.socket tridentd-resume.path trident-update.timer ||
		echo "trident: the units could not be preset; enable tridentd.socket, tridentd-resume.path and trident-update.timer by hand" >&2
fi
exit 0
