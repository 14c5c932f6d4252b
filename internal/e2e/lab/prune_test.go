package lab

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUnusedImagesLeaveTheCache(t *testing.T) {
	cache := t.TempDir()
	t.Setenv(cacheEnv, cache)
	long := time.Now().Add(-unusedFor - time.Hour)
	get := func(name string) {
		t.Helper()
		if _, err := once(t.Context(), name, func(dir string) error { return os.WriteFile(filepath.Join(dir, "f"), nil, 0o600) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"old", "held", "used", keysName, "new"} {
		get(name)
	}
	for _, name := range []string{"old", "held", "used", keysName} {
		if err := os.Chtimes(filepath.Join(cache, name+lockSuffix), long, long); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(cache, "old"+partSuffix), 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(t.Context(), filepath.Join(cache, "held"+lockSuffix))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	folders := func() (list []string) {
		t.Helper()
		entries, err := os.ReadDir(cache)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				list = append(list, e.Name())
			}
		}
		return list
	}
	get("used") // which makes nothing, and so removes nothing
	if diff := cmp.Diff([]string{"held", "keys", "new", "old", "old.part", "used"}, folders()); diff != "" {
		t.Error(diff)
	}
	get("another")
	if diff := cmp.Diff([]string{"another", "held", "keys", "new", "used"}, folders()); diff != "" {
		t.Error(diff)
	}
	get("old") // is made again under the lock that stayed
}
