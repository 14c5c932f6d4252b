package mounts

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

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// world is a host in memory: systemd and the kernel's table of mounts.
type world struct {
	*Service
	t     *testing.T
	ctx   context.Context // of the caller
	lines []string
	next  int
	units map[string]bool // that are loaded, and of somebody else
	// Faults.
	broken error // of a start
	lies   bool  // systemd says done, and the kernel has no mount
	busy   bool
	hangs  context.CancelFunc // the server does not answer, and the caller gives up
	failed map[string]bool    // units, which stay listed as failed
	calls  []string

	starting func() // called when a unit starts
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, next: 40, units: map[string]bool{}, failed: map[string]bool{}}
	w.Service = &Service{Root: t.TempDir(), Units: w, Detach: func(where string) error { w.drop(where); return nil }, Said: func(context.Context, string, time.Time) string { return "" }}
	w.put("/proc/self/ns/mnt", "")
	w.lines = []string{"1 1 8:1 / / rw - ext4 /dev/sda1 rw"}
	w.save()
	return w
}

func (w *world) put(name, text string) {
	w.t.Helper()
	file := w.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) link(to, name string) {
	w.t.Helper()
	file := w.path(name)
	_ = os.Remove(file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.Symlink(to, file)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) save() { w.put("/proc/self/mountinfo", strings.Join(w.lines, "\n")+"\n") }

func (w *world) add(what, where, fsType, options string) {
	w.next++
	w.lines = append(w.lines, fmt.Sprintf("%d 1 0:%d / %s %s - %s %s rw", w.next, w.next, strings.ReplaceAll(where, " ", `\040`), options, fsType, what))
	w.save()
}

func (w *world) drop(where string) {
	w.lines = slices.DeleteFunc(w.lines, func(l string) bool {
		return strings.Fields(l)[4] == strings.ReplaceAll(where, " ", `\040`)
	})
	w.save()
}

func place(name string) string { return unit.UnitNamePathUnescape(strings.TrimSuffix(name, ".mount")) }

func (w *world) StartMount(_ context.Context, name string, m systemd.TransientMount) error {
	w.calls = append(w.calls, "mount "+name)
	return w.start(name, m.What, m.Type, m.Options)
}

// start runs a mount unit. Like systemd it makes the folder before it calls mount(8).
func (w *world) start(name, what, fsType, options string) error {
	if err := os.MkdirAll(w.path(place(name)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if w.starting != nil {
		w.starting()
	}
	switch {
	case w.hangs != nil: // the job continues without its caller
		w.hangs()
		w.units[name] = true
		return context.Canceled
	case w.broken != nil:
		w.failed[name] = true
	case !w.lies:
		w.add(what, place(name), fsType, options)
	}
	return w.broken
}

func (w *world) ResetFailed(ctx context.Context, name string) error {
	delete(w.failed, name)
	return ctx.Err()
}

func (w *world) Run(ctx context.Context, job systemd.Job, name string) error {
	w.calls = append(w.calls, string(job)+" "+name)
	if job == systemd.StopJob {
		delete(w.units, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if w.busy {
			return &systemd.JobError{Verb: "stop", Unit: name, Result: "failed"}
		}
		w.drop(place(name))
		return nil
	}
	r, ok, err := w.readUnitFile(name)
	if err != nil || !ok {
		w.t.Errorf("start %s: its file: %v, %v", name, ok, err)
	}
	return w.start(name, r.What, r.Type, strings.Join(r.Options, ","))
}

func (w *world) Reload(context.Context) error { w.calls = append(w.calls, "reload"); return nil }

func (w *world) Enable(_ context.Context, name string) error {
	w.calls = append(w.calls, "enable "+name)
	return nil
}

func (w *world) Disable(_ context.Context, name string) error {
	w.calls = append(w.calls, "disable "+name)
	return nil
}

func (w *world) Unit(_ context.Context, name string) (systemd.Unit, error) {
	if w.units[name] {
		return systemd.Unit{Active: "inactive"}, nil
	}
	return systemd.Unit{}, errkind.Errorf(errkind.NotFound, "no unit %s", name)
}

// files returns the files that Trident made on the host.
func (w *world) files() (out []string) {
	for _, folder := range []string{unitFolder, passing, permanent} {
		list, _ := os.ReadDir(w.path(folder))
		for _, f := range list {
			out = append(out, filepath.Join(folder, f.Name()))
		}
	}
	return out
}

func want(t *testing.T, err error, kind errkind.Kind, words string) {
	t.Helper()
	if errkind.Of(err) != kind || !strings.Contains(err.Error(), words) {
		t.Errorf("%v (%v), want %v: %q", err, errkind.Of(err), kind, words)
	}
}

func share(more ...func(*Request)) Request {
	r := Request{What: "//files/team", Where: "/srv/team files", Type: "cifs", Credentials: Credentials{"ann", "pa%ss", "corp"}}
	for _, m := range more {
		m(&r)
	}
	return r
}

func forEver(r *Request) { r.IsPersistent = true }

func TestAShareIsMountedAndUnmounted(t *testing.T) {
	w := newWorld(t)
	name, err := w.Mount(t.Context(), share())
	if err != nil || name != `srv-team\x20files.mount` {
		t.Fatal(name, err)
	}
	file := w.files()
	if len(file) != 1 || file[0] != `/run/trident/shares/srv-team\x20files` {
		t.Fatalf("%q", file)
	}
	data, err := os.ReadFile(w.path(file[0]))
	if info, serr := os.Stat(w.path(file[0])); err != nil || serr != nil || info.Mode() != 0o600 || string(data) != "username=ann\npassword=pa%ss\ndomain=corp\n" {
		t.Errorf("%v %v %q", err, info.Mode(), data)
	}
	shares, err := w.Shares()
	if err != nil || len(shares) != 1 || !shares[0].IsMounted || shares[0].IsPersistent || strings.Contains(fmt.Sprint(shares), "pa%ss") {
		t.Errorf("%+v %v", shares, err)
	}
	_, err = w.Mount(t.Context(), share())
	want(t, err, errkind.Exists, "//files/team is mounted there")
	if err := w.Unmount(t.Context(), Unmounting{Where: "/srv/team files"}); err != nil {
		t.Fatal(err)
	}
	if left := w.files(); len(left) != 0 {
		t.Errorf("%q is left", left)
	}
	want(t, w.Unmount(t.Context(), Unmounting{Where: "/srv/team files"}), errkind.NotFound, "nothing is mounted there")
}

func TestAPersistentShareStaysUntilItIsForgotten(t *testing.T) {
	w := newWorld(t)
	if _, err := w.Mount(t.Context(), share(forEver)); err != nil {
		t.Fatal(err)
	}
	if got := w.calls; !slices.Equal(got, []string{"reload", `start srv-team\x20files.mount`, `enable srv-team\x20files.mount`}) {
		t.Errorf("%q", got)
	}
	data, err := os.ReadFile(w.path(unitFolder + `/srv-team\x20files.mount`))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{madeByTrident, "What=//files/team", "Where=/srv/team files", `Options=nosuid,nodev,credentials=/etc/trident/shares/srv-team\x20files,nofail`, "WantedBy=remote-fs.target"} {
		if !strings.Contains(string(data), line+"\n") {
			t.Errorf("%q is missing in\n%s", line, data)
		}
	}
	if err := w.Unmount(t.Context(), Unmounting{Where: "/srv/team files"}); err != nil {
		t.Fatal(err)
	}
	shares, err := w.Shares()
	if err != nil || len(shares) != 1 || shares[0].IsMounted || !shares[0].IsPersistent {
		t.Errorf("%+v %v", shares, err)
	}
	_, err = w.Mount(t.Context(), share())
	want(t, err, errkind.Exists, "mounted there at each boot")
	_, err = w.Mount(t.Context(), share(forEver, func(r *Request) { r.What = "//other/team" }))
	want(t, err, errkind.Exists, "another mount there")
	if _, err = w.Mount(t.Context(), share(forEver)); err != nil { // as after a power cut
		t.Error(err)
	}
	if err := w.Unmount(t.Context(), Unmounting{Where: "/srv/team files", Forgets: true}); err != nil {
		t.Fatal(err)
	}
	if left := w.files(); len(left) != 0 {
		t.Errorf("%q is left", left)
	}
	want(t, w.Unmount(t.Context(), Unmounting{Where: "/srv/team files", Forgets: true}), errkind.NotFound, "not mount it at each boot")
}

func TestAMountThatFailsLeavesNothing(t *testing.T) {
	for name, break_ := range map[string]func(*world){
		"the server refuses": func(w *world) {
			w.broken = &systemd.JobError{Verb: "start", Unit: "x", Result: "failed"}
			w.Said = func(context.Context, string, time.Time) string { return "mount error(13): Permission denied" }
		},
		"systemd says done, and nothing is mounted": func(w *world) { w.lies = true },
		"the caller goes away while the server does not answer": func(w *world) {
			w.ctx, w.hangs = context.WithCancel(t.Context())
		},
	} {
		for _, isPersistent := range []bool{false, true} {
			w := newWorld(t)
			w.ctx = t.Context()
			w.put("/srv/other", "")
			break_(w)
			_, err := w.Mount(w.ctx, share(func(r *Request) { r.IsPersistent = isPersistent }))
			if err == nil || w.broken != nil && !strings.Contains(err.Error(), "Permission denied") || strings.Contains(err.Error(), "pa%ss") {
				t.Errorf("%s: %v", name, err)
			}
			if left := w.files(); len(left) != 0 {
				t.Errorf("%s, %v: %q is left", name, isPersistent, left)
			}
			if len(w.units)+len(w.failed) > 0 {
				t.Errorf("%s, %v: units are left: %v %v", name, isPersistent, w.units, w.failed)
			}
			if folders, err := os.ReadDir(w.path("/srv")); err != nil || len(folders) != 1 {
				t.Errorf("%s, %v: folders are left: %v, %v", name, isPersistent, folders, err)
			}
		}
	}
}

// A folder with files was there before, and stays.
func TestAFailedMountLeavesTheFoldersOfOthers(t *testing.T) {
	w := newWorld(t)
	w.broken = &systemd.JobError{Verb: "start", Unit: "x", Result: "failed"}
	if err := os.MkdirAll(w.path("/srv/team files"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Mount(t.Context(), share()); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(w.path("/srv/team files")); err != nil {
		t.Error(err)
	}
	w.hangs = func() { w.put("/srv/new/deep/file", "") } // somebody else's
	r := share(func(r *Request) { r.Where = "/srv/new/deep" })
	if _, err := w.Mount(t.Context(), r); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(w.path("/srv/new/deep/file")); err != nil {
		t.Error(err)
	}
}

// Two callers mount at the same place: the second one is refused, and the credentials of the first
// stay.
func TestAPlaceIsOneCallersAtATime(t *testing.T) {
	w := newWorld(t)
	w.Said = nil
	var inside, unmounting error
	w.starting = func() {
		w.starting = nil
		_, inside = w.Mount(t.Context(), share(func(r *Request) { r.Credentials.Password = "other" }))
		unmounting = w.Unmount(t.Context(), Unmounting{Where: "/srv/team files"})
		if _, err := w.Mount(t.Context(), share(func(r *Request) { r.Where = "/srv/other" })); err != nil {
			t.Errorf("at another place: %v", err)
		}
	}
	if _, err := w.Mount(t.Context(), share()); err != nil {
		t.Fatal(err)
	}
	want(t, inside, errkind.Precondition, "another caller")
	want(t, unmounting, errkind.Precondition, "another caller")
	if data, err := os.ReadFile(w.path(passing + `/srv-team\x20files`)); err != nil || !strings.Contains(string(data), "pa%ss") {
		t.Errorf("%q, %v", data, err)
	}
	if err := w.Unmount(t.Context(), Unmounting{Where: "/srv/team files"}); err != nil {
		t.Error(err)
	}
}

// Another caller was faster: what that caller mounted stays.
func TestAMountThatExistsMeanwhileIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.broken = errkind.Errorf(errkind.Exists, "start: it is loaded already")
	_, err := w.Mount(t.Context(), Request{What: "nas:/x", Where: "/srv/x", Type: "nfs"})
	want(t, err, errkind.Exists, "loaded already")
	if !slices.Equal(w.calls, []string{"mount srv-x.mount"}) {
		t.Errorf("%q", w.calls)
	}
}

func TestAMountOfTheHostItselfIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.units["srv-data.mount"] = true
	w.put(unitFolder+"/srv-own.mount", "[Mount]\nWhat=nas:/own\nWhere=/srv/own\nType=nfs\n")
	w.units["srv-own.mount"] = true
	for _, where := range []string{"/srv/data", "/srv/own"} {
		_, err := w.Mount(t.Context(), Request{What: "/dev/sdb1", Where: where, IsPersistent: true})
		want(t, err, errkind.Exists, "has a unit srv-")
	}
	want(t, w.Unmount(t.Context(), Unmounting{Where: "/srv/own", Forgets: true}), errkind.NotFound, "not mount it at each boot")
	if len(w.calls) != 0 || len(w.files()) != 1 {
		t.Errorf("%q %q", w.calls, w.files())
	}
}

// journal is a tool that has the journal of a failed mount.
type journal string

func (j journal) Run(_ context.Context, _ string, args ...string) ([]byte, error) {
	if slices.Contains(args, "--sync") {
		return nil, nil
	}
	return []byte(j), nil
}

// The cause is the first line of several, each with a long path.
func TestAnErrorQuotesWhatMountSaid(t *testing.T) {
	const prefix = "2026-11-30T23:18:00+00:00 host "
	long := strings.Repeat("/folder", 20)
	s := New(t.TempDir(), nil, journal(prefix+"systemd[1]: Mounting Mount of "+long+"...\n"+
		prefix+"mount[7]: mount: "+long+": special device nas does not exist.\n"+prefix+"mount[7]:        dmesg(1) may have more.\n"+
		prefix+"systemd[1]: folder.mount: Mount process exited, code=exited\n"+prefix+"systemd[1]: Failed to mount "+long+".\n"))
	if got, want := s.Said(t.Context(), "x.mount", time.Now()), "mount: "+long+": special device nas does not exist. dmesg(1) may have more."; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := said(prefix + "mount[7]: " + strings.Repeat("€", saidBytes) + "\n"); len(got) > saidBytes+len("…") || !strings.HasSuffix(got, "€…") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestABadRequestIsRefusedBeforeAnyCall(t *testing.T) {
	local := func(change func(*Request)) Request {
		r := Request{What: "/dev/sdb1", Where: "/mnt/disk"}
		change(&r)
		return r
	}
	option := func(o string) Request { return local(func(r *Request) { r.Options = []string{o} }) }
	at := func(where string) Request { return local(func(r *Request) { r.Where = where }) }
	source := func(fsType, what string) Request { return local(func(r *Request) { r.Type, r.What = fsType, what }) }
	for _, c := range []struct {
		r     Request
		kind  errkind.Kind
		words string
	}{
		{at("/"), errkind.Forbidden, "the host needs /"},
		{at("/usr/lib"), errkind.Forbidden, "the host needs /usr/lib"},
		{at("/var"), errkind.Forbidden, "the host needs /var"},
		{at("/var/lib/trident/self"), errkind.Forbidden, "the host needs"},
		{at("/boot/efi"), errkind.Forbidden, "the host needs"},
		{at("/run/media"), errkind.Forbidden, "the host needs"},
		{at("/mnt/../etc"), errkind.Invalid, "not an absolute path in its shortest form"},
		{at("mnt"), errkind.Invalid, "not an absolute path"},
		{at("/mnt/x\nOptions=suid"), errkind.Invalid, "control character"},
		{at("/mnt/x "), errkind.Invalid, "begins or ends with a space"},
		{at("/mnt/" + strings.Repeat("x", maxText)), errkind.Invalid, "at most 4096"},
		{at("/link/x"), errkind.Invalid, "/link is a symbolic link"},
		{at("/file/x"), errkind.Invalid, "/file is not a folder"},
		{source("proc", "proc"), errkind.Invalid, `does not mount the type "proc"`},
		{source("", "sdb1"), errkind.Invalid, "a device like /dev/sdb1"},
		{source("", "LABEL="), errkind.Invalid, "a device like /dev/sdb1"},
		{source("ext4", "/dev/../etc/shadow"), errkind.Invalid, "a device like"},
		{source("ext4", " /dev/sdb"), errkind.Invalid, "begins or ends with a space"},
		{source("nfs", "nas"), errkind.Invalid, "HOST:/PATH"},
		{source("nfs", "-o:/x"), errkind.Invalid, "HOST:/PATH"},
		{source("cifs", "//nas"), errkind.Invalid, "//HOST/SHARE"},
		{source("9p", "/tag"), errkind.Invalid, "a tag"},
		{source("tmpfs", "/dev/sda"), errkind.Invalid, "must be empty"},
		{option("password=x"), errkind.Invalid, "would show credentials"},
		{option("ro,suid"), errkind.Invalid, "not one option"},
		{option("suid"), errkind.Forbidden, "not allowed here"},
		{option("x-systemd.requires=evil.service"), errkind.Forbidden, "not allowed here"},
		{option(""), errkind.Invalid, "not one option"},
		{share(func(r *Request) { r.Type, r.What = "nfs", "a:/b" }), errkind.Invalid, "credentials are for shares of type cifs"},
		{share(func(r *Request) { r.Credentials.Username = "" }), errkind.Invalid, "no user name"},
		{source("", "nas:/data"), errkind.Invalid, `the source "nas:/data" is not a device`},
		{source("ext4", "nas:/data"), errkind.Invalid, `the source of type "ext4" is "nas:/data"`},
		{share(func(r *Request) { r.Credentials.Password = "a\nusername=root" }), errkind.Invalid, "control character"},
	} {
		w := newWorld(t)
		w.link("/mnt", "/link")
		w.put("/file", "")
		_, err := w.Mount(t.Context(), c.r)
		want(t, err, c.kind, c.words)
		if len(w.calls) != 0 || len(w.files()) != 0 {
			t.Errorf("%+v: %q %q", c.r, w.calls, w.files())
		}
	}
}

func TestMountsOfTheHostAreNotUnmounted(t *testing.T) {
	for _, where := range []string{"/", "/usr", "/var/lib/trident", "/boot/efi", "/proc"} {
		w := newWorld(t)
		w.add("x", where, "ext4", "rw")
		want(t, w.Unmount(t.Context(), Unmounting{Where: where, IsLazy: true}), errkind.Forbidden, "the host needs")
	}
}

func TestABusyFileSystemStaysAndItsUsersAreNamed(t *testing.T) {
	w := newWorld(t)
	w.add("/dev/sdb1", "/mnt/disk", "ext4", "rw")
	id := w.next
	w.busy = true
	process := func(pid int, comm string) string {
		folder := fmt.Sprintf("/proc/%d", pid)
		w.put(folder+"/comm", comm+"\n")
		w.link("mnt:[1]", folder+"/ns/mnt")
		return folder
	}
	w.link("mnt:[1]", "/proc/self/ns/mnt")
	w.link("/mnt/disk/work", process(20, "bash")+"/cwd")
	p := process(3, "tail")
	w.put(p+"/fdinfo/4", fmt.Sprintf("pos:\t0\nmnt_id:\t%d\n", id))
	w.link("/mnt/disk/log (deleted)", p+"/fd/4")
	w.put(p+"/maps", "7f00-7f01 r--p 00000000 08:11 12  /mnt/disk/lib.so\n7f01-7f02 r--p 0 08:11 12  /mnt/disk/lib.so\n7f03-7f04 rw-p 0 00:00 0 \n")
	other := process(5, "elsewhere") // with a namespace of its own
	w.link("mnt:[2]", other+"/ns/mnt")
	w.link("/mnt/disk", other+"/cwd")
	w.link("/mnt/disk2", process(6, "beside")+"/cwd")
	w.lines = append(w.lines, fmt.Sprintf("90 %d 7:0 / /mnt/disk/inner rw - squashfs /dev/loop3 ro", id), "91 1 0:91 / /srv/o rw - overlay overlay rw,lowerdir=/usr:/mnt/disk/low,upperdir=/x")
	w.save()
	w.put("/proc/swaps", "Filename Type Size Used Priority\n/mnt/disk/swap file 1 0 -2\n/dev/sda2 partition 1 0 -2\n")
	w.put("/sys/block/loop3/loop/backing_file", "/mnt/disk/image.raw\n")

	holders, isCut, err := w.Holders("/mnt/disk")
	if err != nil || isCut {
		t.Fatal(err)
	}
	var got []string
	for _, h := range holders {
		got = append(got, h.String())
	}
	if all := []string{
		"the mount of /mnt/disk/inner", "the overlay on /srv/o", "swap on /mnt/disk/swap", "the loop device /dev/loop3 with /mnt/disk/image.raw",
		"process 3 (tail), which has /mnt/disk/lib.so mapped", "process 3 (tail), which has /mnt/disk/log open", "process 20 (bash), which works in /mnt/disk/work",
	}; !slices.Equal(got, all) {
		t.Errorf("%q", got)
	}
	err = w.Unmount(t.Context(), Unmounting{Where: "/mnt/disk"})
	want(t, err, errkind.Precondition, "unmount /mnt/disk: it is in use by the mount of /mnt/disk/inner, the overlay on /srv/o, swap on /mnt/disk/swap, 4 more")
	if err := w.Unmount(t.Context(), Unmounting{Where: "/mnt/disk", IsLazy: true}); err != nil {
		t.Error(err)
	}
	_, _, err = w.Holders("/mnt/disk")
	want(t, err, errkind.NotFound, "nothing is mounted at /mnt/disk")
}
