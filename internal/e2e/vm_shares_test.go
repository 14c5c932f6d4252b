//go:build vm

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/proto/client"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// sharePassword has what mount.cifs(8), systemd and a shell read in another way than as it is.
const sharePassword = `open, sesame=100% \ "now"`

// serversScript serves a folder by NFS and another by SMB, for the guest itself. It unmasks what
// the guests of other scenarios do without.
const serversScript = `set -e
rm /etc/systemd/system/systemd-logind.service /etc/systemd/system/remote-fs.target
mkdir -p /srv/export /srv/team /etc/systemd/system/smbd.service.d
echo exported >/srv/export/file
echo '/srv/export 127.0.0.1(rw,no_subtree_check)' >/etc/exports
cat >/etc/samba/smb.conf <<END
[global]
server role = standalone server
interfaces = lo
bind interfaces only = yes
disable netbios = yes
smb ports = 445
disable spoolss = yes
load printers = no
[team]
path = /srv/team
read only = no
END
# A boot mounts shares after the servers of this host have started, as nfs-server.service does it.
printf '[Unit]\nWants=remote-fs-pre.target\nBefore=remote-fs-pre.target\n' >/etc/systemd/system/smbd.service.d/first.conf
useradd --no-create-home --shell /usr/sbin/nologin ann
chown ann /srv/team
printf '%s\n%s\n' "$PASSWORD" "$PASSWORD" | smbpasswd -s -a ann
systemctl disable --now nmbd.service
systemctl daemon-reload
systemctl start nfs-server.service remote-fs.target
systemctl reload nfs-server.service
systemctl restart smbd.service`

// A share is one that a scenario mounts.
type share struct {
	where, fsType string
	args          []string // of trident host mount
	isPersistent  bool
}

func TestAHostMountsSharesAndRebootsUnlessAProgramPreventsIt(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	f, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	b, err := lab.Image(t.Context(), lab.Shares())
	if err != nil {
		t.Fatal(err)
	}
	vm, err := lab.Boot(t.Context(), b, lab.Options{Share: f.dir})
	if err != nil {
		t.Fatal(err)
	}
	g := drive(t, f, vm)
	lap("booted")
	g.sh(fmt.Sprintf("PASSWORD='%s'\n%s", sharePassword, serversScript))
	g.sh(installScript)
	lap("installed")
	password := g.file(sharePassword + "\n")
	nfs, cifs := []string{"127.0.0.1:/srv/export", "--type", "nfs"}, []string{"//127.0.0.1/team", "--type", "cifs", "--username", "ann", "--password-file", password}
	shares := []share{
		{"/mnt/data", "nfs4", nfs, true}, {"/mnt/passing/data", "nfs4", append(slices.Clip(nfs), "--option", "ro"), false},
		{"/mnt/passing/team", "cifs", cifs, false}, {"/mnt/team", "cifs", cifs, true},
	}
	for _, s := range shares {
		g.mount(s)
	}
	g.sh("echo written >/mnt/team/file; grep written /srv/team/file; grep exported /mnt/data/file /mnt/passing/data/file; ! touch /mnt/passing/data/file 2>/dev/null")
	g.checkShares(shares)
	lap("mounted")
	g.checkSecrets(sharePassword)
	g.busyShares()
	lap("unmounted")
	g.sharesThatFail(password)
	lap("failed")
	g.rebootPrevented()
	g.rebootTold()
	lap("rebooted")
	g.checkShares([]share{shares[0], shares[3]})
	g.sh("grep written /mnt/team/file; grep exported /mnt/data/file")
	for _, where := range []string{"/mnt/data", "/mnt/team"} {
		g.must("host", "unmount", where, "--forget")
	}
	g.checkShares(nil)
	g.checkNothingLeft("mnt-data", "mnt-team")
	lap("forgotten")
}

