package publish

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
)

var errPower = errors.New("the power is cut")

// TestACrashOfPublishLeavesAWholeFeed cuts the power before each change of a file, and expects a
// sound feed with the old versions or the new ones, and that the next Publish completes it.
func TestACrashOfPublishLeavesAWholeFeed(t *testing.T) {
	t.Parallel()
	before := newBench(t, "stable", "beta")
	before.add("stable", image(t, "1.0.0"))
	before.add("stable", image(t, "2.0.0"))
	before.add("beta", image(t, "3.0.0"))
	before.publish()
	// One publication with everything: a new image, a withdrawn one, new keys of all roles.
	before.add("stable", image(t, "4.0.0"))
	before.with(func(p *Publisher) error {
		_, err := p.Withdraw("", "2.0.0")
		return errors.Join(err, p.Rotate(RotateOptions{Roles: []string{"root", "timestamp", "snapshot", "targets", "stable"}, Validity: DefaultValidity()}))
	})
	old, fresh := []string{"1.0.0", "2.0.0"}, []string{"1.0.0", "4.0.0"}
	states := map[string]bool{}
	for n := 0; ; n++ {
		b := &bench{t: t, dir: filepath.Join(t.TempDir(), "feed"), keys: filepath.Join(t.TempDir(), "keys"), now: start}
		if err := errors.Join(os.CopyFS(b.dir, os.DirFS(before.dir)), os.CopyFS(b.keys, os.DirFS(before.keys)), chmodKeys(b.keys)); err != nil {
			t.Fatal(err)
		}
		where := b.publishUntil(n)
		if where == "" {
			break
		}
		t.Log("power cut before", strings.ReplaceAll(strings.ReplaceAll(where, b.dir, "FEED"), b.keys, "KEYS"))
		got := b.versions(1, "stable")
		if !slices.Equal(got, old) && !slices.Equal(got, fresh) {
			t.Errorf("power cut before %s: versions %q", where, got)
		}
		states[strings.Join(got, " ")] = true
		b.publish()
		b.want(1, "stable", fresh...)
		b.want(2, "stable", fresh...)
		if r, err := b.verify(1); err != nil || len(r.Notes) > 0 {
			t.Errorf("after a power cut before %s: %+v, %v", where, r, err)
		}
		if left, err := filepath.Glob(filepath.Join(b.dir, "*", ".*")); err != nil || len(left) > 0 {
			t.Errorf("after a power cut before %s there is %q, %v", where, left, err)
		}
	}
	if len(states) != 2 {
		t.Errorf("the power cuts show %v", states)
	}
}

// publishUntil publishes, cuts the power before change n, and returns which change that is; "" if
// Publish makes no more than n.
func (b *bench) publishUntil(n int) (where string) {
	b.t.Helper()
	p, err := Open(b.dir, b.keys, b.now)
	if err != nil {
		b.t.Fatal(err)
	}
	p.touch = func(what string) error {
		if n--; n < 0 {
			where = what
			return errPower
		}
		return nil
	}
	_, err = p.Publish(b.t.Context(), DefaultValidity())
	if (where != "") != errors.Is(err, errPower) || where == "" && err != nil {
		b.t.Fatalf("power cut before %q: %v", where, err)
	}
	if err := p.Close(); err != nil {
		b.t.Fatal(err)
	}
	return where
}

func TestEveryDamagedFileOfAFeedIsNamed(t *testing.T) {
	t.Parallel()
	before := newBench(t, "stable")
	before.add("stable", image(t, "1.0.0"))
	before.publish()
	for name := range filesOf(t, before.dir) {
		if name == "/tuf/1.root.json" { // hosts have it
			continue
		}
		for what, damage := range map[string]func(file string) error{
			"missing":   os.Remove,
			"empty":     func(file string) error { return os.Truncate(file, 0) },
			"truncated": func(file string) error { return os.Truncate(file, 50) },
			"endless":   func(file string) error { return os.Truncate(file, 1<<31) },
		} {
			b := &bench{t: t, dir: filepath.Join(t.TempDir(), "feed"), keys: before.keys, now: start}
			if err := errors.Join(os.CopyFS(b.dir, os.DirFS(before.dir)), damage(filepath.Join(b.dir, name))); err != nil {
				t.Fatal(err)
			}
			_, err := b.verify(1)
			if kind := errkind.Of(err); err == nil || !slices.Contains([]errkind.Kind{errkind.NotFound, errkind.Corrupt, errkind.Untrusted, errkind.TooLarge}, kind) {
				t.Errorf("%s %s: %v", what, name, err)
			}
		}
	}
}

func TestAHostRefusesAFeedThatIsOldOrOfSomebodyElse(t *testing.T) {
	t.Parallel()
	b, other := newBench(t, "stable"), newBench(t, "stable")
	for _, f := range []*bench{b, other} {
		f.add("stable", image(t, "1.0.0"))
		f.publish()
	}
	if _, err := b.verifyAt(other.dir, b.read(filepath.Join(b.keys, "roots/1.root.json"))); errkind.Of(err) != errkind.Untrusted {
		t.Errorf("a feed with other keys: %v", err)
	}
	b.now = b.now.Add(8 * day)
	if _, err := b.verify(1); errkind.Of(err) != errkind.Untrusted || errkind.Hint(err) == "" {
		t.Errorf("an old feed: %v", err)
	}
	b.publish()
	b.want(1, "stable", "1.0.0")
}

func TestTwoHundredVersionsInThreeChannelsArePublished(t *testing.T) {
	t.Parallel()
	b := newManyVersions(t, 200)
	out := b.publish()
	for _, channel := range []string{"a", "b", "c"} {
		if out.Images[channel] != 200 {
			t.Errorf("channel %s has %d images", channel, out.Images[channel])
		}
		if info, err := os.Stat(filepath.Join(b.dir, "tuf", fmt.Sprintf("1.%s.json", channel))); err != nil || info.Size() > 5_000_000 {
			t.Errorf("metadata of channel %s: %v, %v", channel, info, err) // 5 MB is the limit of go-tuf
		}
	}
}

// newManyVersions makes a feed of n versions in each of three channels. The images are files of a
// few bytes, because Publish does not read them.
func newManyVersions(t testing.TB, n int) *bench {
	t.Helper()
	b := newBench(t, "a", "b", "c")
	b.with(func(p *Publisher) error {
		for _, channel := range p.Channels() {
			if err := p.mkdir(filepath.Join(b.dir, channel, "x86-64"), 0o755); err != nil {
				return err
			}
			for i := range n {
				at, made := madeUp(channel, i)
				if err := os.WriteFile(filepath.Join(b.dir, at), []byte("x"), 0o600); err != nil {
					return err
				}
				p.record.Channels[channel].Images[at] = made
			}
		}
		return p.save()
	})
	return b
}

func BenchmarkPublishTwoHundredVersionsInThreeChannels(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		f := newManyVersions(b, 200)
		b.StartTimer()
		f.publish()
	}
}

func TestMetadataThatHostsDoNotReadIsRefused(t *testing.T) {
	t.Parallel()
	if err := checkChannelSize("stable", feed.MaxChannel); err != nil {
		t.Error(err)
	}
	if err := checkChannelSize("stable", feed.MaxChannel+1); errkind.Of(err) != errkind.TooLarge || errkind.Hint(err) == "" {
		t.Errorf("%v", err)
	}
}
