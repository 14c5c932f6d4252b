package fetch

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/trident-project/trident/internal/errkind"
)

// shaky is a registry whose blobs may misbehave.
type shaky struct {
	*fakeRegistry
	url     string
	asked   []string                                                        // ranges of blobs; guarded by mu
	instead func(w http.ResponseWriter, r *http.Request, n int) (done bool) // of the nth blob, from 0
}

func newShaky(t *testing.T) *shaky {
	s := &shaky{fakeRegistry: &fakeRegistry{t: t, blob: noise(9, size)}}
	u := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		authorised := s.valid > 0 && r.Header.Get("Authorization") == fmt.Sprintf("Bearer t%d", s.valid)
		if authorised && strings.Contains(r.URL.Path, "/blobs/") {
			if r.Header.Get("If-Range") != "" {
				t.Error("a digest needs no If-Range, and what stores call it is not known")
			}
			s.mu.Lock()
			before := len(s.asked)
			s.asked = append(s.asked, r.Header.Get("Range"))
			s.mu.Unlock()
			if s.instead != nil && s.instead(w, r, before) {
				return
			}
		}
		s.ServeHTTP(w, r)
	})
	s.url = "oci://" + strings.TrimSuffix(strings.TrimPrefix(u, "http://"), "/image.raw") + "/os/image:v1"
	return s
}

// requests returns the ranges of blobs and the number of manifests that were asked for.
func (s *shaky) requests() (asked []string, manifests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked), s.manifests
}

// cutFirst breaks off the first blob half way.
func (s *shaky) cutFirst(w http.ResponseWriter, r *http.Request, n int) bool {
	if n == 0 {
		cut(w, r, s.blob, "", size/2)
	}
	return false
}

// layerOf is a manifest with one layer.
func layerOf(blob []byte) string {
	return fmt.Sprintf(`{"layers":[{"digest":"sha256:%s","size":%d}]}`, sum(blob), len(blob))
}

func annSays(password string) Login {
	return func(context.Context, string) (auth.Credential, error) {
		return auth.Credential{Username: "ann", Password: password}, nil
	}
}

func TestALayerContinuesAfterABrokenConnectionAndAnExpiredToken(t *testing.T) {
	s := newShaky(t)
	s.login = "ann:s3cret"
	s.instead = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n == 0 {
			s.valid++ // from the next request on
		}
		return s.cutFirst(w, r, n)
	}
	r := newRig(t, Source{URL: s.url, Login: annSays("s3cret")})
	r.mustGet(t, s.blob)
	asked, manifests := s.requests()
	if want := fmt.Sprintf("[ bytes=%d-]", size/2); fmt.Sprint(asked) != want || manifests != 1 || r.received != size {
		t.Errorf("asked for %q and %d manifests, %d bytes came", asked, manifests, r.received)
	}
}

func TestALayerContinuesAfterARestartThoughTheTagHasMoved(t *testing.T) {
	s := newShaky(t)
	s.instead = s.cutFirst
	r := newRig(t, Source{URL: s.url})
	r.lim.Attempts = 1
	_, err := r.get(t)
	wantKind(t, err, errkind.Unavailable, "unexpected EOF")
	s.manifest = layerOf(noise(10, size))
	r.mustGet(t, s.blob)
	if _, manifests := s.requests(); manifests != 1 || r.received != size {
		t.Errorf("%d manifests were read, and %d bytes came", manifests, r.received)
	}
	s.instead = func(http.ResponseWriter, *http.Request, int) bool { panic("complete, and asked for again") }
	r.mustGet(t, s.blob)
}

