package updates

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// Files of the cache besides those of the roles.
const (
	rootFile   = "root.json"
	stateFile  = "state.json"
	workFolder = "work"
	maxState   = 64 << 10
	maxCached  = 8 << 20
)

// A cache is the folder with the metadata of one chain of roots: a root, and the roots that
// it and its successors have signed. It belongs to the chain and not to a URL, so that a new
// URL does not make a host accept older metadata.
//
// go-tuf changes a working copy of the folder, because it writes its files without a sync. keep
// then replaces the changed files one by one; each is valid with old ones beside it.
type cache struct {
	dir     string // of the chain
	work    string // the working copy
	trusted []byte // the newest root that this host trusts
	state   state
	logger  *slog.Logger
}

// state is the file with what else a chain has.
type state struct {
	// Roots has the SHA-256 of every root of the chain that this host has trusted, by version.
	Roots map[string]string `json:"roots"`
	// Refreshed is when the host last read valid metadata, and Expires until when that is valid.
	Refreshed time.Time `json:"refreshed,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
}

// openCache opens the cache of the chain of the root that this host trusts, and makes the
// working copy.
func openCache(hostRoot, base string, logger *slog.Logger) (*cache, error) {
	anchor, err := readAnchor(hostRoot)
	if err != nil {
		return nil, err
	}
	if err := makeFolder(base); err != nil {
		return nil, err
	}
	names, err := inroot.FS(base).List(".")
	if err != nil {
		return nil, fmt.Errorf("read the cache of the update feed: %w", err)
	}
	c := &cache{dir: filepath.Join(base, anchor.hash[:32]), work: filepath.Join(base, workFolder), logger: logger}
	for _, name := range names {
		if one := (&cache{dir: filepath.Join(base, name), work: c.work, logger: logger}); name != workFolder && one.belongs(anchor) {
			c = one
			break
		}
	}
	if c.trusted == nil {
		c.trust(anchor)
	}
	if err := makeFolder(c.dir); err != nil {
		return nil, err
	}
	return c, c.copyOut()
}

// belongs reports whether anchor is a root of the chain of c, and loads the state of c. The
// newer of anchor and the root in the cache is then trusted.
func (c *cache) belongs(anchor root) bool {
	data, err := c.file(rootFile)
	if err != nil {
		return false
	}
	newest, err := parseRoot(data)
	if err != nil {
		c.logger.Warn("the cache of the update feed is damaged", "file", filepath.Join(c.dir, rootFile), "error", err)
		return false
	}
	if text, err := regfile.ReadFile(filepath.Join(c.dir, stateFile), maxState); err == nil {
		if err := json.Unmarshal(text, &c.state); err != nil {
			c.logger.Warn("the cache of the update feed is damaged", "file", filepath.Join(c.dir, stateFile), "error", err)
			c.state = state{}
		}
	}
	c.trust(newest)
	switch {
	case c.state.Roots[strconv.FormatInt(anchor.version(), 10)] == anchor.hash:
		return true
	case anchor.version() > newest.version() && guard(func() error { return newest.meta.VerifyDelegate(metadata.ROOT, anchor.meta) }) == nil:
		c.trust(anchor)
		return true
	}
	return false
}

// trust makes r the newest trusted root.
func (c *cache) trust(r root) {
	if c.state.Roots == nil {
		c.state.Roots = map[string]string{}
	}
	c.state.Roots[strconv.FormatInt(r.version(), 10)] = r.hash
	c.trusted = r.data
}

// copyOut makes the working copy. It leaves out files that go-tuf cannot use, because go-tuf
// would fail for ever.
func (c *cache) copyOut() error {
	if err := os.RemoveAll(c.work); err != nil {
		return fmt.Errorf("empty the cache of the update feed: %w", err)
	}
	if err := makeFolder(c.work); err != nil {
		return err
	}
	for _, name := range []string{"timestamp.json", "snapshot.json", "targets.json"} {
		data, err := c.file(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = checkCached(name, data)
		}
		if err != nil {
			c.logger.Warn("the cache of the update feed is damaged", "file", filepath.Join(c.dir, name), "error", err)
			continue
		}
		if err := os.WriteFile(filepath.Join(c.work, name), data, 0o600); err != nil {
			return fmt.Errorf("copy the cache of the update feed: %w", err)
		}
	}
	return nil
}

// checkCached fails for a file that is damaged, or lacks what go-tuf compares new metadata with.
func checkCached(name string, data []byte) error {
	var meta map[string]*metadata.MetaFiles
	switch name {
	case "timestamp.json":
		timestamp, err := metadata.Timestamp().FromBytes(data)
		if err != nil {
			return err
		}
		meta = timestamp.Signed.Meta
		if meta["snapshot.json"] == nil {
			return errors.New("it does not name the snapshot")
		}
	case "snapshot.json":
		snapshot, err := metadata.Snapshot().FromBytes(data)
		if err != nil {
			return err
		}
		meta = snapshot.Signed.Meta
	default:
		_, err := metadata.Targets().FromBytes(data)
		return err
	}
	for file, info := range meta {
		if info == nil {
			return fmt.Errorf("it has no version of %q", file)
		}
	}
	return nil
}

// file reads a file of the cache.
func (c *cache) file(name string) ([]byte, error) {
	return regfile.ReadFile(filepath.Join(c.dir, name), maxCached)
}

// keep stores what go-tuf has verified: the working copy, the roots in got, and the metadata
// of the channel. It removes the working copy.
func (c *cache) keep(set trustedmetadata.TrustedMetadata, got map[string][]byte) error {
	if set.Root == nil {
		return os.RemoveAll(c.work)
	}
	files := map[string][]byte{}
	for _, name := range []string{rootFile, "timestamp.json", "snapshot.json", "targets.json"} {
		data, err := os.ReadFile(filepath.Join(c.work, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read the working copy of the update feed's metadata: %w", err)
		}
		files[name] = data
	}
	for name, data := range got {
		if r, err := parseRoot(data); isRoot(name) && err == nil && r.version() <= set.Root.Signed.Version {
			c.state.Roots[strconv.FormatInt(r.version(), 10)] = r.hash
		}
	}
	for role, targets := range set.Targets {
		name := role + ".json"
		if data := got[strconv.FormatInt(targets.Signed.Version, 10)+"."+name]; data != nil {
			files[name] = data
		} else if data := got[name]; data != nil {
			files[name] = data
		}
	}
	if err := c.write(rootFile, files[rootFile]); err != nil {
		return err
	}
	for name, data := range files {
		if err := c.write(name, data); err != nil {
			return err
		}
	}
	return errors.Join(c.writeJSON(stateFile, c.state), os.RemoveAll(c.work))
}

// refreshStep is how exactly the cache knows the last good refresh: a write waits for the disk.
const refreshStep = time.Minute

// keepRefresh stores when a good refresh was, and until when the metadata is valid.
func (c *cache) keepRefresh(good catalog) error {
	if age := good.refreshed.Sub(c.state.Refreshed); age >= 0 && age < refreshStep && good.expires.Equal(c.state.Expires) {
		return nil
	}
	c.state.Refreshed, c.state.Expires = good.refreshed, good.expires
	return c.writeJSON(stateFile, c.state)
}

func (c *cache) writeJSON(name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return c.write(name, data)
}

// write replaces a file of the cache, if its content is another one.
func (c *cache) write(name string, data []byte) error {
	if old, err := c.file(name); data == nil || err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := atomicfile.Write(filepath.Join(c.dir, name), data, 0o600); err != nil {
		return fmt.Errorf("store the update feed's metadata: %w", err)
	}
	return nil
}
