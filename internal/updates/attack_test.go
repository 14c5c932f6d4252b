package updates

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// trusted returns the content of the files of the cache that hold what the host trusts.
func (w *world) trusted() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	files, err := filepath.Glob(filepath.Join(w.root, CacheDir, "*", "*.json"))
	w.must(err)
	for _, name := range files {
		data, err := os.ReadFile(name)
		w.must(err)
		if base := filepath.Base(name); base != stateFile {
			out[base] = string(data)
		}
	}
	return out
}

// answering returns a handler that answers requests whose path ends with suffix.
func answering(suffix string, do http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	return func(out http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, suffix) {
			return false
		}
		do(out, r)
		return true
	}
}

func endless(out http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := out.Write(bytes.Repeat([]byte("["), 4096)); err != nil {
			return
		}
	}
}

// TestAFeedUnderAttackOffersNothing has a host that has read a good feed with 2.0.0. Then the
// feed offers 3.0.0, and something is wrong.
func TestAFeedUnderAttackOffersNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		attack  func(w *world)
		kind    Kind
		message string
	}{
		{"rollback of everything", func(w *world) { w.rollBack() }, Untrusted, "older metadata than this host has seen"},
		{"rollback of the snapshot", func(w *world) {
			w.publish(release("3.0.0"))
			old, err := os.ReadFile(filepath.Join(w.dir, "tuf/1.snapshot.json"))
			w.must(err)
			w.publishTimestamp(metaOf(1, old))
		}, Untrusted, "older metadata than this host has seen"},
		{"freeze until after the expiry", func(w *world) { w.now = w.expires.Add(49 * time.Hour) }, Stale, "it was valid until 2026-06-08T12:00:00Z and is 2 days too old"},
		{"the root has expired", func(w *world) {
			w.expires, w.now = w.now.Add(1000*24*time.Hour), w.now.Add(366*24*time.Hour)
			w.publish(release("3.0.0"))
		}, Stale, "is 24 hours too old"},
		{"mix of two snapshots", func(w *world) {
			w.publish(release("3.0.0"))
			old, err := os.ReadFile(filepath.Join(w.dir, "tuf/2.snapshot.json"))
			w.must(err)
			w.write("tuf/3.snapshot.json", old)
		}, Untrusted, "3.snapshot.json does not have the announced content"},
		{"mix of two channels", func(w *world) {
			w.publish(release("3.0.0"))
			old, err := os.ReadFile(filepath.Join(w.dir, "tuf/2.stable.json"))
			w.must(err)
			w.write("tuf/3.stable.json", old)
		}, Untrusted, "3.stable.json does not have the announced content"},
		{"other key of the timestamp", func(w *world) { w.keys["timestamp"] = newKey(w.t); w.publish(release("3.0.0")) }, Untrusted, "not signed by enough trusted keys: tuf/timestamp.json"},
		{"other key of the targets", func(w *world) { w.keys["targets"] = newKey(w.t); w.publish(release("3.0.0")) }, Untrusted, "3.targets.json"},
		{"key of the channel signs the targets", func(w *world) { w.keys["targets"] = w.keys["stable"]; w.publish(release("3.0.0")) }, Untrusted, "3.targets.json"},
		{"other key of the channel", func(w *world) { w.signChannelWith(newKey(w.t)) }, Untrusted, "3.stable.json"},
		{"a root that nobody trusts", func(w *world) {
			w.keys["root"] = newKey(w.t)
			w.rotate("root")
			w.write("tuf/2.root.json", []byte(strings.Replace(w.rootData(2), `"sig":"`, `"sig":"00`, 1)))
		}, Untrusted, "tuf/2.root.json"},
		{"a root that skips a version", func(w *world) {
			w.publisher.root.Signed.Version++
			w.rotate("timestamp")
			w.write("tuf/2.root.json", []byte(w.rootData(3)))
		}, Untrusted, "tuf/2.root.json"},
		{"endless timestamp", func(w *world) { w.handle = answering("/timestamp.json", endless) }, Untrusted, "too large"},
		{"endless root", func(w *world) { w.handle = answering("/2.root.json", endless) }, Untrusted, "too large"},
		{"endless targets", func(w *world) { w.publish(); w.handle = answering("/3.targets.json", endless) }, Untrusted, "more than the announced"},
		{"a server that hangs", func(w *world) {
			w.service.timeout = 50 * time.Millisecond
			w.handle = answering("/timestamp.json", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		}, Unreachable, "the allowed time"},
		{"a server that sends a byte now and then", func(w *world) {
			w.service.timeout = 50 * time.Millisecond
			w.handle = answering("/timestamp.json", func(out http.ResponseWriter, r *http.Request) {
				_, _ = out.Write([]byte("{"))
				_ = http.NewResponseController(out).Flush()
				<-r.Context().Done()
			})
		}, Unreachable, "the allowed time"},
		{"redirects without end", func(w *world) {
			w.handle = answering("", func(out http.ResponseWriter, r *http.Request) {
				http.Redirect(out, r, r.URL.Path+"x", http.StatusFound)
			})
		}, Unreachable, "redirects"},
		{"200 for files that do not exist", func(w *world) {
			w.handle = answering("/2.root.json", func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write([]byte("<html>Not here</html>")) })
		}, Untrusted, "a server that answers 200 for files that do not exist"},
		{"403 for all", func(w *world) {
			w.handle = answering("", func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusForbidden) })
		}, Unreachable, "403"},
		{"404 for all", func(w *world) { w.handle = answering("", http.NotFound) }, Unreachable, "404"},
		{"500 for the next root", func(w *world) {
			w.handle = answering("/2.root.json", func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusInternalServerError) })
		}, Unreachable, "500"},
		{"no server", func(w *world) { w.server.Close() }, Unreachable, "refused"},
		{"truncated", func(w *world) { w.cut("tuf/timestamp.json") }, Untrusted, "malformed: tuf/timestamp.json"},
		{"empty", func(w *world) { w.write("tuf/timestamp.json", nil) }, Untrusted, "malformed: tuf/timestamp.json"},
		{"a deep file", func(w *world) { w.write("tuf/timestamp.json", bytes.Repeat([]byte("["), 16000)) }, Untrusted, "malformed: tuf/timestamp.json"},
		{"a timestamp that names no snapshot", func(w *world) { w.version++; w.publishTimestamp(nil) }, Untrusted, "tuf/timestamp.json"},
		{"a snapshot that lacks the channel's role", func(w *world) {
			w.version++
			w.publishTop(map[string][]byte{"targets.json": []byte("{}")})
		}, Untrusted, "snapshot.json"},
		{"a channel that delegates to itself", func(w *world) { w.delegateInCircles() }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.publish(release("1.0.0"))
			w.publish(release("1.0.0"), release("2.0.0"))
			w.wantOffer("2.0.0")
			before := w.trusted()
			c.attack(w)
			if c.kind == "" {
				w.check()
				return
			}
			r := w.wantFault(c.kind, c.message)
			if got := kinds(r, "2.0.0"); len(r.Others) != 2 || len(got) != 0 {
				t.Errorf("the last known versions are not shown: %+v", r.Others)
			}
			if !r.Refreshed.Equal(start()) || r.Expires.IsZero() {
				t.Errorf("refreshed at %s, valid until %s", r.Refreshed, r.Expires)
			}
			if after := w.trusted(); after["releases.json"] != before["releases.json"] || after["root.json"] != before["root.json"] {
				t.Error("the attack changed what the host knows")
			}
			w.restart() // a restart changes nothing
			w.service.timeout = time.Second
			w.wantFault(c.kind, "")
		})
	}
}

