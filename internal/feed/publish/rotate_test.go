package publish

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

func TestEveryRoleIsRotated(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	b.add("stable", image(t, "1.0.0"))
	b.publish()
	for n, role := range []string{"timestamp", "snapshot", "targets", "root", "stable", ""} {
		b.now = b.now.Add(time.Hour)
		var roles []string
		if role != "" {
			roles = []string{role}
		}
		b.with(func(p *Publisher) error { return p.Rotate(RotateOptions{Roles: roles, Validity: DefaultValidity()}) })
		b.want(1, "stable", "1.0.0")
		b.publish()
		b.want(1, "stable", "1.0.0")
		b.with(func(p *Publisher) error {
			root, err := p.current()
			want := int64(min(n+2, 5))
			if role == "" {
				want = 6
			}
			if err == nil && root.Signed.Version != want {
				t.Errorf("after %q: root %d, want %d", role, root.Signed.Version, want)
			}
			return err
		})
	}
	for root := 1; root <= 6; root++ {
		b.want(root, "stable", "1.0.0")
	}
	for _, old := range []string{"timestamp", "snapshot", "targets", "root", "stable"} {
		if err := os.Remove(filepath.Join(b.keys, old+".pem")); err != nil {
			t.Fatal(err)
		}
	}
	b.add("stable", image(t, "2.0.0"))
	b.publish()
	b.want(1, "stable", "1.0.0", "2.0.0")
}

func TestARootKeyStaysElsewhere(t *testing.T) {
	t.Parallel()
	var keys []ed25519.PrivateKey
	for range 4 {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "feed"), keys: filepath.Join(t.TempDir(), "keys"), now: start}
	p, err := Init(b.dir, b.keys, InitOptions{
		Channels: []string{"stable"}, RootKeys: publicKeys(keys[:3]...), Threshold: 2, Validity: DefaultValidity(), Now: b.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	// sign signs what waits with one of the keys, and reports whether more has to sign.
	sign := func(p *Publisher, i int) bool {
		w, err := p.Waiting()
		if err != nil || w == nil {
			t.Fatalf("nothing waits: %v", err)
		}
		if err := p.TakeSignature(ed25519.Sign(keys[i], b.read(w.File))); err != nil {
			t.Fatal(err)
		}
		w, err = p.Waiting()
		if err != nil {
			t.Fatal(err)
		}
		return w != nil
	}
	b.add("stable", image(t, "1.0.0"))
	b.with(func(p *Publisher) error {
		if _, err := p.Publish(t.Context(), DefaultValidity()); errkind.Of(err) != errkind.Precondition {
			t.Errorf("published without a root: %v", err)
		}
		if err := p.TakeSignature(make([]byte, ed25519.SignatureSize)); errkind.Of(err) != errkind.Untrusted {
			t.Errorf("a wrong signature: %v", err)
		}
		if err := p.SignWith(keys[3]); errkind.Of(err) != errkind.Untrusted {
			t.Errorf("a wrong key: %v", err)
		}
		for range 2 {
			if !sign(p, 0) {
				t.Error("one signature, also if it comes twice, is enough for two")
			}
		}
		if sign(p, 2) {
			t.Error("two signatures are not enough")
		}
		return nil
	})
	b.publish()
	b.want(1, "stable", "1.0.0")
	// Two new keys: two of the old keys and two of the new ones have to sign.
	b.with(func(p *Publisher) error {
		return p.Rotate(RotateOptions{Roles: []string{"root"}, RootKeys: publicKeys(keys[2:]...), Validity: DefaultValidity()})
	})
	if out := b.publish(); len(out.Notes) != 1 {
		t.Errorf("notes %q", out.Notes)
	}
	b.want(1, "stable", "1.0.0")
	b.with(func(p *Publisher) error {
		if err := p.Rotate(RotateOptions{Validity: DefaultValidity()}); errkind.Of(err) != errkind.Precondition {
			t.Errorf("a second new root: %v", err)
		}
		if !sign(p, 3) || !sign(p, 2) || sign(p, 1) {
			t.Error("old and new keys have to sign")
		}
		return nil
	})
	b.publish()
	b.want(1, "stable", "1.0.0")
	b.want(2, "stable", "1.0.0")
}
