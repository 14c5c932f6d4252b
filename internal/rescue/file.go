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

// Names under the folder of the rescuer, /var/lib/trident/self.
const (
	recordName = "rescue.json"
	copyName   = "rescue.json.bak"
	lockName   = "rescue.lock"
)

const (
	maxRecord   = 64 << 10        // bytes
	lockTimeout = 5 * time.Second // for another process that changes the record
	lockPoll    = 20 * time.Millisecond
)

// A File is the record on disk: two copies with the same content, written one
// after the other. The first one counts; the second one does where the first one
// is gone or damaged, or is of another operation than the one asked for. A copy
// is damaged that is not a regular file, is too large, is not a JSON object, has
// a field of another type or a value that nobody writes, or has a checksum that
// is not its own. A release without the second copy writes the first one, and
// without a checksum.
type File struct {
	// Dir is the folder that has both copies, and the lock.
	Dir string
	// Root is the host whose boot unit the rescuer keeps whole; "" for none.
	Root string
	// Clock returns the ID of this boot and how long it has run; nil asks the
	// kernel. Tests replace it.
	Clock func() (boot string, up time.Duration)
}

// BootClock returns the ID of this boot and how long it has run.
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

// read returns the record of operation; of the first copy that can be read if
// none is of operation, or operation is "". whole says that both copies have it.
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

// readRegular reads a regular file of at most limit bytes, opened with more flags
// than those for reading. It does not wait for the other end of a pipe.
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
		return r, fmt.Errorf("its checksum is %s, and it says %.40q", sum, want)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	return r, r.check()
}

// checksum returns the checksum that a record has, "" for none, and the one that
// it should have. That is one of all fields but itself, whichever they are: the
// next release writes more of them.
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

// write writes both copies. The first one decides whether it has failed. A
// second one that cannot be written is deleted: it would say what is not so.
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

// replace replaces whatever is at path by a regular file.
func replace(path string, data []byte, perm fs.FileMode) error {
	if err := MoveFolderAside(path); err != nil {
		return err
	}
	return atomicfile.Write(path, data, perm)
}

// MoveFolderAside makes room at path where a folder is in the way of a file or of a
// link. One that has content is renamed to .<name>.damaged beside it.
func MoveFolderAside(path string) error {
	fi, err := os.Lstat(path)
	if err != nil || !fi.IsDir() {
		return nil // whoever writes the file says what is wrong
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

// withLock runs do while nobody else changes the record. ErrLocked if another
// process has not let go of the lock after lockWait.
func (f File) withLock(do func() error) error {
	path := filepath.Join(f.Dir, lockName)
	for end := time.Now().Add(lockTimeout); ; time.Sleep(lockPoll) {
		lock, err := lock(path)
		if err == nil {
			for _, name := range []string{recordName, copyName} {
				_ = atomicfile.Sweep(filepath.Join(f.Dir, name)) // what stays does no harm
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

// lock locks the file at path, which it makes where it is not there or is
// something else. EWOULDBLOCK says that another process has locked it. Closing
// the file unlocks it.
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
	if err == nil && !sameFile(f, path) { // somebody replaced it meanwhile
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
