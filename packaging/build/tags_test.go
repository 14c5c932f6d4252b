package main

import (
	"os/exec"
	"strings"
	"testing"
)

func TestAReleaseHasBothTagsOrNone(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		args = append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.org"}, args...)
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	lacks := func(want string) {
		t.Helper()
		err := checkTags(t.Context(), dir, "1.2.3")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "lacks "+want+"\n")) {
			t.Errorf("error %v, want one of %q", err, want)
		}
	}
	lacks("") // there is no repository
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "one")
	lacks("")
	git("tag", "v1.2.3")
	lacks("proto/v1.2.3")
	git("tag", "proto/v1.2.3")
	lacks("")
	git("tag", "-d", "v1.2.3")
	lacks("v1.2.3")
	git("commit", "-q", "--allow-empty", "-m", "two") // the tags are those of another commit
	lacks("")
}
