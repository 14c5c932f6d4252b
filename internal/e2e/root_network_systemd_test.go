//go:build root

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// udevScript has udevd run, to which netplan talks: it does not by itself where /sys is
// read-only. It sees the devices of the container's network only.
const udevScript = `for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket; do
	mkdir -p /run/systemd/system/$unit.d
	printf '[Unit]\nConditionPathIsReadWrite=\n' >/run/systemd/system/$unit.d/sys.conf
done
systemctl daemon-reload
systemctl start systemd-udevd.service
`

// netplan makes devices, renames them and talks to systemd, udevd and systemd-networkd,
// all of it in the sandbox of the unit.
func TestTheNetworkUnitSetsUpANetworkInItsSandbox(t *testing.T) {
	if tree := os.Getenv("TRIDENT_TRIXIE_TREE"); tree != "" && !exists(tree, "usr/sbin/netplan") {
		t.Skipf("there is no netplan in %s", tree)
	}
	init := bootContainer(t, nil, "--private-network")
	r := ready(t)
	if _, err := output(nil, nil, "cp", "-r", r.dir, filepath.Join(fmt.Sprintf("/proc/%d/root", init), "repo")); err != nil {
		t.Fatal(err)
	}
	c := container{t, init}
	c.sh("cd /repo && rpm -U systemd-stub.rpm trident-" + newRPM + "-1.*.rpm trident-service-" + newRPM + "-1.*.rpm trident-provisioning-" + newRPM + "-1.*.rpm")
	c.sh(udevScript + `
ip link add before type veth peer name member
mkdir -p /etc/trident
cat >/etc/trident/config.yaml <<END
managementOs:
  netplan:
    version: 2
    renderer: networkd
    ethernets:
      lan:
        match: {name: before}
        set-name: lan0
        addresses: [192.0.2.3/24]
        routes: [{to: 198.51.100.0/24, via: 192.0.2.1}]
      member: {}
    bridges:
      br0: {interfaces: [member], addresses: [203.0.113.7/24]}
END
systemctl start trident-network.service || { journalctl --no-pager -o cat -u trident-network.service; exit 1; }
timeout 60 sh -c 'until ip -o route | grep -q 198.51.100.0/24 && ip -o -4 address | grep -q 203.0.113.7; do sleep 0.2; done' || { ip -o address; networkctl --no-pager; exit 1; }`)
	c.want("how the unit ended", "systemctl show -P Result trident-network.service", "success")
	c.want("addresses", "ip -o -4 address show scope global | awk '{print $2, $4}' | sort", "br0 203.0.113.7/24\nlan0 192.0.2.3/24")
	c.want("routes", "ip -o route show 198.51.100.0/24 | awk '{print $3, $5}'", "192.0.2.1 lan0")
}