// rollBack makes the feed what it was before the last publish.
func (w *world) rollBack() {
	snapshot, err := os.ReadFile(filepath.Join(w.dir, "tuf/1.snapshot.json"))
	w.must(err)
	w.version = 1
	w.publishTimestamp(metaOf(1, snapshot))
}

// signChannelWith publishes a channel that has another signature than the targets demand.
func (w *world) signChannelWith(key ed25519.PrivateKey) {
	w.publish(release("3.0.0"))
	targets, err := os.ReadFile(filepath.Join(w.dir, fmt.Sprintf("tuf/%d.targets.json", w.version)))
	w.must(err)
	channel := sign(w.publisher, w.targetsOf(nil), key)
	w.publishTop(map[string][]byte{"targets.json": targets, "stable.json": channel})
}

func (w *world) cut(name string) {
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	w.must(err)
	w.write(name, data[:len(data)/2])
}

// delegateInCircles publishes a channel that delegates to itself and to the targets.
func (w *world) delegateInCircles() {
	w.publish(release("3.0.0"))
	targets, err := os.ReadFile(filepath.Join(w.dir, fmt.Sprintf("tuf/%d.targets.json", w.version)))
	w.must(err)
	channel := w.targetsOf(nil)
	id, err := w.public("stable").ID()
	w.must(err)
	channel.Signed.Delegations = &metadata.Delegations{
		Keys: map[string]*metadata.Key{id: w.public("stable")},
		Roles: []metadata.DelegatedRole{
			{Name: "stable", KeyIDs: []string{id}, Threshold: 1, Paths: []string{"*"}},
			{Name: "targets", KeyIDs: []string{id}, Threshold: 1, Paths: []string{"*"}},
		},
	}
	w.publishTop(map[string][]byte{"targets.json": targets, "stable.json": sign(w.publisher, channel, w.keys["stable"])})
}

