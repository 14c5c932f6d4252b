package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// checkTags fails if the commit in dir has one of the two tags of a version: that of Trident,
// or that of the SDK, a module of its own. A commit without both is a try, and a folder
// without git is a source archive.
func checkTags(ctx context.Context, dir, version string) error {
	out, err := exec.CommandContext(ctx, "git", "-C", dir, "tag", "--points-at", "HEAD").Output()
	if err != nil {
		return nil
	}
	tags := strings.Fields(string(out))
	want := []string{"v" + version, "proto/v" + version}
	for i, tag := range want {
		if other := want[1-i]; slices.Contains(tags, other) && !slices.Contains(tags, tag) {
			return fmt.Errorf("build the release %s: the commit has the tag %s and lacks %s\nhint: run git tag %s", version, other, tag, tag)
		}
	}
	return nil
}