func TestADeletedLayerBeginsAgainWithTheTag(t *testing.T) {
	for name, half := range map[string]int{"with bytes": size / 2, "without": 0} {
		t.Run(name, func(t *testing.T) {
			s := newShaky(t)
			s.instead = func(w http.ResponseWriter, r *http.Request, n int) bool {
				if n == 0 {
					cut(w, r, s.blob, "", half)
				}
				return false
			}
			r := newRig(t, Source{URL: s.url})
			r.lim.Attempts = 1
			_, err := r.get(t)
			wantKind(t, err, errkind.Unavailable, "EOF")
			s.blob = noise(10, size+7)
			r.mustGet(t, s.blob)
			if asked, manifests := s.requests(); manifests != 2 || len(asked) != 3 {
				t.Errorf("%d manifests were read, and %q asked for", manifests, asked)
			}
			if half > 0 {
				r.wantLog(t, "begun again from the first byte")
			}
		})
	}
}

// The store that a registry sends to has its own names and dates, and gets no token.
func TestALayerMayComeFromAStoreWithNamesOfItsOwn(t *testing.T) {
	s := newShaky(t)
	store := serve(t, func(w http.ResponseWriter, r *http.Request, before int) {
		if a := r.Header.Get("Authorization"); a != "" {
			t.Errorf("the store got %q", a)
		}
		w.Header().Set("Last-Modified", time.Unix(int64(before)*1e6, 0).UTC().Format(http.TimeFormat))
		if tag := fmt.Sprintf(`"%d"`, before); before == 0 {
			cut(w, r, s.blob, tag, size/3)
		} else {
			good(w, r, s.blob, tag)
		}
	})
	s.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		http.Redirect(w, r, store+"?signature=hush", http.StatusTemporaryRedirect)
		return true
	}
	r := newRig(t, Source{URL: s.url})
	r.mustGet(t, s.blob)
	if r.received != size {
		t.Errorf("%d bytes came for %d", r.received, size)
	}
	if record, err := os.ReadFile(r.path + ".json"); err != nil || strings.Contains(fmt.Sprint(string(record), r.logs), "hush") {
		t.Errorf("a secret is in %s, %q, %v", record, r.logs, err)
	}
}

func TestALayerThatIsNotWhatItsRegistrySaysIsNamedWithTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		prepare      func(s *shaky)
		kind         errkind.Kind
		words        string
		asked, looks int // most blobs and manifests
	}{
		"other bytes": {func(s *shaky) {
			s.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool { good(w, r, noise(1, size), ""); return true }
		}, errkind.Corrupt, "SHA-256 is " + sum(noise(1, size)) + ", not " + sum(noise(9, size)), 1, 1},
		"fewer bytes": {func(s *shaky) {
			s.instead = func(w http.ResponseWriter, r *http.Request, _ int) bool { good(w, r, s.blob[1:], ""); return true }
		}, errkind.Corrupt, fmt.Sprintf("the layer has %d bytes, the manifest says %d", size-1, size), 1, 1},
		"more bytes, and it does not say": {func(s *shaky) {
			s.instead = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				w.(http.Flusher).Flush()
				_, _ = w.Write(noise(1, size+1))
				return true
			}
		}, errkind.Corrupt, fmt.Sprintf("the source sent more than the announced %d bytes", size), 1, 1},
		"always another size": {func(s *shaky) {
			s.instead = func(w http.ResponseWriter, r *http.Request, n int) bool {
				if r.Header.Get("Range") == "" {
					cut(w, r, s.blob, "", 1000)
				}
				good(w, r, s.blob[1:], "")
				return true
			}
		}, errkind.Unavailable, "the source changed", 6, 3},
		"no blob": {func(s *shaky) {
			s.instead = func(w http.ResponseWriter, _ *http.Request, _ int) bool { w.WriteHeader(404); return true }
		}, errkind.NotFound, "the server answered 404", 1, 1},
		"two layers": {func(s *shaky) { s.manifest = `{"layers":[{},{}]}` }, errkind.Invalid, "the artifact has 2 layers", 0, 1},
		"too large":  {func(s *shaky) { s.blob = noise(9, 1_000_001) }, errkind.TooLarge, "the source has 1000001 bytes, the limit is 1000000", 0, 1},
		"broken": {func(s *shaky) {
			s.instead = func(w http.ResponseWriter, _ *http.Request, _ int) bool { w.WriteHeader(500); return true }
		}, errkind.Unavailable, "given up after 4 tries: the server answered 500", 4, 1},
		"never a byte": {func(s *shaky) {
			s.instead = func(_ http.ResponseWriter, r *http.Request, _ int) bool { <-r.Context().Done(); return true }
		}, errkind.Unavailable, "the source sent no byte for too long", 4, 1},
		"other credentials": {func(s *shaky) { s.login = "ann:other" }, errkind.Denied, "the registry does not accept the given credentials", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShaky(t)
			s.login = "ann:s3cret"
			c.prepare(s)
			r := newRig(t, Source{URL: s.url, Login: annSays("s3cret")})
			r.lim = Limits{MaxSize: 1_000_000, Stall: patience(name), Attempts: 4}
			_, err := r.get(t)
			wantKind(t, err, c.kind, c.words)
			if !strings.HasPrefix(err.Error(), "fetch "+s.url+": ") || strings.Contains(fmt.Sprint(err, r.logs), "s3cret") {
				t.Errorf("%v, log %q", err, r.logs)
			}
			if asked, manifests := s.requests(); len(asked) > c.asked || manifests > c.looks {
				t.Errorf("%q and %d manifests were asked for", asked, manifests)
			}
		})
	}
}

