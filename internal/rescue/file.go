package rescue

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Names in the folder of the rescuer, /var/lib/trident/self.
const (
	recordName = "rescue.json"
	copyName   = "rescue.json.bak"
	lockName   = "rescue.lock"
)

const (
	maxRecord   = 64 << 10        // bytes
	lockTimeout = 5 * time.Second // for another process to release the lock
	lockPoll    = 20 * time.Millisecond
)

// A File is the record on disk: two copies with the same content, written one
// after the other. The first copy counts, unless it is missing or damaged, or
// belongs to another operation than the requested one; then the second copy
// counts.
//
// A copy is damaged if it is not a regular file, is too large, is not a JSON
// object, has a field of the wrong type or with a value that no release writes, or
// has a wrong checksum. An older release writes the first copy only, and without a
// checksum.
type File struct {
	// Dir is the folder of both copies and of the lock.
	Dir string
	// Root is the root folder of the host whose boot unit the rescuer keeps in
	// order; "" for none.
	Root string
	// Clock returns the ID of this boot and how long it has been running; nil asks
	// the kernel. Tests replace it.
	Clock func() (boot string, up time.Duration)
}

// BootClock returns the ID of this boot and how long it has been running, or ""
// and 0 if the kernel does not say.
func (f File) BootClock() (boot string, up time.Duration) {
	if f.Clock != nil {
		return f.Clock()
	}
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0
	}
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return "", 0
	}
	seconds, _, _ := strings.Cut(string(text), " ")
	s, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return "", 0
	}
	return strings.TrimSpace(string(id)), time.Duration(s * float64(time.Second))
}

// read returns the record of operation. If no copy belongs to operation, or
// operation is "", read returns the first copy that it can read. bothCopies says
// that both copies have that content.
func (f File) read(operation string) (r Record, bothCopies bool, err error) {
	first, ferr := readCopy(filepath.Join(f.Dir, recordName))
	second, serr := readCopy(filepath.Join(f.Dir, copyName))
	switch {
	case ferr == nil && (operation == "" || first.Operation == operation || serr != nil || second.Operation != operation):
		return first, serr == nil && first == second, nil
	case serr == nil:
		return second, false, nil
	case errors.Is(ferr, fs.ErrNotExist) && errors.Is(serr, fs.ErrNotExist):
		return Record{}, false, ErrNoTrial
	}
	return Record{}, false, fmt.Errorf("%w: %w", ErrRecordLost, errors.Join(ferr, serr))
}

func readCopy(path string) (r Record, err error) {
	data, err := readRegular(path, maxRecord, syscall.O_NOFOLLOW)
	if err != nil {
		return r, fmt.Errorf("read rescue record: %w", err)
	}
	if r, err = decode(data); err != nil {
		return r, fmt.Errorf("read rescue record %s: %w", path, err)
	}
	return r, nil
}

// readRegular reads a regular file of at most limit bytes. It adds flags to those
// of the open call for reading, and does not wait for a writer of a FIFO.
func readRegular(path string, limit int64, flags int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, err
	}
	data, err := readAll(f, limit)
	return data, errors.Join(err, f.Close())
}

func readAll(f *os.File, limit int64) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", f.Name())
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", f.Name(), limit)
	}
	return data, err
}

const checksumField = "sum"

func encode(r Record) ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	_, sum, err := checksum(data)
	if err != nil {
		return nil, err
	}
	data, err = json.MarshalIndent(struct {
		Record
		Sum string `json:"sum"`
	}{r, sum}, "", "  ")
	return append(data, '\n'), err
}

func decode(data []byte) (r Record, err error) {
	want, sum, err := checksum(data)
	if err != nil {
		return r, err
	}
	if want != "" && want != sum {
		return r, fmt.Errorf("the checksum of the content is %s, but the field sum is %.40q", sum, want)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	return r, r.check()
}

// checksum returns the checksum in the record, "" for none, and the checksum that
// the record should have. That is the checksum of all fields but the checksum
// itself, including fields that this release does not know: the next release may
// add some.
func checksum(data []byte) (has, want string, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return "", "", err
	}
	if raw, ok := fields[checksumField]; ok {
		if err := json.Unmarshal(raw, &has); err != nil {
			return "", "", err
		}
		delete(fields, checksumField)
	}
	sorted, err := json.Marshal(fields)
	if err != nil {
		return "", "", err
	}
	return has, fmt.Sprintf("%08x", crc32.ChecksumIEEE(sorted)), nil
}

// write writes both copies. It fails if the first copy cannot be written. It
// deletes a second copy that cannot be written, because an outdated copy would be
// misleading.
func (f File) write(r Record) error {
	data, err := encode(r)
	if err != nil {
		return fmt.Errorf("write rescue record: %w", err)
	}
	if err := replace(filepath.Join(f.Dir, recordName), data, 0o600); err != nil {
		return fmt.Errorf("write rescue record: %w", err)
	}
	second := filepath.Join(f.Dir, copyName)
	if replace(second, data, 0o600) != nil {
		_ = os.Remove(second)
	}
	return nil
}

// replace writes a regular file in place of whatever is at path.
func replace(path string, data []byte, perm fs.FileMode) error {
	if err := MoveFolderAside(path); err != nil {
		return err
	}
	return atomicfile.Write(path, data, perm)
}

// MoveFolderAside removes a folder at path, where a file or a link belongs. A
// folder with content is renamed to .<name>.damaged beside it. MoveFolderAside
// does nothing if path is not a folder.
func MoveFolderAside(path string) error {
	fi, err := os.Lstat(path)
	if err != nil || !fi.IsDir() {
		return nil // the caller's write reports any other fault
	}
	if err := os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	aside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".damaged")
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	return os.Rename(path, aside)
}

// withLock runs do while no other process changes the record. It returns ErrLocked
// if another process holds the lock for longer than lockTimeout.
func (f File) withLock(do func() error) error {
	path := filepath.Join(f.Dir, lockName)
	for end := time.Now().Add(lockTimeout); ; time.Sleep(lockPoll) {
		lock, err := lock(path)
		if err == nil {
			for _, name := range []string{recordName, copyName} {
				_ = atomicfile.Sweep(filepath.Join(f.Dir, name)) // a remaining temporary file does no harm
			}
			return errors.Join(do(), lock.Close())
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("lock rescue record: %w", err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("lock rescue record: %w of %s for longer than %s", ErrLocked, path, lockTimeout)
		}
	}
}

// lock locks the file at path. It creates the file if the file is missing or is
// not a regular file. EWOULDBLOCK means that another process holds the lock.
// Closing the file unlocks it.
func lock(path string) (*os.File, error) {
	if fi, err := os.Lstat(path); err == nil && !fi.Mode().IsRegular() {
		if err := MoveFolderAside(path); err != nil {
			return nil, err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil && !sameFile(f, path) { // another process replaced the file meanwhile
		err = syscall.EWOULDBLOCK
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func sameFile(f *os.File, path string) bool {
	a, aerr := f.Stat()
	b, berr := os.Lstat(path)
	return aerr == nil && berr == nil && os.SameFile(a, b)
}