// must runs the command, which has to succeed, and returns its output.
func (g *guest) must(args ...string) string {
	g.t.Helper()
	out, errs, code := g.trident(args...)
	if code != 0 {
		g.t.Fatalf("trident %s: %d: %s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// refused runs the command, which has to fail with one error that has all words.
func (g *guest) refused(words []string, args ...string) {
	g.t.Helper()
	out, errs, code := g.trident(args...)
	if code == 0 || out != "" || strings.Count(errs, "trident: ") != 1 || strings.Count(errs, "\n") > 2 {
		g.t.Errorf("trident %s: %d: %s%s", strings.Join(args, " "), code, out, errs)
	}
	for _, word := range words {
		if !strings.Contains(errs, word) {
			g.t.Errorf("trident %s: %q is missing in %s", strings.Join(args, " "), word, errs)
		}
	}
}

func (g *guest) mount(s share) {
	g.t.Helper()
	args := append([]string{"host", "mount", s.args[0], s.where}, s.args[1:]...)
	if s.isPersistent {
		args = append(args, "--persistent")
	}
	g.must(args...)
}

// checkShares checks that these are all shares, by Trident and by the kernel.
func (g *guest) checkShares(want []share) {
	g.t.Helper()
	var list machinev1.ListSharesResponse
	if err := protojson.Unmarshal([]byte(g.must("host", "shares", "--output", "json")), &list); err != nil {
		g.t.Fatal(err)
	}
	var got, table, wanted, wantedTable []string
	for _, s := range list.GetShares() {
		got = append(got, fmt.Sprintln(s.GetWhat(), s.GetWhere(), s.GetMounted(), s.GetPersistent(), s.GetUnit()))
		if text := s.String(); strings.Contains(text, "sesame") {
			g.t.Errorf("a password: %s", text)
		}
	}
	for line := range strings.Lines(g.sh("cat /proc/self/mountinfo")) {
		fields := strings.Fields(line)
		after := fields[slices.Index(fields, "-")+1:]
		if slices.Contains([]string{"nfs", "nfs4", "cifs"}, after[0]) {
			table = append(table, fmt.Sprintln(after[1], fields[4], after[0], strings.Contains(fields[5], "nosuid,nodev")))
		}
	}
	for _, s := range want {
		wanted = append(wanted, fmt.Sprintln(s.args[0], s.where, true, s.isPersistent, strings.ReplaceAll(s.where[1:], "/", "-")+".mount"))
		wantedTable = append(wantedTable, fmt.Sprintln(s.args[0], s.where, s.fsType, true))
	}
	slices.Sort(table)
	slices.Sort(wantedTable)
	if !slices.Equal(got, wanted) {
		g.t.Errorf("shares:\n%swant\n%s", got, wanted)
	}
	if !slices.Equal(table, wantedTable) {
		g.t.Errorf("mountinfo:\n%swant\n%s", table, wantedTable)
	}
}

// checkSecrets checks that a password is in the files of credentials and nowhere else.
func (g *guest) checkSecrets(password string) {
	g.t.Helper()
	if got := g.sh("stat -c '%n %a %U' /etc/trident/shares/* /run/trident/shares/*"); got != "/etc/trident/shares/mnt-team 600 root\n/run/trident/shares/mnt-passing-team 600 root" {
		g.t.Errorf("credentials: %s", got)
	}
	part := password[:strings.IndexByte(password, '=')] // which no escape changes
	for where, command := range map[string]string{
		"the journal":      "journalctl --sync; journalctl --no-pager --all -o export",
		"argv":             "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
		"units":            "systemctl show '*.mount'; cat /etc/systemd/system/*.mount /run/systemd/transient/*.mount",
		"mounts":           "cat /proc/self/mountinfo /proc/mounts",
		"files of Trident": "cat /var/lib/trident/datastore.sqlite*",
	} {
		// Not as an argument, which would itself be in argv.
		out := g.sh(command)
		if strings.Contains(out, part) || len(out) == 0 {
			g.t.Errorf("the password is in %s, or %d bytes are too few", where, len(out))
		}
	}
}

// busyShares unmounts shares that are in use, and then the same when nobody uses them.
func (g *guest) busyShares() {
	g.t.Helper()
	works := g.sh(`(cd /mnt/passing/team && exec sleep infinity) >/dev/null 2>&1 &
		until [ "$(readlink /proc/$!/exe) $(readlink /proc/$!/cwd)" = "/usr/bin/sleep /mnt/passing/team" ]; do busybox usleep 50000; done; echo $!`)
	reads := g.sh(`tail -f /mnt/passing/data/file >/dev/null 2>&1 &
		until readlink /proc/$!/fd/* | grep -q /mnt/passing/data/file; do busybox usleep 50000; done; echo $!`)
	g.refused([]string{"unmount /mnt/passing/team", "process " + works + " (sleep), which works in /mnt/passing/team"}, "host", "unmount", "/mnt/passing/team")
	g.refused([]string{"unmount /mnt/passing/data", "process " + reads + " (tail), which has /mnt/passing/data/file open"}, "host", "unmount", "/mnt/passing/data")
	if out := g.must("host", "holders", "/mnt/passing/team"); !strings.Contains(out, works) || !strings.Contains(out, "working directory") {
		g.t.Errorf("holders: %s", out)
	}
	g.sh("findmnt /mnt/passing/team && findmnt /mnt/passing/data && kill " + works + " " + reads)
	g.sh("while kill -0 " + works + " 2>/dev/null || kill -0 " + reads + " 2>/dev/null; do busybox usleep 50000; done")
	g.must("host", "unmount", "/mnt/passing/team")
	g.must("host", "unmount", "/mnt/passing/data")
	g.checkNothingLeft("mnt-passing")
}

// checkNothingLeft checks that no unit, no credentials and no mount of these units are left.
func (g *guest) checkNothingLeft(units ...string) {
	g.t.Helper()
	for _, unit := range units {
		command := fmt.Sprintf("systemctl list-units --all --plain --no-legend '%[1]s*'; find /etc/systemd /etc/trident /run/systemd/generator* /run/systemd/transient /run/trident -name '%[1]s*' 2>/dev/null || true", unit)
		if left := g.sh(command); left != "" {
			g.t.Errorf("left of %s:\n%s", unit, left)
		}
	}
}

// sharesThatFail mounts shares whose server refuses, or does not answer.
func (g *guest) sharesThatFail(password string) {
	g.t.Helper()
	wrong := filepath.Join(g.t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("abracadabra\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	const where = "/mnt/wrong/place"
	nothing := func() {
		g.t.Helper()
		g.checkNothingLeft("mnt-wrong")
		if got := g.sh("ls /mnt; systemctl list-units --failed --plain --no-legend 'mnt*'"); strings.Contains(got, "wrong") {
			g.t.Errorf("left: %s", got)
		}
	}
	g.muteServer("127.0.0.1:2050")
	noAnswer := []string{"127.0.0.1:/srv/export", where, "--type", "nfs", "--option", "port=2050", "--option", "vers=4.2"}
	for _, more := range [][]string{nil, {"--persistent"}} {
		g.refused([]string{"mount " + where + ": ", "mount error(13): Permission denied"},
			append([]string{"host", "mount", "//127.0.0.1/team", where, "--type", "cifs", "--username", "ann", "--password-file", wrong}, more...)...)
		nothing()
	}
	impatient := append(slices.Clip(noAnswer), "--option", "soft", "--option", "timeo=10", "--option", "retrans=1", "--option", "retry=0")
	g.refused([]string{"mount " + where + ": ", "mount.nfs: mount system call failed"}, append([]string{"host", "mount"}, impatient...)...)
	nothing()
	if out := g.sh("journalctl --sync; journalctl --no-pager --all -o export"); strings.Contains(out, "abracadabra") {
		g.t.Error("the wrong password is in the journal")
	}
	// Nothing bounds this mount but the patience of its caller.
	ctx, cancel := context.WithTimeout(g.t.Context(), 3*time.Second)
	defer cancel()
	_, err := machinev1.NewMountServiceClient(g.api.Conn()).Mount(ctx, &machinev1.MountRequest{What: noAnswer[0], Where: where, Type: "nfs", Options: []string{"port=2050", "vers=4.2"}, Persistent: true})
	if client.Kind(err) != client.KindTimeout {
		g.t.Errorf("a mount without an answer: %v", err)
	}
	// The daemon goes on to remove what it has begun; its last step is a reload of systemd.
	g.sh("timeout 60 sh -c 'while [ -e /mnt/wrong ] || [ -e /etc/systemd/system/mnt-wrong-place.mount ] || systemctl -q cat mnt-wrong-place.mount >/dev/null 2>&1; do busybox usleep 100000; done'")
	nothing()
}

// muteServer accepts connections at an address in the guest, and answers nothing.
func (g *guest) muteServer(address string) {
	g.t.Helper()
	mute, err := g.Listen(g.t.Context(), address)
	if err != nil {
		g.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := mute.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	}()
	g.t.Cleanup(func() {
		_ = mute.Close()
		<-done
	})
}

// rebootPrevented asks for a reboot while a program prevents it.
func (g *guest) rebootPrevented() {
	g.t.Helper()
	pid := g.sh(`systemd-inhibit --what=shutdown --who=backup --why='copies the disks' --mode=block sleep infinity >/dev/null 2>&1 &
		until systemd-inhibit --list --no-pager | grep -q backup; do busybox usleep 100000; done; echo $!`)
	g.refused([]string{"reboot the host: ", `"backup" (process ` + pid + ") prevents it", "copies the disks", "--force"}, "host", "reboot")
	g.sh("kill " + pid + "; while systemd-inhibit --list --no-pager | grep -q backup; do busybox usleep 100000; done")
}

// rebootTold reboots the host, and finds the boot among the events of the host.
func (g *guest) rebootTold() {
	g.t.Helper()
	before := g.sh("cat /proc/sys/kernel/random/boot_id")
	g.must("host", "reboot")
	ctx, cancel := context.WithTimeout(g.t.Context(), 4*time.Minute)
	defer cancel()
	if err := errors.Join(g.WaitOff(ctx), g.BootAgain(ctx)); err != nil {
		g.t.Fatal(err)
	}
	g.sh("timeout 90 sh -c 'until findmnt /mnt/data && findmnt /mnt/team; do busybox usleep 200000; done' >/dev/null")
	after := g.sh("cat /proc/sys/kernel/random/boot_id")
	first, _, _ := strings.Cut(g.must("host", "events", "--output", "json"), "\n")
	var event machinev1.EventsResponse
	if err := protojson.Unmarshal([]byte(first), &event); err != nil {
		g.t.Fatal(err)
	}
	if e := event.GetEvent(); before == after || e.GetKind() != machinev1.HostEventKind_HOST_EVENT_KIND_BOOT || e.GetSubject() != after || time.Since(e.GetTime().AsTime()) > 5*time.Minute {
		g.t.Errorf("after boot %s and boot %s: %v", before, after, &event)
	}
}
