package hoststate

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestACopyHasTheStatusesOnlyAndClean(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	s, err := Open(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() // it is in use while it is copied
	for _, host := range []string{"one", "two"} {
		if err := s.Record(t.Context(), Status{Phase: Settled{}, Spec: "os:\n  hostname: " + host + "-hunter2\n"}); err != nil {
			t.Fatal(err)
		}
	}
	clean := func(text string) string { return strings.ReplaceAll(text, "hunter2", "x") }
	if err := CopyStatuses(t.Context(), from, to, clean); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(to)
	if err != nil || bytes.Contains(raw, []byte("hunter2")) || bytes.Contains(raw, []byte("trident_operations")) {
		t.Errorf("error %v, or more in the copy than there should be", err)
	}
	copied, err := Open(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	got, err := copied.Status(t.Context())
	if err != nil || !strings.Contains(got.Spec, "two-x") || got.Row != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAMissingDatastoreIsNotCopied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := CopyStatuses(t.Context(), filepath.Join(dir, "none"), filepath.Join(dir, "to"), strings.Clone); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("a datastore was made")
	}
}
