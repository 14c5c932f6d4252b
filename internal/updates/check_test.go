package updates

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/when"
)

func TestTheNewestVersionIsOfferedAndTheOthersHaveReasons(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("1.0.0"), release("2.0.0"), release("1.5.0"), release("0.8.0"))
	r := w.wantOffer("2.0.0")
	want := Report{
		Running: "1.0.0", Feed: w.server.URL, Channel: "stable", Auto: AutoOff, Refreshed: start(), Expires: w.expires,
		Offer: &Release{Version: "2.0.0", Size: imageSize, TransferSize: imageSize, Published: start().Add(-time.Hour)},
	}
	others := r.Others
	r.Others = nil
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	var order []string
	for _, o := range others {
		order = append(order, o.Version)
	}
	if diff := cmp.Diff([]string{"1.5.0", "1.0.0", "0.8.0"}, order); diff != "" {
		t.Error(diff)
	}
	r.Others = others
	for version, want := range map[string][]Kind{"1.5.0": {Superseded}, "1.0.0": {Current}, "0.8.0": {TooOld}} {
		if got := kinds(r, version); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", version, got, want)
		}
	}
}

func TestEveryReasonOfAVersionIsNamed(t *testing.T) {
	t.Parallel()
	tomorrow := start().Add(24 * time.Hour)
	wave := func(begin, end time.Duration, first int) func(*feed.Release) {
		return func(r *feed.Release) {
			r.Wave = &feed.Wave{Begin: start().Add(begin), End: start().Add(end), First: first}
		}
	}
	for _, c := range []struct {
		name    string
		arrange func(w *world)
		change  func(*feed.Release)
		want    []Kind
		until   time.Time
	}{
		{"nothing", nil, nil, nil, time.Time{}},
		{"blocked", func(w *world) { w.self.Blocked = []Blocked{{"2.0.0", "it crashed"}} }, nil, []Kind{IsBlocked}, time.Time{}},
		{"another version is blocked", func(w *world) { w.self.Blocked = []Blocked{{"2.0.1", "it crashed"}} }, nil, nil, time.Time{}},
		{"the base is newer", func(w *world) { w.self.Base = "2.0.0" }, nil, []Kind{TooOld}, time.Time{}},
		{"active already", func(w *world) { w.self.Active = "2.0.0" }, nil, []Kind{Current}, time.Time{}},
		{"architecture", nil, func(r *feed.Release) { r.Architecture = otherMachine() }, []Kind{Architecture}, time.Time{}},
		{"another system", nil, func(r *feed.Release) { r.OS.ID = "otheros" }, []Kind{OS}, time.Time{}},
		{"another release of the system", nil, func(r *feed.Release) { r.OS.VersionID = "2" }, []Kind{OS}, time.Time{}},
		{"any system", nil, func(r *feed.Release) { r.OS = feed.OS{ID: "_any"} }, nil, time.Time{}},
		{"held for ever", func(w *world) { w.policy.Hold = &Hold{} }, nil, []Kind{Held}, time.Time{}},
		{"held until", func(w *world) { w.policy.Hold = &Hold{Until: tomorrow, Reason: "the shop is open"} }, nil, []Kind{Held}, tomorrow},
		{"the hold is over", func(w *world) { w.policy.Hold = &Hold{Until: start()} }, nil, nil, time.Time{}},
		{"pinned to another", func(w *world) { w.policy.Pin = "1.0.0" }, nil, []Kind{Pinned}, time.Time{}},
		{"pinned to this", func(w *world) { w.policy.Pin = "2.0.0" }, nil, nil, time.Time{}},
		{"outside of the window", func(w *world) { w.policy.Window = &when.Window{Begin: 120, End: 180} }, nil, []Kind{InWindow}, start().Add(14 * time.Hour)},
		{"inside of the window", func(w *world) { w.policy.Window = &when.Window{Begin: 600, End: 1440} }, nil, nil, time.Time{}},
		{"before the wave", nil, wave(time.Hour, time.Hour, 10000), []Kind{InWave}, start().Add(time.Hour)},
		{"in the wave", nil, wave(-time.Hour, time.Hour, 10000), nil, time.Time{}},
		{"a host without a machine ID is in the end of the wave", func(w *world) { w.must(os.Remove(filepath.Join(w.root, "etc/machine-id"))) }, wave(-time.Hour, time.Hour, 10000), []Kind{InWave}, start().Add(time.Hour)},
		{"after the wave", nil, wave(-2*time.Hour, -time.Hour, 0), nil, time.Time{}},
		{"another version first", nil, func(r *feed.Release) { r.After = "1.5.0" }, []Kind{NeedsVersion}, time.Time{}},
		{"the other version runs", nil, func(r *feed.Release) { r.After = "1.0.0" }, nil, time.Time{}},
		{
			"all at once",
			func(w *world) {
				w.policy.Hold, w.policy.Pin, w.policy.Window = &Hold{}, "1.0.0", &when.Window{Begin: 120, End: 180}
				w.self.Blocked, w.self.Base = []Blocked{{"2.0.0", "it crashed"}}, "2.0.0"
			},
			func(r *feed.Release) {
				r.Architecture, r.OS.ID, r.After = otherMachine(), "otheros", "1.5.0"
				wave(time.Hour, time.Hour, 0)(r)
			},
			[]Kind{TooOld, IsBlocked, Architecture, OS, Held, Pinned, InWindow, InWave, NeedsVersion}, time.Time{},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if c.arrange != nil {
				c.arrange(w)
			}
			if c.change == nil {
				c.change = func(*feed.Release) {}
			}
			w.publish(release("2.0.0", c.change))
			r := w.check()
			if got := kinds(r, "2.0.0"); !slices.Equal(got, c.want) {
				t.Fatalf("got %v, want %v: %+v", got, c.want, r)
			}
			if (r.Offer == nil) != (len(c.want) > 0) {
				t.Errorf("got the offer %+v", r.Offer)
			}
			if len(c.want) == 1 && !r.Others[0].Reasons[0].Until.Equal(c.until) {
				t.Errorf("got until %s, want %s", r.Others[0].Reasons[0].Until, c.until)
			}
			for _, o := range r.Others {
				for _, reason := range o.Reasons {
					if !strings.HasSuffix(reason.Message, ".") && !strings.Contains(reason.Message, "unblock") {
						t.Errorf("%q is not a sentence", reason.Message)
					}
				}
			}
		})
	}
}

