//go:build outside

package updates

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/trident-project/trident/internal/fetch"
)

// TestMain makes the test program, if TRIDENT_TUF_CLIENT is set, the client of the suite
// tuf-conformance, which internal/e2e runs. The client reads metadata by the code of Check.
func TestMain(m *testing.M) {
	if os.Getenv("TRIDENT_TUF_CLIENT") == "" {
		os.Exit(m.Run())
	}
	if err := runClient(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

// A suiteClient is one call of the client.
type suiteClient struct {
	metadata, metadataURL string
	names                 []string
	targets, targetsURL   string
	client                *client
	cache                 *cache
}

func runClient(args []string) error {
	var c suiteClient
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	flags.StringVar(&c.metadata, "metadata-dir", "", "")
	flags.StringVar(&c.metadataURL, "metadata-url", "", "")
	flags.StringVar(&c.targets, "target-dir", "", "")
	flags.StringVar(&c.targetsURL, "target-base-url", "", "")
	flags.Func("target-name", "", func(name string) error { c.names = append(c.names, name); return nil })
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.Arg(0) == "init" {
		return c.init(flags.Arg(1))
	}
	return c.run(flags.Arg(0) == "download")
}

// host is the root folder of the host that the client plays.
func (c *suiteClient) host() string { return filepath.Join(filepath.Dir(c.metadata), "host") }

func (c *suiteClient) init(trusted string) error {
	data, err := os.ReadFile(trusted)
	if err != nil {
		return err
	}
	root := filepath.Join(c.host(), ownersRoot)
	return errors.Join(os.MkdirAll(filepath.Dir(root), 0o755), os.WriteFile(root, data, 0o600), os.WriteFile(filepath.Join(c.metadata, rootFile), data, 0o600))
}

func (c *suiteClient) run(download bool) (err error) {
	// The suite sets the time for programs that use the C library.
	text, err := exec.Command("date", "+%s").Output()
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	c.client = &client{ctx: context.Background(), src: fetch.Source{URL: c.metadataURL}, now: time.Unix(seconds, 0), logger: logger}
	if c.cache, err = openCache(c.host(), filepath.Join(c.host(), CacheDir), logger); err != nil {
		return err
	}
	if err := copyFiles(c.metadata, c.cache.work); err != nil {
		return err
	}
	u, err := c.client.newUpdater(c.cache)
	if err != nil {
		return err
	}
	u.UnsafeSetRefTime(c.client.now)
	err = guard(u.Refresh)
	for _, name := range c.names {
		if err == nil && download {
			err = guard(func() error { return c.download(u, name) })
		}
	}
	set := u.GetTrustedMetadataSet()
	for role := range set.Targets { // go-tuf keeps them in the working copy
		if role != metadata.TARGETS {
			delete(set.Targets, role)
		}
	}
	return errors.Join(err, copyFiles(c.cache.work, c.metadata), c.cache.keep(set, c.client.got))
}

// copyFiles copies the files that to does not have with the same content.
func copyFiles(from, to string) error {
	names, err := filepath.Glob(filepath.Join(from, "*.json"))
	for _, name := range names {
		data, rerr := os.ReadFile(name)
		there := filepath.Join(to, filepath.Base(name))
		if old, oerr := os.ReadFile(there); oerr == nil && bytes.Equal(old, data) {
			continue
		}
		err = errors.Join(err, rerr, os.WriteFile(there, data, 0o600))
	}
	return err
}

// download fetches a target, as Source would name it, and checks it.
func (c *suiteClient) download(u *updater.Updater, name string) error {
	target, err := u.GetTargetInfo(name)
	if err != nil {
		return err
	}
	file := filepath.Join(c.targets, url.QueryEscape(name))
	if data, err := os.ReadFile(file); err == nil && target.VerifyLengthHashes(data) == nil {
		return nil
	}
	at := name
	if u.GetTrustedMetadataSet().Root.Signed.ConsistentSnapshot {
		for _, sum := range target.Hashes {
			at = path.Join(path.Dir(name), hex.EncodeToString(sum)+"."+path.Base(name))
			break
		}
	}
	data, err := fetch.Read(c.client.ctx, fetch.Source{URL: strings.TrimSuffix(c.targetsURL, "/") + "/" + at}, target.Length)
	if err != nil {
		return err
	}
	if err := target.VerifyLengthHashes(data); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}
