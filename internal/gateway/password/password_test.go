package password

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

const right = "correct horse battery"

func list(t *testing.T) *List {
	t.Helper()
	l := &List{}
	if err := l.Set("admin", right, time.Now()); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOnlyTheRightPassphraseLogsIn(t *testing.T) {
	l, c := list(t), NewChecker()
	if e, err := c.Check(t.Context(), l, "admin", right); err != nil || e.Identity() != "passphrase:admin" {
		t.Errorf("%v, %v", e, err)
	}
	for _, tt := range [][2]string{{"admin", right + " "}, {"admin", ""}, {"", right}, {"nobody", right}, {"admin", strings.Repeat("x", MaxPassphrase+1)}} {
		if _, err := c.Check(t.Context(), l, tt[0], tt[1]); errkind.Of(err) != errkind.Denied || err.Error() != "log in: the name or the passphrase is wrong" {
			t.Errorf("%q: %v", tt, err)
		}
	}
}

func TestFewChecksWait(t *testing.T) {
	l, c := list(t), NewChecker()
	c.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Check(ctx, l, "admin", right); !errors.Is(err, context.Canceled) {
		t.Errorf("a check without its turn: %v", err)
	}
	for range maxWaiting {
		c.waiting <- struct{}{}
	}
	if _, err := c.Check(t.Context(), l, "admin", right); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("one more: %v", err)
	}
}

func TestTheFileIsKeptAndFaultsAreFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passphrases.json")
	if l, err := Read(path); err != nil || len(l.Entries) != 0 {
		t.Errorf("no file: %v, %v", l, err)
	}
	l := list(t)
	if err := l.Write(path, os.Getegid()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	got, err := Read(path)
	if err != nil || len(got.Entries) != 1 || got.Entries[0] != l.Entries[0] {
		t.Errorf("%v, %v", got, err)
	}
	data, _ := os.ReadFile(path)
	if strings.Contains(string(data), right) {
		t.Error("the file has the passphrase")
	}
	hash := l.Entries[0].Hash
	for _, text := range []string{
		"x", `{"passphrases":[{"name":"a b","argon2id":"` + hash + `"}]}`, `{"passphrases":[{"name":"a","argon2id":"x"}]}`,
		`{"passphrases":[{"name":"a","argon2id":"` + hash + `"},{"name":"a","argon2id":"` + hash + `"}]}`,
		`{"passphrases":[{"name":"a","argon2id":"` + strings.Replace(hash, "m=19456", "m=99999999", 1) + `"}]}`,
		`{"passphrases":[{"name":"a","argon2id":"` + strings.Replace(hash, "t=2", "t=0", 1) + `"}]}`,
		`{"passphrases":[{"name":"a","argon2id":"` + strings.Replace(hash, "v=19", "v=16", 1) + `"}]}`,
		`{"passphrases":[{"name":"a","argon2id":"$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA"}]}`,
		`{"passphrases":[` + strings.Repeat("{},", maxEntries) + `{}]}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); errkind.Of(err) != errkind.Corrupt || errkind.Hint(err) == "" {
			t.Errorf("%.80s: %v", text, err)
		}
	}
}

func TestBadPassphrasesAreRefused(t *testing.T) {
	l := list(t)
	for _, tt := range [][2]string{{"admin", "short"}, {"a/b", right}, {"", right}, {"admin", strings.Repeat("x", MaxPassphrase+1)}, {"admin", "\xff" + right}} {
		if err := l.Set(tt[0], tt[1], time.Now()); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%.40q: %v", tt, err)
		}
	}
	if err := l.Remove("nobody"); errkind.Of(err) != errkind.NotFound {
		t.Error(err)
	}
	if err := l.Remove("admin"); err != nil || len(l.Entries) != 0 {
		t.Errorf("%v, %v", l.Entries, err)
	}
}

func TestASessionEndsWithItsTimeAndItsPassphrase(t *testing.T) {
	l, s, now := list(t), NewSessions(), time.Now()
	token, expires, err := s.Begin(l.Entries[0], now, time.Hour)
	if err != nil || !expires.Equal(now.Add(time.Hour)) {
		t.Fatal(err)
	}
	if found, ok, err := s.Find(token, l, now); err != nil || !ok || found.Entry.Name != "admin" {
		t.Errorf("%v, %v, %v", found, ok, err)
	}
	if _, ok, err := s.Find("trident_x", l, now); ok || err != nil {
		t.Errorf("another token: %v, %v", ok, err)
	}
	if _, ok, err := s.Find(token+"x", l, now); !ok || errkind.Of(err) != errkind.Denied {
		t.Errorf("an unknown session: %v, %v", ok, err)
	}
	other := list(t) // the same passphrase, set again
	if _, _, err := s.Find(token, other, now); errkind.Of(err) != errkind.Denied {
		t.Errorf("after a change of the passphrase: %v", err)
	}
	token, _, _ = s.Begin(l.Entries[0], now, time.Hour)
	if _, _, err := s.Find(token, l, now.Add(time.Hour)); errkind.Of(err) != errkind.Denied {
		t.Errorf("after its time: %v", err)
	}
	first, _, _ := s.Begin(l.Entries[0], now, time.Hour)
	for i := range 3 * maxPerPerson {
		if token, _, err = s.Begin(l.Entries[0], now.Add(time.Duration(i+1)*time.Second), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Find(first, l, now); err == nil || len(s.of) > maxPerPerson {
		t.Errorf("the oldest of many sessions counts; there are %d", len(s.of))
	}
	if _, _, err := s.Find(token, l, now); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"passphrases":[{"name":"a","argon2id":"$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parse(data)
		if err != nil {
			return
		}
		for _, e := range l.Entries {
			if h, err := parseHash(e.Hash); err != nil || h.kibi > maxKibi || h.passes > maxPasses {
				t.Errorf("%q: %v", e.Hash, err)
			}
		}
	})
}