func otherMachine() string {
	if machine() == "arm64" {
		return "x86-64"
	}
	return "arm64"
}

func TestAnImageForAnotherArchitectureIsLeftOutIfThereIsOneForThisHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := func(r *feed.Release) { r.Architecture = otherMachine() }
	w.publish(release("2.0.0"), release("2.0.0", other), release("2.1.0", other))
	r := w.wantOffer("2.0.0")
	if len(r.Others) != 1 || !slices.Equal(kinds(r, "2.1.0"), []Kind{Architecture}) {
		t.Errorf("got %+v", r.Others)
	}
}

func TestAnOlderVersionIsOfferedIfTheNewestHasAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("3.0.0", func(r *feed.Release) { r.After = "2.0.0" }), release("2.0.0"), release("1.1.0"))
	r := w.wantOffer("2.0.0")
	if got := kinds(r, "3.0.0"); !slices.Equal(got, []Kind{NeedsVersion}) {
		t.Errorf("3.0.0: got %v", got)
	}
	if got := kinds(r, "1.1.0"); !slices.Equal(got, []Kind{Superseded}) {
		t.Errorf("1.1.0: got %v", got)
	}
}

func TestAutoIsWhatTridentMayDoNow(t *testing.T) {
	t.Parallel()
	noon, night := &when.Window{Begin: 600, End: 900}, &when.Window{Begin: 60, End: 120}
	sum := sha256.Sum256([]byte("image 2.0.0"))
	failed := func(kind errkind.Kind, change ...func(*Failed)) *Failed {
		f := &Failed{SHA256: hex.EncodeToString(sum[:]), Kind: kind, Message: "the budget is too small", At: start().Add(-time.Hour)}
		for _, do := range change {
			do(f)
		}
		return f
	}
	unfit := errkind.WithHint(errkind.Errorf(errkind.Precondition, "/usr is writable"), "allow a read-only /usr")
	tomorrow := start().Add(23 * time.Hour)
	for name, c := range map[string]struct {
		policy Policy
		self   Self
		want   Auto
		reason *Reason // the message is a part of it
	}{
		"nothing is decided":         {Policy{}, Self{}, AutoOff, nil},
		"it may activate":            {Policy{Auto: AutoActivate}, Self{}, AutoActivate, nil},
		"in the window":              {Policy{Auto: AutoActivate, Window: noon}, Self{}, AutoActivate, nil},
		"outside of the window":      {Policy{Auto: AutoActivate, Window: night}, Self{Unfit: unfit}, AutoCheck, &Reason{InWindow, "outside of the owner's window", start().Add(13 * time.Hour)}},
		"off, outside of the window": {Policy{Auto: AutoOff, Window: night}, Self{}, AutoOff, nil},
		"the host is unfit":          {Policy{Auto: AutoActivate}, Self{Unfit: unfit}, AutoStage, &Reason{NeedsPerson, "/usr is writable. Allow a read-only /usr.", time.Time{}}},
		"an unfit host may stage":    {Policy{Auto: AutoStage}, Self{Unfit: unfit}, AutoStage, nil},
		"the same image failed":      {Policy{Auto: AutoActivate}, Self{Failed: failed(errkind.TooLarge)}, AutoCheck, &Reason{HasFailed, "failed: the budget is too small.", tomorrow}},
		"the same version failed": {
			Policy{Auto: AutoStage}, Self{Failed: failed(errkind.Untrusted, func(f *Failed) { f.SHA256, f.Version = "", "2.0.0" })}, AutoCheck,
			&Reason{HasFailed, "trident self upgrade --from-feed", tomorrow},
		},
		"it failed, and may only check":    {Policy{Auto: AutoCheck}, Self{Failed: failed(errkind.TooLarge)}, AutoCheck, nil},
		"it failed a day ago":              {Policy{Auto: AutoActivate}, Self{Failed: failed(errkind.TooLarge, func(f *Failed) { f.At = start().Add(-24 * time.Hour) })}, AutoActivate, nil},
		"the network failed":               {Policy{Auto: AutoActivate}, Self{Failed: failed(errkind.Unavailable)}, AutoActivate, nil},
		"another image failed":             {Policy{Auto: AutoActivate}, Self{Failed: failed(errkind.TooLarge, func(f *Failed) { f.SHA256 = "" })}, AutoActivate, nil},
		"it failed, and the host is unfit": {Policy{Auto: AutoActivate}, Self{Unfit: unfit, Failed: failed(errkind.TooLarge)}, AutoCheck, &Reason{HasFailed, "", tomorrow}},
	} {
		w := newWorld(t)
		c.policy.Feed = w.policy.Feed
		w.policy, w.self = c.policy, c.self
		w.publish(release("2.0.0"))
		got := w.check()
		if got.Auto != c.want || (len(got.AutoReasons) == 1) != (c.reason != nil) {
			t.Errorf("%s: got %s, %+v; want %s", name, got.Auto, got.AutoReasons, c.want)
			continue
		}
		if c.reason != nil {
			r := got.AutoReasons[0]
			if r.Kind != c.reason.Kind || !strings.Contains(r.Message, c.reason.Message) || !r.Until.Equal(c.reason.Until) {
				t.Errorf("%s: got %+v, want %+v", name, r, *c.reason)
			}
		}
	}
}

