package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
)

const (
	checkpoint = 8 << 20 // bytes that a power cut can lose
	bufferSize = 128 << 10
	maxRecord  = 64 << 10
)

// record describes a part file. Releases share it: add fields, never rename, remove or
// retype one. An unreadable record counts as missing.
type record struct {
	Source    string `json:"source"`              // identity of the source, without its secrets
	Validator string `json:"validator,omitempty"` // version of the content; "": cannot be resumed
	Size      int64  `json:"size"`                // in total; -1: not known
	Synced    int64  `json:"synced"`              // bytes that are on disk
	SHA256    string `json:"sha256"`              // of the synced bytes
	Again     int    `json:"again"`               // how often the download began again
	Complete  bool   `json:"complete"`
}

// part is an open part file. It calls touch with a name before each change of the disk.
type part struct {
	path  string
	file  *os.File
	size  int64     // bytes in the file
	hash  hash.Hash // of these bytes
	rec   record
	every int64 // bytes between checkpoints
	touch func(string) error
}

// openPart opens or makes the part file path, and truncates it to the bytes that are from
// source by its record.
func openPart(ctx context.Context, path, source string, every int64, touch func(string) error) (_ *part, err error) {
	p, err := lockPart(path, source, every, touch)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.file.Close())
		}
	}()
	if whole, err := p.rehash(ctx); err != nil {
		return nil, err
	} else if !whole {
		return p, p.restart("", -1)
	}
	p.size = p.rec.Synced
	return p, p.cut()
}

// lockPart opens or makes the part file path, which no other fetch may have open, and reads
// its record. A record of another source than source counts as missing.
func lockPart(path, source string, every int64, touch func(string) error) (_ *part, err error) {
	if err := touch("open part"); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open part file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if fi, err := file.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(errkind.Errorf(errkind.Precondition, "open part file %s: the file is not a regular file", path), err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errkind.Errorf(errkind.Busy, "open part file %s: another download writes it: %w", path, err)
	}
	if err := file.Chmod(0o600); err != nil {
		return nil, fmt.Errorf("open part file: %w", err)
	}
	p := &part{path: path, file: file, hash: sha256.New(), rec: readRecord(path + ".json"), every: every, touch: touch}
	if p.rec.Source != source {
		p.rec = record{Source: source, Size: -1}
	}
	return p, nil
}

func readRecord(path string) record {
	var rec record
	f, err := os.Open(path)
	if err != nil {
		return rec
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil || json.Unmarshal(data, &rec) != nil {
		return record{}
	}
	if rec.Synced < 0 || rec.Again < 0 || rec.Size >= 0 && rec.Synced > rec.Size || rec.Complete && rec.Synced != rec.Size {
		return record{}
	}
	return rec
}

// rehash reads the bytes that the record calls synced, and reports whether their hash is
// that of the record.
func (p *part) rehash(ctx context.Context) (bool, error) {
	p.hash.Reset()
	r := &contextReader{ctx, io.NewSectionReader(p.file, 0, p.rec.Synced)}
	n, err := io.CopyBuffer(p.hash, r, make([]byte, bufferSize))
	if err != nil {
		return false, fmt.Errorf("read part file %s: %w", p.path, err)
	}
	return n == p.rec.Synced && (n == 0 || p.sum() == p.rec.SHA256), nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

func (p *part) sum() string { return hex.EncodeToString(p.hash.Sum(nil)) }

// cut truncates the file to p.size and seeks to its end.
func (p *part) cut() error {
	if err := p.touch("truncate part"); err != nil {
		return err
	}
	if err := p.file.Truncate(p.size); err != nil {
		return fmt.Errorf("cut part file: %w", err)
	}
	if _, err := p.file.Seek(p.size, io.SeekStart); err != nil {
		return fmt.Errorf("cut part file: %w", err)
	}
	return nil
}

// restart discards all bytes of the part and prepares it for content of size bytes (-1:
// unknown) with that validator.
func (p *part) restart(validator string, size int64) error {
	p.rec = record{Source: p.rec.Source, Validator: validator, Size: size, Again: p.rec.Again}
	p.size = 0
	p.hash.Reset()
	// The record first: it must not describe bytes that the part does not have.
	if err := p.save(); err != nil {
		return err
	}
	return p.cut()
}

func (p *part) save() error {
	if err := p.touch("write record"); err != nil {
		return err
	}
	p.rec.SHA256 = p.sum()
	data, err := json.Marshal(p.rec)
	if err != nil {
		return fmt.Errorf("write record of part file: %w", err)
	}
	return spaceError(atomicfile.Write(p.path+".json", append(data, '\n'), 0o600), maxRecord)
}

func (p *part) write(b []byte) error {
	if err := p.touch("write part"); err != nil {
		return err
	}
	n, err := p.file.Write(b)
	p.size += int64(n)
	p.hash.Write(b[:n])
	if err != nil {
		return spaceError(fmt.Errorf("write part file: %w", err), max(p.rec.Size-p.size, int64(len(b)-n)))
	}
	if p.size-p.rec.Synced >= p.every {
		return p.sync()
	}
	return nil
}

// sync writes the bytes of the part to disk, and then the record.
func (p *part) sync() error {
	if err := p.touch("sync part"); err != nil {
		return err
	}
	if err := p.file.Sync(); err != nil {
		return spaceError(fmt.Errorf("sync part file: %w", err), max(p.rec.Size-p.rec.Synced, 0))
	}
	p.rec.Synced = p.size
	return p.save()
}

// finish makes the part complete. want is the digest it must have, or "".
func (p *part) finish(want string) (Result, error) {
	p.rec.Size = p.size
	if got := p.sum(); want != "" && !bytes.EqualFold([]byte(got), []byte(want)) {
		err := errkind.Errorf(errkind.Corrupt, "SHA-256 is %s, not %s", got, want)
		return Result{}, errors.Join(err, p.restart("", -1)) // a resume would repeat the error
	}
	if !p.rec.Complete {
		p.rec.Complete = true
		if err := p.sync(); err != nil {
			return Result{}, err
		}
	}
	return Result{Size: p.size, SHA256: p.rec.SHA256}, nil
}

// close closes the part, and syncs it first if it can be resumed.
func (p *part) close() error {
	var err error
	if p.size > p.rec.Synced && p.rec.Validator != "" {
		err = p.sync()
	}
	return errors.Join(err, p.file.Close())
}

// Remove removes a part file, its record and what else fetches made beside it. It returns nil
// if they do not exist.
func Remove(part string) error {
	var errs []error
	for _, name := range []string{part, part + ".json", part + ".spent", part + patchSuffix, part + patchSuffix + ".json"} {
		errs = append(errs, atomicfile.Remove(name))
	}
	for _, name := range []string{part + ".json", part + ".spent", part + patchSuffix + ".json"} {
		errs = append(errs, atomicfile.Sweep(name))
	}
	return errors.Join(errs...)
}

// patchSuffix is what the name of a patch has after that of the part that it makes.
const patchSuffix = ".patch"

// PatchPart returns the part file of a patch that makes the content of part. [Remove] of part
// removes it too.
func PatchPart(part string) string { return part + patchSuffix }

// spaceHint is what to do about a disk that is too full for a download.
const spaceHint = "Make room on the disk, and begin again."

// spaceError gives err the kind NoSpace if the disk has no space for need bytes.
func spaceError(err error, need int64) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
		return errkind.WithHint(errkind.Errorf(errkind.NoSpace, "%d more bytes are needed: %w", need, err), spaceHint)
	}
	return err
}

func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("read the free space in %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
