package updates

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAServerMayAnswer403ForARootThatDoesNotExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.handle = answering("/2.root.json", func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusForbidden) })
	w.wantOffer("2.0.0")
}

func TestTheHostFollowsRotatedKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
	w.rotate("root", "timestamp")
	w.rotate("root", "snapshot", "targets", "stable")
	w.publish(release("2.1.0"))
	w.wantOffer("2.1.0")
	w.requests = nil
	w.restart()
	w.wantOffer("2.1.0")
	if slices.Contains(w.requests, "/tuf/2.root.json") {
		t.Errorf("the host began at the first root again: %v", w.requests)
	}
}

func TestAnOldHostFollowsEveryRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 5 {
		w.rotate("root", "timestamp")
	}
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
}

// An attacker with the keys of timestamp and snapshot can publish the highest version. The
// owner of the feed then replaces both keys.
func TestTheHostRecoversFromAFastForward(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
	w.version = 1 << 40
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
	w.version = 1
	w.publish(release("2.1.0"))
	w.wantFault(Untrusted, "older metadata")
	w.rotate("timestamp", "snapshot")
	w.publish(release("2.1.0"))
	w.wantOffer("2.1.0")
}

func TestANewURLOrANewerBakedRootDoesNotResetTheProtection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	old := t.TempDir()
	w.copyTo(old)
	w.rotate("root")
	w.publish(release("2.0.0"), release("2.0.1"))
	w.wantOffer("2.0.1")
	w.policy.Feed = "file:///mirror"
	mirror := filepath.Join(w.root, "mirror")
	w.must(os.CopyFS(mirror, os.DirFS(old)))
	w.wantFault(Untrusted, "older metadata than this host has seen")
	writeFile(t, filepath.Join(w.root, bakedRoot), w.rootData(2))
	w.wantFault(Untrusted, "older metadata than this host has seen")
	w.rotate("timestamp") // signed by the root that the host has
	writeFile(t, filepath.Join(w.root, ownersRoot), w.rootData(3))
	w.policy.Feed = w.server.URL
	w.publish(release("2.0.2"))
	w.wantOffer("2.0.2")
	if chains, _ := filepath.Glob(filepath.Join(w.root, CacheDir, "*", rootFile)); len(chains) != 1 {
		t.Errorf("the cache has %v", chains)
	}
}

func TestAnotherRootOfTheOwnerBeginsAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
	other := newPublisher(t)
	other.publish(release("1.5.0"))
	writeFile(t, filepath.Join(w.root, ownersRoot), other.rootData(1))
	w.policy.Feed = "file:///other"
	w.must(os.CopyFS(filepath.Join(w.root, "other"), os.DirFS(other.dir)))
	w.wantOffer("1.5.0")
	w.policy.Feed = w.server.URL
	w.wantFault(Untrusted, "not signed by enough trusted keys")
	w.must(os.Remove(filepath.Join(w.root, ownersRoot)))
	w.wantOffer("2.0.0")
	w.rollBack()
	w.wantFault(Untrusted, "older metadata than this host has seen")
}

func TestAHostWithoutAUsableRootTrustsNoFeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.must(os.Remove(filepath.Join(w.root, bakedRoot)))
	w.wantFault(Untrusted, "neither /etc/trident/feed-root.json nor /usr/lib/trident/feed-root.json exists")
	for _, text := range []string{"", "x", "{}", `{"signed":{"_type":"root","roles":{"root":null}},"signatures":[]}`, strings.Replace(w.rootData(1), `"sig":"`, `"sig":"00`, 1), strings.Repeat(" ", maxRootFile+1)} {
		writeFile(t, filepath.Join(w.root, ownersRoot), text)
		writeFile(t, filepath.Join(w.root, bakedRoot), w.rootData(1))
		w.wantFault(Untrusted, "etc/trident/feed-root.json")
	}
}
