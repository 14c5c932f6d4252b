//go:build root

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/gateway/connect"
	"github.com/trident-project/trident/internal/gateway/connect/connecttest"
)

// TestTheAgentsUnitConnectsTheHost installs the package with the agent into a booted
// container, enables its unit, and calls the host from trident listen.
func TestTheAgentsUnitConnectsTheHost(t *testing.T) {
	if tree := os.Getenv("TRIDENT_TRIXIE_TREE"); tree != "" && !exists(tree, "usr/bin/rpm") {
		t.Skipf("there is no rpm in %s", tree)
	}
	c := container{t, bootContainer(t, nil)}
	r := ready(t)
	tree := fmt.Sprintf("/proc/%d/root", c.init)
	if _, err := output(nil, nil, "cp", "-r", r.dir, filepath.Join(tree, "repo")); err != nil {
		t.Fatal(err)
	}
	install := func(version string) {
		t.Helper()
		c.sh("cd /repo && rpm -U trident-" + version + "-1.*.rpm trident-gateway-" + version + "-1.*.rpm")
	}
	c.sh("rpm -U /repo/systemd-stub.rpm")
	install(oldRPM)
	c.sh("systemctl start tridentd.socket")
	const state = "systemctl show --value -p ActiveState -p SubState -p Result trident-connect.service | sort | xargs"
	c.want("what the preset says", "systemctl is-enabled trident-gateway.service trident-connect.service || :", "disabled\ndisabled")
	c.sh("systemctl start trident-connect.service")
	c.want("the unit without a configuration", state, "dead inactive success")

	// A container shares the network of this process.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ca := connecttest.NewAuthority(t)
	listener, host := ca.Issue(connect.ServerName), ca.Issue("host-1")
	config := fmt.Sprintf("clientAddress: %s\nproxy: none\nrcpClientTls: {certFile: /etc/trident/host.crt, keyFile: /etc/trident/host.key, caFile: /etc/trident/ca.crt}\n", address)
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "site") }))
	t.Cleanup(files.Close)
	file := func(destination string) string {
		return fmt.Sprintf("additionalFiles: [{downloadUrl: '%s/f', destination: %s, mode: 0640}]\n", files.URL, destination)
	}
	for name, data := range map[string][]byte{
		"root/listener.crt": listener.Certificate, "root/listener.key": listener.Key, "root/hosts-ca.crt": ca.PEM,
		"etc/trident/host.crt": host.Certificate, "etc/trident/host.key": host.Key, "etc/trident/ca.crt": ca.PEM,
		"etc/trident/connect.yaml": []byte(config + file("relative")),
	} {
		if err := os.WriteFile(filepath.Join(tree, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	awaits := func(what, script, want string) {
		t.Helper()
		got := ""
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if got, _ = c.try(script); strings.Contains(got, want) {
				return
			}
		}
		t.Errorf("%s: %q has no %q:\n%s", what, got, want, c.sh("journalctl --no-pager -u trident-connect | tail -n 30"))
	}
	c.sh("systemctl enable --now trident-connect.service")
	awaits("a malformed configuration", state, "activating auto-restart exit-code")
	const log = "journalctl --no-pager -o cat -u trident-connect"
	awaits("a malformed configuration", log, "additionalFiles")
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(tree, "etc/trident/connect.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.sh("systemctl restart trident-connect.service")
	}
	configure(config + file("/srv/site/f"))
	awaits("a file for another folder", log, "hint: trident-connect.service may write to /etc/trident only.")
	configure(config + file("/etc/trident/site.conf"))
	listen := "timeout 60 trident listen " + address + " --certificate /root/listener.crt --key /root/listener.key --ca /root/hosts-ca.crt --host host-1"
	if out := c.sh(listen); !strings.Contains(out, "host-1") {
		t.Errorf("trident listen: %s", out)
	}
	c.want("the file that it has downloaded", "stat -c '%a %U' /etc/trident/site.conf; cat /etc/trident/site.conf", "640 root\nsite")
	c.want("tridentd, which nobody has called", "systemctl is-active tridentd.service || :", "inactive")
	calls := func(version string) {
		t.Helper()
		if out := c.sh(listen + " -- version"); !strings.Contains(out, "daemon: "+version) {
			t.Errorf("trident listen -- version: %s", out)
		}
	}
	calls(oldRPM)

	const pid = "p=$(systemctl show -P MainPID trident-connect.service); "
	c.want("privileges", pid+"sed -n 's/^\\(Uid\\|CapEff\\|CapBnd\\|NoNewPrivs\\|Seccomp\\):\\s*/\\1 /p' /proc/$p/status | tr '\\t' ' '",
		"Uid 0 0 0 0\nCapEff 0000000000000000\nCapBnd 0000000000000000\nNoNewPrivs 1\nSeccomp 2")
	c.want("the folders that it can write", pid+"for f in /etc/trident /etc /usr /var /root; do nsenter -t $p -m -- sh -c 'touch $0/w 2>/dev/null && rm $0/w && echo $0' $f; done || :", "/etc/trident")

	const invocation = "systemctl show -P InvocationID trident-connect.service"
	before := c.sh(invocation)
	install(newRPM)
	if c.sh(invocation) == before {
		t.Error("the upgrade of the package did not restart the agent")
	}
	calls(newRPM)
	c.sh("systemctl stop trident-connect.service")
	c.want("the unit after a stop", state, "dead inactive success")
	c.sh("systemctl start trident-connect.service && rpm -e trident-gateway")
	c.want("what an erase leaves", "systemctl is-active trident-connect.service; ls /etc/systemd/system/multi-user.target.wants | grep connect || :", "inactive")
}
