package hoststate

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
)

const (
	backupSuffix   = ".bak"
	restoredSuffix = ".restored"
	damagedSuffix  = ".damaged-"
	damagedTime    = "20060102T150405.000000000Z"
	// maxDamaged is how many damaged datastores are kept.
	maxDamaged = 2
)

// Backup writes a copy of the datastore to the file of the same name with ".bak"
// added, and checks the copy before it replaces the previous one. Save makes a
// backup whenever an operation has settled.
func (s *Store) Backup(ctx context.Context) error {
	err := atomicfile.FillFunc(s.path+backupSuffix, 0o600, func(f *os.File) error {
		if err := s.copyTo(ctx, f.Name()); err != nil {
			return err
		}
		return checkFile(ctx, f.Name())
	})
	if err != nil {
		return fmt.Errorf("back up the datastore: %w", err)
	}
	return nil
}

// sweepCopies deletes temporary files of copies from before a power cut.
func sweepCopies(ctx context.Context, path string) {
	// On a read-only file system Remove fails also where there is nothing to delete.
	_, err := os.Lstat(path + restoredSuffix)
	if err == nil {
		err = os.Remove(path + restoredSuffix)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, atomicfile.Sweep(path+backupSuffix), atomicfile.Sweep(path+restoredSuffix)); err != nil {
		slog.WarnContext(ctx, "delete temporary copies of the datastore", "error", err)
	}
}

// checkFile checks a datastore that no process has open.
func checkFile(ctx context.Context, path string) error {
	db, err := connect(path, "ro")
	if err != nil {
		return err
	}
	if err := errors.Join(check(ctx, db), db.Close()); err != nil {
		return fmt.Errorf("check %s: %w", path, err)
	}
	return nil
}

// clearJournal moves a file aside that has the name of SQLite's journal and is not
// a regular file: SQLite would wait for the writer of a FIFO, and fails without a
// cause for any other type.
func clearJournal(ctx context.Context, path string) error {
	journal := path + "-journal"
	fi, err := os.Lstat(journal)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Mode().IsRegular() {
		return nil
	}
	kept := path + damagedSuffix + time.Now().UTC().Format(damagedTime) + "-journal"
	if err = errors.Join(err, os.Rename(journal, kept)); err != nil {
		return fmt.Errorf("move %s aside, which is not a regular file: %w", journal, err)
	}
	slog.ErrorContext(ctx, "the journal of the datastore is not a regular file and was moved aside", "moved", journal, "to", kept)
	return nil
}

// smallestPage is the smallest size of a database in bytes
// (sqlite.org/fileformat.html, 1.3.2). SQLite takes some shorter files for new
// databases.
const smallestPage = 512

// traces are patterns of the files that operations write beside a datastore. An image of
// an OS has no such file, nor has a host whose power failed before its first operation.
var traces = []string{"trident-*.log", "trident-metrics-*.jsonl", "self/rescue*.json", "self/evidence/*", "servicing/*"}

// hasTraces reports whether operations have run on the host of a datastore.
func hasTraces(path string) bool {
	for _, pattern := range traces {
		if found, _ := filepath.Glob(filepath.Join(filepath.Dir(path), pattern)); len(found) > 0 {
			return true
		}
	}
	return false
}

// checkLost fails if the datastore is not a regular file, if it is missing although it
// has a backup, or if it is empty although a backup or the files of operations show that
// it had content.
func checkLost(path string) error {
	switch fi, err := os.Stat(path); {
	case err == nil && !fi.Mode().IsRegular():
		return damaged(errors.New("it is not a regular file"))
	case errors.Is(err, unix.ELOOP):
		return damaged(errors.New("it is a link in a loop of links"))
	}
	copied, cerr := os.Stat(path + backupSuffix)
	if cerr != nil && !hasTraces(path) {
		return nil
	}
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && (cerr != nil || copied.Size() < smallestPage):
		return nil // whoever has moved it aside begins anew
	case errors.Is(err, fs.ErrNotExist):
		return damaged(errors.New("the file does not exist any more"))
	case err == nil && fi.Size() < smallestPage:
		return damaged(errors.New("the file is empty"))
	}
	return nil
}