func TestTheTransferSizeIsThatOfTheSmallestPatch(t *testing.T) {
	t.Parallel()
	patch := func(from string, size int64) feed.Patch {
		return feed.Patch{From: from, Path: feed.PatchPath("stable", machine(), from, "2.0.0"), Size: size, SHA256: strings.Repeat("a", 64)}
	}
	two := release("2.0.0", func(r *feed.Release) {
		r.Patches = []feed.Patch{patch("0.5.0", 10), patch("0.9.0", 2000), patch("1.0.0", 1000)}
	})
	for _, c := range []struct {
		name    string
		images  []Image
		want    int64
		patches []string
	}{
		{"no base", nil, imageSize, nil},
		{"one base", []Image{{"1.0.0", "x"}}, 1000, []string{"1.0.0"}},
		{"two bases", []Image{{"0.9.0", "y"}, {"1.0.0", "x"}}, 1000, []string{"1.0.0", "0.9.0"}},
		{"staged", []Image{{"1.0.0", "x"}, {"2.0.0", two.RootHash}}, 0, []string{"1.0.0"}},
		{"another image of the same version", []Image{{"2.0.0", "x"}}, imageSize, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.self.Images, w.policy.MaxBytes = c.images, 77
			w.publish(two)
			r := w.wantOffer("2.0.0")
			if r.Offer.TransferSize != c.want || r.Offer.Staged != (c.name == "staged") {
				t.Errorf("got %+v", r.Offer)
			}
			src, version, err := w.service.Source(t.Context(), "")
			if err != nil || version != "2.0.0" || src.MaxBytes != 77 || src.URL != w.server.URL+"/"+feed.ImagePath("stable", machine(), "2.0.0") || len(src.SHA256) != 64 {
				t.Errorf("got %+v, %s, %v", src, version, err)
			}
			var from []string
			for _, p := range src.Patches {
				from = append(from, p.From)
				if p.URL != w.server.URL+"/"+feed.PatchPath("stable", machine(), p.From, "2.0.0") || p.SHA256 == "" || p.Size == 0 {
					t.Errorf("got the patch %+v", p)
				}
			}
			if diff := cmp.Diff(c.patches, from); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSourceRefusesAVersionThatIsNotOffered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.self.Blocked = []Blocked{{"3.0.0", "it crashed"}}
	w.publish(release("3.0.0"), release("2.0.0"), release("1.5.0"), release("1.0.0"), release("0.1.0"),
		release("4.0.0", func(r *feed.Release) { r.OS.ID = "x" }), release("5.0.0", func(r *feed.Release) { r.After = "4.0.0" }))
	for _, c := range []struct {
		version string
		kind    errkind.Kind // "" for success
		text    string
	}{
		{"", "", ""},
		{"2.0.0", "", ""},
		{"1.5.0", "", ""},
		{"3.0.0", errkind.Blocked, "it crashed"},
		{"1.0.0", errkind.Exists, "runs on this host"},
		{"0.1.0", errkind.TooOld, "is not newer"},
		{"4.0.0", errkind.Incompatible, "for the system"},
		{"5.0.0", errkind.Precondition, "4.0.0"},
		{"9.0.0", errkind.NotFound, "9.0.0"},
	} {
		_, got, err := w.service.Source(t.Context(), c.version)
		if c.kind == "" && (err != nil || got != cmpOr(c.version, "2.0.0")) {
			t.Errorf("%q: got %q, %v", c.version, got, err)
		}
		if c.kind != "" && (err == nil || errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.text)) {
			t.Errorf("%q: got %v of kind %s, want %s with %q", c.version, err, errkind.Of(err), c.kind, c.text)
		}
	}
	w.policy.Window = &when.Window{Begin: 60, End: 120}
	if _, _, err := w.service.Source(t.Context(), ""); errkind.Of(err) != errkind.Precondition {
		t.Errorf("outside of the window: %v", err)
	}
	if _, _, err := w.service.Source(t.Context(), "2.0.0"); err != nil {
		t.Errorf("a version that a person names, outside of the window: %v", err)
	}
	w.policy.Hold = &Hold{}
	if _, _, err := w.service.Source(t.Context(), "2.0.0"); errkind.Of(err) != errkind.Precondition {
		t.Errorf("held: %v", err)
	}
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func TestAFeedMayBeAFolderOrHaveAQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.policy.Feed = w.server.URL + "/?sig=secret"
	r := w.wantOffer("2.0.0")
	src, _, err := w.service.Source(t.Context(), "")
	if err != nil || !strings.HasSuffix(src.URL, ".raw?sig=secret") || strings.Contains(r.Feed, "secret") {
		t.Errorf("got %s, %v; %s", src.URL, err, r.Feed)
	}
	folder := filepath.Join(w.root, "srv/feed")
	w.copyTo(folder)
	w.policy.Feed = "file:///srv/feed"
	w.wantOffer("2.0.0")
	if src, _, err := w.service.Source(t.Context(), ""); err != nil || !strings.HasPrefix(src.URL, "file:///srv/feed/stable/") {
		t.Errorf("got %+v, %v", src, err)
	}
}

func TestWithoutAFeedNothingIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy.Feed = ""
	w.wantFault(NoFeed, "names no update feed")
	if len(w.requests) > 0 {
		t.Errorf("requests: %v", w.requests)
	}
	if _, err := os.Stat(filepath.Join(w.root, CacheDir)); err == nil {
		t.Error("there is a cache")
	}
}

