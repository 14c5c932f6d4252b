//go:build outside

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// buildPackages makes the RPMs of [outsideVersion] once for all tests, in a folder.
var buildPackages = sync.OnceValues(func() (dir string, err error) {
	dir, err = filepath.Abs(filepath.Join(root, "dist/test-outside/rpm"))
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return "", err
	}
	if err := stub(filepath.Join(dir, "systemd-stub.rpm")); err != nil {
		return "", err
	}
	made, err := output(&root, nil, "go", "run", "./packaging/build", "rpm", "-version", outsideVersion, "-arch", runtime.GOARCH)
	if err != nil {
		return "", err
	}
	_, err = output(&root, nil, append(append([]string{"cp"}, strings.Fields(made)...), dir)...)
	return dir, err
})

// bootHost boots a container in the network, with the packages of [outsideVersion]
// installed by rpm, and the socket of tridentd started.
func bootHost(n *network) container {
	t := n.t
	t.Helper()
	if tree := os.Getenv("TRIDENT_TRIXIE_TREE"); tree != "" && !exists(tree, "usr/bin/rpm") {
		t.Skipf("there is no rpm in %s", tree)
	}
	packages, err := buildPackages()
	if err != nil {
		t.Fatal(err)
	}
	init := bootContainer(t, []string{"nsenter", "-t", fmt.Sprint(n.pid), "-n", "--"})
	if _, err := output(nil, nil, "cp", "-r", packages, fmt.Sprintf("/proc/%d/root/repo", init)); err != nil {
		t.Fatal(err)
	}
	c := container{t, init}
	c.sh(fmt.Sprintf(`echo '127.0.0.1 localhost %s' >/etc/hosts
cd /repo && rpm -U systemd-stub.rpm trident-%s-1.*.rpm trident-service-%[2]s-1.*.rpm
systemctl daemon-reload && systemctl start tridentd.socket`, strings.Join(hosts, " "), outsideVersion))
	return c
}

// ends runs a command and checks that it ends with that code and, if it is not 0, one
// sentence. It returns what the command printed.
func (c container) ends(command string, code int, words string) string {
	c.Helper()
	stdout, err := c.try("{ " + command + "\n} 2>/root/stderr; echo $? >/root/code")
	if err != nil {
		c.Fatalf("%s: %v", command, err)
	}
	r := result{out: stdout, stderr: c.sh("cat /root/stderr")}
	if _, err := fmt.Sscan(c.sh("cat /root/code"), &r.code); err != nil {
		c.Fatalf("%s: %v", command, err)
	}
	verdict{code, words, 0}.check(c.T, command, r, 0)
	return stdout
}

func TestTheFaultOfAHostIsSaidBeforeAnythingIsFetched(t *testing.T) {
	n := newNetwork(t, hosts...)
	d, _ := serveFiles(t, n, fileServers()[0])
	c := bootHost(n)
	image := "http://images.example" + d.port() + "/trident.raw"
	requests := func(t *testing.T, most int) {
		t.Helper()
		if n := d.count(); n > most {
			t.Errorf("%d requests, want %d at most", n, most)
		}
	}
	// on runs a test on a host with another file system, or another view of it, in a
	// place. The daemon is stopped before and after, and starts by the next call.
	on := func(name, place, mount string, test func(c container)) {
		t.Run(name, func(t *testing.T) {
			c := container{t, c.init}
			c.sh("systemctl stop tridentd.service\nmkdir -p " + place + "\n" + mount)
			defer c.sh("systemctl stop tridentd.service; systemctl reset-failed tridentd.service; umount -l " + place)
			test(c)
		})
	}
	t.Run("a /usr that is the package manager's", func(t *testing.T) {
		c := container{t, c.init}
		c.ends("trident self upgrade "+image, 2, "/usr is writable.*\nhint: .*--allow-read-only-usr")
		c.sh("touch /usr/here && rm /usr/here")
		requests(t, 0)
	})
	on("/var without programs", "/var", "mount --bind /var /var && mount -o remount,bind,noexec /var", func(c container) {
		for _, command := range []string{"trident self stage ", "trident self upgrade --allow-read-only-usr "} {
			c.ends(command+image, 2, "/var/lib/trident/self is mounted noexec.*\nhint: mount the file system without noexec")
		}
		requests(c.T, 0)
	})
	on("/var read-only", "/var", "printf 'os: {}\n' >/root/host.yaml; mount --bind /var /var && mount -o remount,bind,ro /var", func(c container) {
		for _, command := range []string{"self stage " + image, "self status", "update /root/host.yaml", "get status", "operation list", "commit", "rollback"} {
			c.ends("trident "+command, 2, "datastore.sqlite: read-only file system\nhint: find out why that file system is read-only.*remount,rw")
		}
		requests(c.T, 0)
		if n := c.sh("systemctl show -P NRestarts tridentd.service"); len(n) > 1 {
			c.Errorf("tridentd was restarted %s times", n)
		}
	})
	on("/var with little room", "/var/lib/trident", "mount -t tmpfs -o size=16M,mode=700 tmpfs /var/lib/trident", func(c container) {
		c.ends("trident self stage "+image, 2, "more bytes are needed in /var/lib/trident/self, [0-9]+ are free")
		requests(c.T, 1) // only the server knows the size
		c.want("what is left", "find /var/lib/trident/self -mindepth 1", "")
	})
	const full = `mount -t tmpfs -o size=16M,mode=700 tmpfs /var/lib/trident
timeout 60 trident operation list >/dev/null
cat /dev/zero >/var/lib/trident/fill 2>/dev/null || :
printf 'os:\n  additionalFiles:\n  - {destination: /etc/here, content: x}\n' >/root/host.yaml`
	on("/var without room", "/var/lib/trident", full, func(c container) {
		c.ends("trident self stage "+image, 2, "no space left on device")
		c.ends("trident update /root/host.yaml", 2, "no space left on device")
		requests(c.T, 0)
		c.want("operations", "trident operation list --output json | tr -d ' \n'", `{"operations":[]}`)
		c.want("the file", "test -e /etc/here || echo no", "no")
		c.sh("rm /var/lib/trident/fill; trident update /root/host.yaml && cat /etc/here")
	})
}

