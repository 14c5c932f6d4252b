package publish

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
)

func TestAFileSystemWithoutExchangeGetsTheFilesOneAfterTheOther(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	b.add("stable", image(t, "1.0.0"))
	b.publish()
	b.add("stable", image(t, "2.0.0"))
	b.with(func(p *Publisher) error {
		p.touch = func(what string) error {
			if strings.HasPrefix(what, "exchange ") {
				return unix.EINVAL
			}
			return nil
		}
		out, err := p.Publish(context.Background(), DefaultValidity())
		if len(out.Notes) != 1 || !strings.Contains(out.Notes[0], "cannot exchange folders") {
			t.Errorf("notes %q", out.Notes)
		}
		return err
	})
	b.want(1, "stable", "1.0.0", "2.0.0")
	if _, err := os.Stat(filepath.Join(b.dir, "stable/.x86-64.new")); err == nil {
		t.Error("the new folder is left")
	}
}

func TestAPersonWhoCanWriteToTheFeedGetsNothingSigned(t *testing.T) {
	t.Parallel()
	b, other := newBench(t, "stable"), newBench(t, "stable")
	b.add("stable", image(t, "1.0.0"))
	other.add("stable", image(t, "6.6.6"))
	b.publish()
	other.publish()
	evil := feed.ImagePath("stable", "x86-64", "6.6.6")
	for _, name := range []string{evil, "tuf/1.stable.json", "tuf/1.targets.json", "tuf/1.snapshot.json", "tuf/timestamp.json", "stable/x86-64/SHA256SUMS"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), b.read(filepath.Join(other.dir, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.verify(1); errkind.Of(err) != errkind.Untrusted {
		t.Errorf("the changed feed: %v", err)
	}
	b.publish()
	b.want(1, "stable", "1.0.0")
}

func TestAMissingImageIsNotPublished(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	b.add("stable", image(t, "1.0.0"))
	b.publish()
	b.add("stable", image(t, "2.0.0"))
	file := filepath.Join(b.dir, feed.ImagePath("stable", "x86-64", "2.0.0"))
	for what, damage := range map[string]func() error{
		"cut off": func() error { return os.Truncate(file, 9) },
		"removed": func() error { return os.RemoveAll(file) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		b.with(func(p *Publisher) error {
			if _, err := p.Publish(context.Background(), DefaultValidity()); err == nil || errkind.Hint(err) == "" {
				t.Errorf("%s: %v", what, err)
			}
			return nil
		})
		b.want(1, "stable", "1.0.0")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSomethingElseInAFolderOfImagesIsNotDeleted(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	b.add("stable", image(t, "1.0.0"))
	b.publish()
	dir := filepath.Join(b.dir, "stable/x86-64")
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.add("stable", image(t, "2.0.0"))
	b.publish()
	b.read(filepath.Join(dir, "README"))
	if err := os.Symlink("README", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	b.add("stable", image(t, "3.0.0"))
	b.with(func(p *Publisher) error {
		if _, err := p.Publish(context.Background(), DefaultValidity()); errkind.Of(err) != errkind.Precondition {
			t.Errorf("a link: %v", err)
		}
		return nil
	})
	b.want(1, "stable", "1.0.0", "2.0.0")
}
