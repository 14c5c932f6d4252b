[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
# After an upgrade ($1 is 1) the new program serves and connects; callers connect again.
[ "$1" -eq 0 ] || systemctl try-restart trident-gateway.service trident-connect.service || echo "the units of trident-gateway could not be restarted" >&2
exit 0
