// Package publish makes and changes an update feed (package feed), and verifies one as a host
// does.
//
// A publisher works with two folders. The feed folder is for a file server: it has only what
// everybody may read. The key folder is private, and never a part of the feed folder:
//
//	feed.json                   the record: what the feed is to have
//	root.pem, timestamp.pem, …  ed25519 keys in PKCS#8; each file name that ends in .pem
//	openpgp.key                 the key of SHA256SUMS.gpg
//	roots/1.root.json, …        every root that hosts may have
//	next-root.json              the root that the next Publish installs
//	next-root.tosign            the bytes that a root key kept elsewhere has to sign
//	for-hosts/                  what hosts need: feed-root.json, import-pubring.gpg
//
// Add, Patch, Withdraw and Rotate change the record, and Publish makes the feed equal to it.
// Publish takes nothing from the feed folder on trust: a person who can write there can
// damage the feed, but not have anything signed. At every moment, and after a crash at any
// moment, a reader finds the old feed or the new one, each whole: Publish writes new files
// beside the old ones, then exchanges the folders of images with their SHA256SUMS, then
// replaces the timestamp, and deletes old files last.
//
// The same record, keys and time make the same bytes.
package publish

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// A Publisher changes one feed. Only one has a key folder open at a time. It is not safe for
// concurrent use.
type Publisher struct {
	dir, keys string
	now       time.Time
	record    *record
	ring      keyring
	lock      *os.File
	// touch is called before each change of a file, with its name; tests cut the power there.
	touch func(string) error
}

// Open opens the feed in dir with the keys in the folder keys. now is the time of everything
// that the Publisher signs. It fails with errkind.Busy while another process has the key
// folder open. Call Close at the end.
func Open(dir, keys string, now time.Time) (*Publisher, error) {
	p, err := open(dir, keys, now)
	if err != nil {
		return nil, err
	}
	if err := p.load(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func open(dir, keys string, now time.Time) (*Publisher, error) {
	if err := apart(dir, keys); err != nil {
		return nil, err
	}
	lock, err := os.Open(keys)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errkind.WithHint(errkind.Errorf(errkind.NotFound, "open key folder: %w", err), "trident feed init makes the keys of a new feed.")
	}
	if err != nil {
		return nil, fmt.Errorf("open key folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(errkind.Errorf(errkind.Busy, "open key folder %s: another trident feed command uses it: %w", keys, err), lock.Close())
	}
	return &Publisher{dir: dir, keys: keys, now: now.UTC().Truncate(time.Second), lock: lock, touch: func(string) error { return nil }}, nil
}

func (p *Publisher) load() (err error) {
	if p.record, err = readRecord(p.recordFile()); err != nil {
		return err
	}
	p.ring, err = readKeys(p.keys)
	return err
}

// Close releases the key folder.
func (p *Publisher) Close() error { return p.lock.Close() }

// Channels returns the names of the channels, sorted.
func (p *Publisher) Channels() []string { return p.record.channels() }

func (p *Publisher) recordFile() string { return filepath.Join(p.keys, "feed.json") }

func (p *Publisher) save() error { return p.write(p.recordFile(), p.record.bytes, 0o600) }

// apart fails if one of the two folders is in the other: a file server would serve the keys.
func apart(dir, keys string) error {
	feedDir, err := resolve(dir)
	if err != nil {
		return err
	}
	keyDir, err := resolve(keys)
	if err != nil {
		return err
	}
	if strings.HasPrefix(keyDir+"/", feedDir+"/") || strings.HasPrefix(feedDir+"/", keyDir+"/") {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "use the key folder %s: it and the feed folder %s are in each other", keys, dir),
			"A file server serves the feed folder. Keep the keys in a folder elsewhere.")
	}
	return nil
}

// resolve returns the absolute path without links of a folder whose last part need not exist.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	whole, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, os.ErrNotExist) {
		parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
		if errors.Is(err, os.ErrNotExist) {
			return abs, nil
		}
		return filepath.Join(parent, filepath.Base(abs)), err
	}
	return whole, err
}
