//go:build vm

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// A servedFeed is an update feed on this machine, which a guest reads over http.
type servedFeed struct {
	g         *guest
	dir, keys string

	mu   sync.Mutex
	sent map[string]int64 // bytes of the answers, by the name of the file
	// cutAt cuts the power of the guest once that many bytes of the file cutName were sent.
	cutName string
	cutAt   int64
	endless string // a file that never ends
}

// feed makes a feed, serves it to the guest, and tells the guest of it.
func (g *guest) feed(policy string) *servedFeed {
	g.t.Helper()
	f := &servedFeed{g: g, dir: filepath.Join(g.t.TempDir(), "feed"), keys: filepath.Join(g.t.TempDir(), "keys"), sent: map[string]int64{}}
	f.run("init", "--time", daysAgo(30)) // so that it can be published as of earlier days
	f.serve()
	root, err := os.ReadFile(filepath.Join(f.keys, "for-hosts", "feed-root.json"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.sh("mkdir -p /etc/trident; cat > /etc/trident/feed-root.json <<'END'\n" + string(root) + "\nEND\n" +
		"cat > /etc/trident/update.conf <<'END'\nfeed: http://" + imagePort + "\n" + policy + "END")
	return f
}

// serve serves the feed until the guest goes off.
func (f *servedFeed) serve() { f.g.serveHandler(f) }

func (f *servedFeed) run(args ...string) {
	f.g.t.Helper()
	args = append([]string{"feed"}, args...)
	if out, errs, code := f.g.trident(append(args, "--feed", f.dir, "--keys", f.keys)...); code != 0 {
		f.g.t.Fatalf("trident %s: %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
}

// publish adds an image, with patches from the versions before, and publishes the feed.
func (f *servedFeed) publish(image string, patches bool) {
	f.g.t.Helper()
	f.run("add", filepath.Join(f.g.f.dir, image), "--channel", "stable")
	if patches {
		f.run("patch")
	}
	f.run("publish")
}

func (f *servedFeed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	endless := f.endless != "" && strings.HasSuffix(r.URL.Path, f.endless)
	f.mu.Unlock()
	out := &countedAnswer{ResponseWriter: w, f: f, r: r, name: filepath.Base(r.URL.Path)}
	for endless {
		if _, err := out.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
	http.FileServer(http.Dir(f.dir)).ServeHTTP(out, r)
}

type countedAnswer struct {
	http.ResponseWriter
	f    *servedFeed
	r    *http.Request
	name string
}

func (a *countedAnswer) Write(p []byte) (int, error) {
	a.f.mu.Lock()
	cut := a.f.cutName == a.name && a.f.sent[a.name] >= a.f.cutAt
	if cut {
		a.f.cutName = ""
	}
	a.f.mu.Unlock()
	if cut {
		if err := a.f.g.PowerCut(); err != nil {
			a.f.g.t.Error(err)
		}
		return 0, context.Canceled
	}
	n, err := a.ResponseWriter.Write(p)
	a.f.mu.Lock()
	defer a.f.mu.Unlock()
	a.f.sent[a.name] += int64(n)
	return n, err
}

// bytesOf returns how many bytes of a file were sent.
func (f *servedFeed) bytesOf(name string) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent[name]
}

// elapse does what the timer does.
func (g *guest) elapse() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 8*time.Minute)
	defer cancel()
	// The unit fails if the version that it activates does not stay.
	if out, err := g.Run(ctx, "systemctl start trident-update.service || systemctl reset-failed trident-update.service", nil); err != nil {
		g.t.Fatalf("trident-update.service: %v\n%s", err, out)
	}
}

func (g *guest) checkUpdates() *client.Updates {
	g.t.Helper()
	u, err := g.api.CheckUpdates(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	return u
}

// wantReasons wants nothing to be offered, and the version, or for "" the whole feed, to have
// these reasons.
func (g *guest) wantReasons(version string, want ...selfv1.ReasonKind) {
	g.t.Helper()
	u := g.checkUpdates()
	if u.GetOffer() != nil {
		g.t.Errorf("%s is offered", u.GetOffer().GetVersion())
	}
	reasons := u.GetReasons()
	for _, r := range u.GetOthers() {
		if r.GetVersion() == version {
			reasons = r.GetReasons()
		}
	}
	var got []selfv1.ReasonKind
	for _, r := range reasons {
		got = append(got, r.GetKind())
		if r.GetMessage() == "" {
			g.t.Errorf("%s says nothing", r.GetKind())
		}
	}
	if !slices.Equal(got, want) {
		g.t.Errorf("%q is not offered because of %v, want %v", version, reasons, want)
	}
}

func (g *guest) setPolicy(args ...string) {
	g.t.Helper()
	if _, errs, code := g.trident(append([]string{"self", "policy", "set"}, args...)...); code != 0 {
		g.t.Fatalf("policy set %v: %d, %s", args, code, errs)
	}
}

// operations returns how many operations on Trident the host has had.
func (g *guest) operations() int {
	g.t.Helper()
	all, err := g.api.History(g.t.Context(), 100)
	if err != nil {
		g.t.Fatal(err)
	}
	return len(all)
}

// A host finds new versions in a feed, fetches little, tries and keeps a good one without a
// call, and does not take a bad one again. Its owner decides, and no feed under attack offers
// anything.
func TestAHostFindsNewVersionsInAFeed(t *testing.T) {
	t.Parallel()
	g := start(t)
	f := g.feed("auto: activate\n")
	f.publish("trident_2.0.0_x86-64.raw", false)
	g.inSubtest(t).bySysupdate(f)
	g.wantReasons(good, selfv1.ReasonKind_REASON_KIND_CURRENT)

	const second, image2, patch2 = good2, "trident_2.1.0_x86-64.raw", "trident_2.0.0_2.1.0_x86-64.patch"
	first := f.metadata()
	f.publish("trident_2.1.0.raw", true)
	g.elapse()
	g.checkVersion(second)
	info, err := os.Stat(filepath.Join(f.dir, "stable", "x86-64", image2))
	if err != nil {
		t.Fatal(err)
	}
	sent := f.bytesOf(image2) + f.bytesOf(patch2)
	t.Logf("%d bytes of the image and %d of the patch were sent, %.1f %% of the image", f.bytesOf(image2), f.bytesOf(patch2), 100*float64(sent)/float64(info.Size()))
	if sent == 0 || sent > info.Size()*6/100 {
		t.Errorf("%d bytes were sent for an image of %d", sent, info.Size())
	}

	g.inSubtest(t).badVersion(f)
	g.inSubtest(t).ownersWill(f)

	g.inSubtest(t).attacks(f, first)
	g.elapse()
	g.checkVersion(second)
}

// daysAgo is the time n days ago, in the form of the flag --time.
func daysAgo(n int) string {
	return time.Now().AddDate(0, 0, -n).UTC().Format(time.RFC3339)
}

// bySysupdate takes the version of the feed by systemd-sysupdate, which fills the incoming folder
// and changes nothing else, on a host whose /usr is writable: Trident does not activate a version
// there by itself, and says why.
func (g *guest) bySysupdate(f *servedFeed) {
	g.t.Helper()
	u := g.checkUpdates()
	if why := u.GetAutoReasons(); u.GetOffer().GetVersion() != good || u.GetAuto() != selfv1.Auto_AUTO_STAGE || len(why) != 1 || why[0].GetKind() != selfv1.ReasonKind_REASON_KIND_HOST {
		g.t.Errorf("%s is offered, and Trident may %s by itself: %v", u.GetOffer().GetVersion(), u.GetAuto(), why)
	}
	pubring, err := os.ReadFile(filepath.Join(f.keys, "for-hosts", "import-pubring.gpg"))
	if err != nil {
		g.t.Fatal(err)
	}
	if out, err := g.Run(g.t.Context(), "cat > /etc/systemd/import-pubring.gpg", bytes.NewReader(pubring)); err != nil {
		g.t.Fatalf("%v\n%s", err, out)
	}
	g.sh(fmt.Sprintf(`mkdir -p /etc/sysupdate.trident.d /var/lib/trident/incoming
cat > /etc/sysupdate.trident.d/50-trident.transfer <<'END'
[Transfer]
Verify=yes

[Source]
Type=url-file
Path=http://%s/stable/%%a/
MatchPattern=trident_@v_%%a.raw

[Target]
Type=regular-file
Path=/var/lib/trident/incoming
MatchPattern=trident_@v_%%a.raw
Mode=0600
InstancesMax=2
END`, imagePort))
	const state = "ls -lR /var/lib/extensions /var/lib/trident/self 2>&1 || true" // the store may not exist yet
	before := g.sh(state)
	g.t.Log(g.sh("/usr/lib/systemd/systemd-sysupdate --component=trident --no-pager list && /usr/lib/systemd/systemd-sysupdate --component=trident --no-pager update"))
	g.checkVersion(base)
	if after := g.sh(state); after != before {
		g.t.Errorf("systemd-sysupdate has changed the store:\n%s\n%s", before, after)
	}
	if got := g.sh("ls -A /var/lib/trident/incoming"); got != "trident_"+good+"_x86-64.raw" {
		g.t.Errorf("the incoming folder has %q", got)
	}
	if op, errs, code := g.offer("upgrade", "--incoming", "--allow-read-only-usr"); code != 0 {
		g.t.Fatalf("upgrade --incoming: %d, %v\n%s", code, op.GetFailure(), errs)
	}
	g.checkVersion(good)
}

// attacks serves the feed as an attacker would, each time after a new publication, and wants
// nothing to be offered. old is the metadata of an earlier publication.
func (g *guest) attacks(f *servedFeed, old map[string][]byte) {
	g.t.Helper()
	stranger := &servedFeed{g: g, dir: filepath.Join(g.t.TempDir(), "feed"), keys: filepath.Join(g.t.TempDir(), "keys")}
	stranger.run("init")
	stranger.publish("exits.raw", false)
	for _, attack := range []struct {
		name string
		do   func(newest map[string][]byte)
		want selfv1.ReasonKind
	}{
		{"older metadata", func(map[string][]byte) { f.restore(old) }, selfv1.ReasonKind_REASON_KIND_FEED_UNTRUSTED},
		{"metadata that is frozen since a week ago", func(map[string][]byte) { f.run("publish", "--time", daysAgo(8)) }, selfv1.ReasonKind_REASON_KIND_FEED_STALE},
		{"the snapshot of another time", func(newest map[string][]byte) {
			snapshots := slices.DeleteFunc(slices.Collect(maps.Keys(newest)), func(name string) bool { return !strings.HasSuffix(name, ".snapshot.json") })
			slices.SortFunc(snapshots, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
			f.restore(map[string][]byte{snapshots[len(snapshots)-1]: newest[snapshots[0]]})
		}, selfv1.ReasonKind_REASON_KIND_FEED_UNTRUSTED},
		{"metadata that other keys have signed", func(map[string][]byte) { f.restore(stranger.metadata()) }, selfv1.ReasonKind_REASON_KIND_FEED_UNTRUSTED},
		{"metadata without an end", func(map[string][]byte) { f.setEndless("timestamp.json") }, selfv1.ReasonKind_REASON_KIND_FEED_UNTRUSTED},
		{"no metadata", func(newest map[string][]byte) {
			for name := range newest {
				if err := os.Remove(filepath.Join(f.dir, "tuf", name)); err != nil {
					g.t.Fatal(err)
				}
			}
		}, selfv1.ReasonKind_REASON_KIND_FEED_UNREACHABLE},
	} {
		g.t.Log(attack.name)
		f.run("publish")
		if offer := g.checkUpdates().GetOffer(); offer == nil {
			g.t.Errorf("before %s: nothing is offered", attack.name)
		}
		f.run("publish") // what the host has not seen
		newest := f.metadata()
		attack.do(newest)
		g.wantReasons("", attack.want)
		f.setEndless("")
		f.restore(newest)
	}
	// The last attack again, so that the host has nothing to do when its timer elapses.
	if err := os.RemoveAll(filepath.Join(f.dir, "tuf")); err != nil {
		g.t.Fatal(err)
	}
}

// setEndless makes the file of that name endless; "" for none.
func (f *servedFeed) setEndless(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endless = name
}

// badVersion offers a version that crashes, and cuts the power in the middle of its fetch.
func (g *guest) badVersion(f *servedFeed) {
	g.t.Helper()
	bad := faults["crashes"]
	file := "trident_" + bad + "_x86-64.raw"
	f.cutName, f.cutAt = file, 4<<20
	f.publish("crashes.raw", false)
	ctx, cancel := context.WithTimeout(g.t.Context(), 5*time.Minute)
	_, err := g.Run(ctx, "systemctl start trident-update.service", nil)
	cancel()
	if err == nil || f.bytesOf(file) < 4<<20 {
		g.t.Fatalf("the power was not cut: %d bytes were sent", f.bytesOf(file))
	}
	before := f.bytesOf(file)
	if err := g.BootAgain(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	f.serve()
	g.awaitSettled()
	g.checkVersion(good2)
	last, err := g.api.Operations(g.t.Context(), 1, false)
	if err != nil || len(last) != 1 {
		g.t.Fatal(err)
	}
	if failure := last[0].GetFailure(); failure.GetReason() != string(errkind.Unhealthy) {
		g.t.Fatalf("%v", last[0])
	}
	info, err := os.Stat(filepath.Join(f.dir, "stable", "x86-64", file))
	if err != nil {
		g.t.Fatal(err)
	}
	// What was in memory when the power failed comes again, and the outline of the image.
	g.t.Logf("%d bytes were sent before the power cut and %d after it, of an image of %d", before, f.bytesOf(file)-before, info.Size())
	if f.bytesOf(file) > info.Size()*102/100 {
		g.t.Errorf("%d bytes were sent for an image of %d", f.bytesOf(file), info.Size())
	}
	g.wantReasons(bad, selfv1.ReasonKind_REASON_KIND_BLOCKED)
	operations := g.operations()
	g.elapse()
	if n := g.operations(); n != operations {
		g.t.Errorf("the bad version was tried again: %d operations", n-operations)
	}
}

// ownersWill checks hold, pin, window and data budget with a version that would be offered.
func (g *guest) ownersWill(f *servedFeed) {
	g.t.Helper()
	next := faults["exits"]
	image, patch := "trident_"+next+"_x86-64.raw", "trident_"+good2+"_"+next+"_x86-64.patch"
	f.publish("exits.raw", true)
	g.setPolicy("--auto", "check")
	if offer := g.checkUpdates().GetOffer(); offer.GetVersion() != next {
		g.t.Fatalf("%v is offered, want %s", offer, next)
	}
	g.setPolicy("--max-bytes", "10K")
	if op, errs, code := g.offer("stage", "--from-feed"); code == 0 || op.Failure.GetReason() != string(errkind.TooLarge) {
		g.t.Errorf("beyond the data budget: %d, %v\n%s", code, op.GetFailure(), errs)
	}
	if n := f.bytesOf(image) + f.bytesOf(patch); n != 0 {
		g.t.Errorf("%d bytes were sent beyond the budget", n)
	}
	g.setPolicy("--hold", "--reason", "the holidays", "--pin", good2, "--auto", "activate")
	today := time.Now().UTC().Weekday()
	g.setPolicy("--window", strings.ToLower(((today + 3) % 7).String()[:3])+" 02:00-03:00")
	g.reboot()
	f.serve()
	g.wantReasons(next, selfv1.ReasonKind_REASON_KIND_HELD, selfv1.ReasonKind_REASON_KIND_PINNED, selfv1.ReasonKind_REASON_KIND_WINDOW)
	operations := g.operations()
	g.elapse()
	if n := g.operations(); n != operations {
		g.t.Errorf("%d operations against the will of the owner", n-operations)
	}
	g.setPolicy("--no-hold", "--window", "", "--auto", "check")
	g.wantReasons(next, selfv1.ReasonKind_REASON_KIND_PINNED)
	g.setPolicy("--pin", "")
}

// metadata returns the files of the feed's metadata.
func (f *servedFeed) metadata() map[string][]byte {
	f.g.t.Helper()
	out := map[string][]byte{}
	entries, err := os.ReadDir(filepath.Join(f.dir, "tuf"))
	if err != nil {
		f.g.t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(f.dir, "tuf", e.Name()))
		if err != nil {
			f.g.t.Fatal(err)
		}
		out[e.Name()] = data
	}
	return out
}

// restore writes metadata over that of the feed.
func (f *servedFeed) restore(metadata map[string][]byte) {
	f.g.t.Helper()
	for name, data := range metadata {
		if err := os.WriteFile(filepath.Join(f.dir, "tuf", name), data, 0o644); err != nil {
			f.g.t.Fatal(err)
		}
	}
}