func TestAChannelThatTheFeedDoesNotHaveIsAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.policy.Channel = "beta"
	w.wantFault(NoChannel, `"beta"`)
}

func TestAPolicyThatIsNotValidIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy.Auto = "x"
	if _, err := w.service.Check(t.Context()); errkind.Of(err) != errkind.Invalid {
		t.Errorf("got %v", err)
	}
	w.service.Policy = func(context.Context) (Policy, error) { return Policy{}, errors.New("the datastore is gone") }
	if _, err := w.service.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "the datastore is gone") {
		t.Errorf("got %v", err)
	}
}

func TestACallThatEndsIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.service.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAReleaseWithAFaultIsLeftOutAndLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"), release("3.0.0", func(r *feed.Release) { r.RootHash = "x" }))
	w.wantOffer("2.0.0")
	if !strings.Contains(w.log.String(), "3.0.0") || !strings.Contains(w.log.String(), "rootHash") {
		t.Errorf("the log is %s", w.log.String())
	}
}

func TestAWarmCheckFetchesTheTimestampOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
	if info, err := os.Stat(filepath.Join(w.root, CacheDir)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the cache: %v, %v", info, err)
	}
	w.requests = nil
	w.wantOffer("2.0.0")
	if diff := cmp.Diff([]string{"/tuf/2.root.json", "/tuf/timestamp.json"}, w.requests); diff != "" {
		t.Error(diff)
	}
}

func TestIncomingReturnsTheNewestImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.service.Incoming(); errkind.Of(err) != errkind.NotFound {
		t.Errorf("without the folder: %v", err)
	}
	dir := filepath.Join(w.root, IncomingDir)
	for _, version := range []string{"1.0.0", "2.0.0~rc.1", "2.0.0", "1.9.0"} {
		writeFile(t, filepath.Join(dir, "trident_"+version+"_"+machine()+".raw"), "x")
	}
	newer := filepath.Join(dir, "trident_3.0.0_"+machine()+".raw")
	if err := errors.Join(os.Symlink("/etc/os-release", newer), os.Mkdir(filepath.Join(dir, "trident_4.0.0_"+machine()+".raw"), 0o755)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "trident_5.0.0_"+otherMachine()+".raw"), "x")
	writeFile(t, filepath.Join(dir, ".#sysupdatetrident_6.0.0_"+machine()+".raw"), "x")
	writeFile(t, filepath.Join(dir, "trident_v7_"+machine()+".raw"), "x")
	anybodys := filepath.Join(dir, "trident_8.0.0_"+machine()+".raw")
	writeFile(t, anybodys, "x")
	if err := os.Chmod(anybodys, 0o666); err != nil {
		t.Fatal(err)
	}
	src, err := w.service.Incoming()
	if want := "/" + IncomingDir + "/trident_2.0.0_" + machine() + ".raw"; err != nil || src.Path != want {
		t.Errorf("got %+v, %v; want %s", src, err, want)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.Incoming(); errkind.Of(err) != errkind.Denied {
		t.Errorf("a folder of everybody: %v", err)
	}
}