func TestAFeedThatExpiredIsGoodAgainAfterTheNextPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
	w.now = w.expires.Add(time.Hour)
	w.wantFault(Stale, "is an hour too old")
	w.expires = w.now.Add(24 * time.Hour)
	w.publish(release("2.1.0"))
	w.wantOffer("2.1.0")
}

func TestAnUnreachableFeedSaysHowOldTheLastMetadataIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	w.wantOffer("2.0.0")
	w.server.Close()
	if r := w.wantFault(Unreachable, ""); len(r.Reasons) != 1 {
		t.Errorf("got %+v", r.Reasons)
	}
	w.now = w.expires.Add(9 * 24 * time.Hour)
	if r := w.wantFault(Unreachable, ""); len(r.Reasons) != 2 || r.Reasons[1].Kind != Stale || !strings.Contains(r.Reasons[1].Message, "9 days") {
		t.Errorf("got %+v", r.Reasons)
	}
}

func TestADamagedCacheDoesNotStopTheHost(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"root.json", "timestamp.json", "snapshot.json", "targets.json", "stable.json", stateFile, releasesFile} {
		for _, text := range []string{"", "x", "{}", `{"signed":{"_type":"timestamp","meta":{}}}`, `{"signed":{"_type":"snapshot","meta":{"x":null}}}`} {
			w := newWorld(t)
			w.publish(release("2.0.0"))
			w.wantOffer("2.0.0")
			files, err := filepath.Glob(filepath.Join(w.root, CacheDir, "*", name))
			if err != nil || len(files) != 1 {
				t.Fatalf("%s: %v, %v", name, files, err)
			}
			writeFile(t, files[0], text)
			w.restart()
			w.wantOffer("2.0.0")
		}
	}
}

func TestAnInterruptedCheckLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(release("2.0.0"))
	writeFile(t, filepath.Join(w.root, CacheDir, workFolder, "timestamp.json"), "x")
	w.wantOffer("2.0.0")
	if _, err := os.Stat(filepath.Join(w.root, CacheDir, workFolder)); err == nil {
		t.Error("the working copy is still there")
	}
}