// restore replaces a damaged datastore with its backup. There is a datastore at
// path at each moment: after a power cut it is the damaged one, which the next
// start finds again, or the backup.
func restore(ctx context.Context, path string, cause error) error {
	backup := path + backupSuffix
	fi, err := os.Stat(backup)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("the datastore has no backup")
	}
	if err != nil {
		return fmt.Errorf("restore the backup: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("restore the backup: %s is not a regular file", backup)
	}
	if fi.Size() < smallestPage {
		return errors.New("the backup is empty, too")
	}
	if err := checkFile(ctx, backup); err != nil {
		return fmt.Errorf("restore the backup: %w", err)
	}
	from := path + restoredSuffix
	if err := copyFile(backup, from); errkind.Of(err) == errkind.NoSpace {
		from = backup // the next settled operation makes a new backup
	} else if err != nil {
		return fmt.Errorf("restore the backup: %w", err)
	}
	asidePath, err := setAside(path, time.Now().UTC())
	if err != nil {
		return fmt.Errorf("move the damaged file aside: %w", err)
	}
	if err := errors.Join(os.Rename(from, path), atomicfile.SyncDir(filepath.Dir(path))); err != nil {
		return fmt.Errorf("restore the backup: %w", err)
	}
	slog.ErrorContext(ctx, "the datastore was damaged and is replaced by its backup from the end of an earlier operation: all later records are lost",
		"datastore", path, "error", cause, "copied", fi.ModTime().UTC(), "kept", asidePath)
	return nil
}

// putBack puts the datastore back in its place, from what SQLite has open, after somebody
// has removed or replaced the file. What is in its place now is set aside.
func (s *Store) putBack(ctx context.Context) error {
	from := s.path + restoredSuffix
	if err := s.Snapshot(ctx, from); err != nil {
		return err
	}
	kept, err := setAside(s.path, time.Now().UTC())
	if err != nil {
		return fmt.Errorf("move aside the file in the place of the datastore: %w", err)
	}
	if err := errors.Join(os.Rename(from, s.path), atomicfile.SyncDir(filepath.Dir(s.path))); err != nil {
		return err
	}
	slog.ErrorContext(ctx, "the file of the datastore was removed or replaced while tridentd ran: it is put back",
		"datastore", s.path, "kept", kept)
	return s.reconnect(ctx)
}

// reconnect has the next use of the datastore open the file that is at its path now.
func (s *Store) reconnect(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	// The pool closes a connection that a driver calls bad, and opens another one.
	if err := conn.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(err, driver.ErrBadConn) {
		return errors.Join(errors.New("close the connection to the file that was moved"), err, conn.Close())
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return atomicfile.WriteFunc(to, 0o600, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}

// setAside links a damaged datastore to a second name, and moves SQLite's journals
// aside, which SQLite would apply to the restored file.
func setAside(path string, at time.Time) (asidePath string, err error) {
	asidePath = path + damagedSuffix + at.Format(damagedTime)
	err = os.Link(path, asidePath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = os.WriteFile(asidePath, nil, 0o600)
	case err != nil: // a file system without hard links
		err = os.Rename(path, asidePath)
	}
	if err != nil {
		return "", err
	}
	for _, suffix := range []string{"-journal", "-wal", "-shm"} {
		if err := os.Rename(path+suffix, asidePath+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	all, err := damagedFiles(path)
	if err != nil {
		return "", err
	}
	for len(all) > maxDamaged {
		for _, suffix := range []string{"-journal", "-wal", "-shm", ""} {
			if err := os.RemoveAll(all[0].Path + suffix); err != nil { // the path may be a folder
				return "", err
			}
		}
		all = all[1:]
	}
	return asidePath, nil
}

// A Damaged is a datastore that was damaged, and that its backup has replaced.
type Damaged struct {
	Path string    // of the damaged file
	Time time.Time // when the damage was found
}

// Damaged lists the damaged datastores that are kept, the oldest first. While one
// is kept, this host has lost records, which its administrator should know; the
// administrator deletes the file to acknowledge that.
func (s *Store) Damaged() ([]Damaged, error) { return damagedFiles(s.path) }

func damagedFiles(path string) ([]Damaged, error) {
	entries, err := os.ReadDir(filepath.Dir(path)) // sorted, and so by time
	if err != nil {
		return nil, fmt.Errorf("list damaged datastores: %w", err)
	}
	var out []Damaged
	for _, e := range entries {
		timestamp, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+damagedSuffix)
		if at, err := time.Parse(damagedTime, timestamp); ok && err == nil {
			out = append(out, Damaged{filepath.Join(filepath.Dir(path), e.Name()), at})
		}
	}
	return out, nil
}
