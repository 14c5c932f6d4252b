//go:build outside

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/gateway/connect"
	"github.com/trident-project/trident/internal/gateway/connect/connecttest"
)

// The two ends of the wire between the network of the host and that of the operator.
const hostAddress, operatorAddress = "192.0.2.1", "192.0.2.2"

// elsewhere names, in the environment of the operator's side, the folder with its files.
const elsewhere = "TRIDENT_E2E_ELSEWHERE"

// mergesWithoutVerity has the systemd of the container merge an image as it is: the kernel of a
// test machine may have no dm-verity, and the container no udev. Trident has verified the
// image before. The device files of partitions need the kernel's own file system.
const mergesWithoutVerity = `set -e
mkdir -p /run/devices /run/systemd/system/systemd-sysext.service.d
mount --rbind /dev /run/devices
mount -t devtmpfs devtmpfs /dev
for name in pts shm; do mkdir -p /dev/$name && mount --bind /run/devices/$name /dev/$name; done
policy=--image-policy=root=unprotected+absent:usr=unprotected+absent
cat >/run/systemd/system/systemd-sysext.service.d/policy.conf <<END
[Service]
ExecStart=
ExecStart=systemd-sysext refresh $policy
ExecReload=
ExecReload=systemd-sysext refresh $policy
END
systemctl daemon-reload`

// TestAHostIsReachedFromElsewhere has a host and an operator in two networks with a wire
// between them. The host is a booted container with the packages; its tridentd, gateway and
// agent run by their units, and OpenSSH's server beside them. TestElsewhere is the operator.
func TestAHostIsReachedFromElsewhere(t *testing.T) {
	home, away := newNetwork(t, hosts...), newNetwork(t)
	connectNetworks(t, home, away)
	p, c := built(t), bootHost(home)
	tree := fmt.Sprintf("/proc/%d/root", c.init)
	c.sh("cd /repo && rpm -U trident-gateway-" + outsideVersion + "-1.*.rpm && systemctl daemon-reload")
	c.sh(mergesWithoutVerity)
	copyTo(t, imageWithGateway(t), tree+"/root/trident.raw")
	dir, err := os.MkdirTemp("", "away-") // not so deep that a socket in there has too long a path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	c.sh("trident-gateway setup --name " + hostAddress + " --listen " + hostAddress + ":7443 && systemctl enable --now trident-gateway.service")
	for _, name := range []string{"ca.crt", "clients/admin.crt", "clients/admin.key"} {
		copyTo(t, filepath.Join(tree, "etc/trident/gateway", name), filepath.Join(dir, filepath.Base(name)))
	}

	ca := connecttest.NewAuthority(t)
	listener := ca.Issue(connect.ServerName)
	for name, data := range map[string][]byte{"listener.crt": listener.Certificate, "listener.key": listener.Key, "hosts-ca.crt": ca.PEM} {
		put(t, filepath.Join(dir, name), data)
	}
	// The second agent is for the plain client: an agent has one connection at a time.
	for _, name := range []string{"host-1", "host-2"} {
		pair := ca.Issue(name)
		put(t, tree+"/etc/trident/"+name+".crt", pair.Certificate)
		put(t, tree+"/etc/trident/"+name+".key", pair.Key)
		put(t, tree+"/etc/trident/listener-ca.crt", ca.PEM)
		put(t, tree+"/etc/trident/"+name+".yaml", fmt.Appendf(nil, "clientAddress: %s:7443\nrcpClientTls: {certFile: /etc/trident/%s.crt, keyFile: /etc/trident/%[2]s.key, caFile: /etc/trident/listener-ca.crt}\n",
			operatorAddress, name))
	}
	c.sh("mv /etc/trident/host-1.yaml /etc/trident/connect.yaml && systemctl enable --now trident-connect.service")
	c.sh("systemd-run --quiet --unit=second-agent trident-gateway connect -c /etc/trident/host-2.yaml")

	startRemoteShell(t, home, c.init, dir)
	operator := exec.Command("nsenter", "-t", fmt.Sprint(away.pid), "-n", "--", os.Args[0], "-test.v", "-test.timeout=14m", "-test.run=^TestElsewhere$")
	operator.Env = append(os.Environ(), elsewhere+"="+dir, fmt.Sprintf("TRIDENT_E2E_INIT=%d", c.init), fmt.Sprintf("TRIDENT_E2E_SOCKET=%s/run/trident/trident.sock", tree), "TRIDENT_E2E_TRIDENT="+p.trident)
	out, err := operator.CombinedOutput()
	t.Logf("the operator:\n%s", out)
	// No process holds the file systems of the versions that ran before.
	c.want("loop devices", "losetup --list --noheadings --output BACK-FILE | grep /trident/ || true", "")
	if err != nil || !strings.Contains(string(out), "--- PASS: TestElsewhere") {
		t.Errorf("the operator: %v", err)
		t.Log(c.sh("journalctl --no-pager -u tridentd -u trident-gateway -u trident-connect -u second-agent -u systemd-sysext -n 200"))
	}
}