// What is wrong in the registry can be put right there.
func TestATagIsResolvedAgainAfterARefusedArtifact(t *testing.T) {
	for name, refused := range map[string]func(s *shaky, r *rig){
		"too large": func(s *shaky, r *rig) { s.manifest, r.lim.MaxSize = layerOf(noise(1, 2*size)), size },
		"no room": func(s *shaky, r *rig) {
			s.manifest = fmt.Sprintf(`{"layers":[{"digest":"sha256:%s","size":%d}]}`, sum(nil), 1<<60)
		},
		"another size":          func(s *shaky, _ *rig) { s.manifest = strings.Replace(layerOf(s.blob), fmt.Sprint(size), "7", 1) },
		"a blob that is absent": func(s *shaky, _ *rig) { s.manifest = layerOf(noise(2, size)) },
		"no artifact":           func(s *shaky, _ *rig) { s.manifest = "{}" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShaky(t)
			r := newRig(t, Source{URL: s.url})
			r.lim.MaxSize = 1 << 61
			refused(s, r)
			if _, err := r.get(t); err == nil {
				t.Fatal("it was taken")
			}
			s.manifest = ""
			r.mustGet(t, s.blob)
		})
	}
}

func TestARegistryThatDoesNotAnswerIsGivenUp(t *testing.T) {
	u := serve(t, func(_ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() })
	from := "oci://" + strings.TrimPrefix(strings.TrimSuffix(u, "/image.raw"), "http://") + "/os/image"
	r := newRig(t, Source{URL: from})
	r.lim = Limits{Stall: 100 * time.Millisecond, Attempts: 2, MaxSize: size}
	_, err := r.get(t)
	wantKind(t, err, errkind.Unavailable, "given up after 2 tries: the source sent no byte for too long")
	_, err = rangedWithin(t, Source{URL: from}, nil, 100*time.Millisecond)
	wantKind(t, err, errkind.Unavailable, "given up after 3 tries: the source sent no byte for too long")
}

func TestAURLThatNamesNoLayerIsRefusedWithoutItsSecrets(t *testing.T) {
	for _, bad := range []string{"oci://ann:hush@host/a:b", "oci://host/a?hush", "oci://host/UPPER", "oci:hush", "oci://host/a@sha256:12"} {
		_, err := newRig(t, Source{URL: bad}).get(t)
		wantKind(t, err, errkind.Invalid, "must be of the form oci://")
		if strings.Contains(err.Error(), "hush") {
			t.Errorf("a secret is in %q", err)
		}
	}
}