// The keys of these files are right, but parts are missing, on which go-tuf relies.
func TestSignedMetadataThatLacksAPartOffersNothing(t *testing.T) {
	t.Parallel()
	const head = `"spec_version":"1.0.31","version":%d,"expires":"2026-07-01T00:00:00Z"`
	for name, attack := range map[string]func(*world){
		"timestamp": func(w *world) {
			w.write("tuf/timestamp.json", resign(w.publisher, metadata.Timestamp(), fmt.Sprintf(`{"signed":{"_type":"timestamp",`+head+`,"meta":{"snapshot.json":null}},"signatures":[]}`, 9), "timestamp"))
		},
		"snapshot": func(w *world) {
			data := resign(w.publisher, metadata.Snapshot(), fmt.Sprintf(`{"signed":{"_type":"snapshot",`+head+`,"meta":{"targets.json":null,"stable.json":{"version":1}}},"signatures":[]}`, 2), "snapshot")
			w.version = 2
			w.write("tuf/2.snapshot.json", data)
			w.publishTimestamp(metaOf(2, data))
		},
		"keys of targets": func(w *world) {
			w.version = 2
			w.publishTop(map[string][]byte{"stable.json": nil, "targets.json": resign(w.publisher, metadata.Targets(), fmt.Sprintf(`{"signed":{"_type":"targets",`+head+
				`,"targets":{},"delegations":{"keys":{"x":null},"roles":[{"name":"stable","keyids":["x"],"threshold":1}]}},"signatures":[]}`, 2), "targets")})
		},
		"roles of root": func(w *world) {
			w.write("tuf/2.root.json", resign(w.publisher, metadata.Root(), fmt.Sprintf(`{"signed":{"_type":"root",`+head+`,"consistent_snapshot":true,"keys":{},"roles":{"root":null}},"signatures":[]}`, 2), "root"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.publish(release("2.0.0"))
			attack(w)
			w.wantFault(Untrusted, "")
			w.wantFault(Untrusted, "") // with what the first check has stored
			w.version = 10
			_ = os.Remove(filepath.Join(w.dir, "tuf/2.root.json"))
			w.rotate("timestamp", "snapshot")
			w.publish(release("2.0.0"))
			w.wantOffer("2.0.0")
		})
	}
}

// resign returns metadata with a signature of role.
func resign[T metadata.Roles](p *publisher, empty *metadata.Metadata[T], text, role string) []byte {
	p.t.Helper()
	parsed, err := empty.FromBytes([]byte(text))
	p.must(err)
	return sign(p, parsed, p.keys[role])
}

func FuzzMetadata(f *testing.F) {
	sum := strings.Repeat("a", 64)
	f.Add([]byte(`{"signed":{"_type":"targets","version":1,"expires":"2026-07-01T00:00:00Z","targets":{"stable/x86-64/trident_2.0.0_x86-64.raw":{"length":1,"hashes":{"sha256":"` + sum +
		`"},"custom":{"trident":{"version":"2.0.0","architecture":"x86-64","rootHash":"` + sum + `","published":"2026-01-01T00:00:00Z"}}}}},"signatures":[]}`))
	f.Add([]byte(`{"signed":{"_type":"snapshot","version":1,"meta":{"targets.json":null}},"signatures":[{"keyid":"a","sig":"00"}]}`))
	f.Add([]byte(`{"signed":{"_type":"timestamp","version":1,"meta":{"snapshot.json":{"version":1}}},"signatures":[]}`))
	f.Add([]byte(`{"signed":{"_type":"root","version":2,"keys":{"x":null},"roles":{"root":null}},"signatures":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseRoot(data); err == nil && r.hash == "" {
			t.Error("a root without a hash")
		}
		for _, name := range []string{"timestamp.json", "snapshot.json", "targets.json"} {
			_ = checkCached(name, data)
		}
		targets, err := metadata.Targets().FromBytes(data)
		if err != nil {
			return
		}
		for name, target := range targets.Signed.Targets {
			r, err := releaseOf("stable", name, target)
			if err == nil && (r.Size <= 0 || len(r.SHA256) != 64 || !strings.HasPrefix(r.Path, "stable/")) {
				t.Errorf("%q: got %+v", name, r)
			}
		}
	})
}
