package password

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

func TestAConsoleTokenCountsOnceForFiveMinutes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.json")
	now := time.Unix(1_800_000_000, 0)
	issue := func() string {
		t.Helper()
		token, expires, err := NewConsoleToken(path, os.Getegid(), now)
		if err != nil || !strings.HasPrefix(token, ConsolePrefix) || len(token) < 50 || !expires.Equal(now.Add(ConsoleTime)) {
			t.Fatal(token, expires, err)
		}
		data, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(data), token[len(ConsolePrefix):]) {
			t.Fatalf("the file has the token: %v", err)
		}
		return token
	}
	denied := func(what, token string, now time.Time) {
		t.Helper()
		if err := NewConsole(path).Use(token, now); errkind.Of(err) != errkind.Denied || strings.Contains(err.Error(), token) && token != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	denied("without a token", ConsolePrefix+"x", now)
	first := issue()
	for _, wrong := range []string{"", ConsolePrefix, first + "x", first[:len(first)-1], strings.TrimPrefix(first, ConsolePrefix)} {
		denied("a wrong token", wrong, now)
	}
	if err := NewConsole(path).Use(first, now.Add(ConsoleTime-time.Second)); err != nil {
		t.Errorf("the token, after wrong ones: %v", err)
	}
	denied("a used token", first, now)
	late := issue()
	denied("an expired token", late, now.Add(ConsoleTime))
	denied("an expired token when the clock is set back", late, now)
	early := issue()
	denied("a token of the future", early, now.Add(-time.Hour))
	replaced, last := issue(), issue()
	denied("a token that was replaced", replaced, now)
	if err := NewConsole("").Use(last, now); errkind.Of(err) != errkind.Denied {
		t.Errorf("without a file: %v", err)
	}
	if err := NewConsole(filepath.Dir(path)).Use(last, now); errkind.Of(err) != errkind.Denied || !strings.Contains(err.Error(), "read the console token") {
		t.Errorf("the file is a folder: %v", err)
	}
	for _, text := range []string{"", "{", `{"sha256":"zz"}`, `{"sha256":""}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		denied("the file is "+text, last, now)
	}
}

func TestOneOfManyLoginsUsesAConsoleToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.json")
	now := time.Now()
	token, _, err := NewConsoleToken(path, os.Getegid(), now)
	if err != nil {
		t.Fatal(err)
	}
	c := NewConsole(path)
	var used atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if c.Use(token, now) == nil {
				used.Add(1)
			}
		})
	}
	all.Wait()
	if used.Load() != 1 {
		t.Errorf("%d logins with one token", used.Load())
	}
}