// imageWithGateway makes an image of the next version that contains the gateway.
func imageWithGateway(t *testing.T) string {
	t.Helper()
	image, err := output(&root, []string{"TRIDENT_SYSEXT_GATEWAY=1"}, "packaging/sysext", outsideNext, runtime.GOARCH, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(image)
}

// connectNetworks lays a wire between two networks.
func connectNetworks(t *testing.T, home, away *network) {
	t.Helper()
	in := func(n *network, args ...string) {
		t.Helper()
		if _, err := output(nil, nil, append([]string{"nsenter", "-t", fmt.Sprint(n.pid), "-n", "--", "ip"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	in(home, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", fmt.Sprint(away.pid))
	for n, address := range map[*network]string{home: hostAddress, away: operatorAddress} {
		in(n, "address", "add", address+"/24", "dev", "wire")
		in(n, "link", "set", "wire", "up")
	}
}

// startRemoteShell starts OpenSSH's server in the network of the host, and among the processes
// of the container, and writes ssh_config for its one user. The container has no such server:
// the one of this machine runs, with the files of this machine.
func startRemoteShell(t *testing.T, home *network, init int, dir string) {
	t.Helper()
	for _, key := range []string{"host", "user"} {
		sshRun(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key))
	}
	for from, to := range map[string]string{"host.pub": "known_hosts", "user.pub": "authorized_keys"} {
		text, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			t.Fatal(err)
		}
		if to == "known_hosts" {
			text = append([]byte(hostAddress+" "), text...)
		}
		put(t, filepath.Join(dir, to), text)
	}
	put(t, filepath.Join(dir, "ssh_config"), fmt.Appendf(nil, "IdentityFile %s/user\nIdentitiesOnly yes\nUserKnownHostsFile %[1]s/known_hosts\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n", dir))
	put(t, filepath.Join(dir, "sshd_config"), fmt.Appendf(nil, "ListenAddress %s\nHostKey %s/host\nAuthorizedKeysFile %[2]s/authorized_keys\nStrictModes no\nPidFile none\nUsePAM no\n"+
		"PasswordAuthentication no\nPermitRootLogin yes\nSetEnv PATH=/proc/%d/root/usr/bin:/usr/bin:/bin\n", hostAddress, dir, init))
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // for privilege separation
		t.Fatal(err)
	}
	server := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", home.pid), fmt.Sprintf("--pid=/proc/%d/ns/pid", init), "--",
		"/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	var log strings.Builder
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Kill(childOf(t, server.Process.Pid), unix.SIGTERM); err != nil {
			t.Error(err)
		}
		_ = server.Wait() // 255 after a signal
		if t.Failed() {
			t.Logf("sshd:\n%s", log.String())
		}
	})
	for {
		conn, err := home.dial(hostAddress + ":22")
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("sshd does not listen: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	put(t, to, data)
}