// The umask of tridentd.service is 0077; what others have to read is not made by it.
func TestFoldersHaveTheirModesUnderTheUmaskOfTheUnit(t *testing.T) {
	n := newNetwork(t, hosts...)
	d, _ := serveFiles(t, n, fileServers()[0])
	c := bootHost(n)
	c.sh(`cat >/root/host.yaml <<'END'
os:
  additionalFiles:
  - {destination: /etc/a/b/inline, content: one}
  - {destination: /opt/a/b/key, source: /root/key}
  - {destination: /opt/a/b/tool, source: /root/tool}
scripts:
  postConfigure:
  - {name: makes, runOn: [runtime-update], content: mkdir /opt/made; touch /opt/made/file}
END
echo secret >/root/key; chmod 600 /root/key
echo tool >/root/tool; chmod 755 /root/tool
trident update /root/host.yaml`)
	// There is no dm-verity in a container: what was made for the merge is there all the same.
	c.ends("trident self upgrade --allow-read-only-usr http://images.example"+d.port()+"/trident.raw", 2, "merge extensions")
	const list = `cd / && stat -c '%a %U:%G /%n' etc/a etc/a/b etc/a/b/inline opt/a opt/a/b opt/a/b/key opt/a/b/tool opt/made opt/made/file \
	var/lib/extensions var/lib/trident var/lib/trident/self run/trident run/trident/trident.sock`
	c.want("modes", list, strings.TrimSpace(`
755 root:root /etc/a
755 root:root /etc/a/b
664 root:root /etc/a/b/inline
755 root:root /opt/a
755 root:root /opt/a/b
600 root:root /opt/a/b/key
755 root:root /opt/a/b/tool
755 root:root /opt/made
644 root:root /opt/made/file
755 root:root /var/lib/extensions
700 root:root /var/lib/trident
700 root:root /var/lib/trident/self
755 root:root /run/trident
600 root:root /run/trident/trident.sock`))
}

// The image of the ring is built under the umask 027.
func TestAnImageIsTheSameByAnyUmask(t *testing.T) {
	p := built(t)
	listing, err := output(nil, nil, p.trident, "sysext", "inspect", p.image)
	if err != nil {
		t.Fatal(err)
	}
	_, files, _ := strings.Cut(listing, "MODE ")
	lines := strings.Split(strings.TrimSpace(files), "\n")[1:]
	for _, line := range lines {
		if mode, _, _ := strings.Cut(line, " "); !slices.Contains([]string{"drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--", "Lrwxrwxrwx"}, mode) {
			t.Error(line)
		}
	}
	if len(lines) < 10 {
		t.Errorf("files:\n%s", listing)
	}
	if _, err := output(nil, nil, p.trident, "sysext", "verify", p.image, "--trust", p.cert); err != nil {
		t.Error(err)
	}
}
