package hoststate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

func settle(t *testing.T, s *Store, id string) {
	t.Helper()
	op := operation.Operation{ID: id, Phase: operation.Done, Plan: []string{"a"}, State: json.RawMessage("{}")}
	if err := s.Save(t.Context(), op, operation.Event{Operation: id, Sequence: 1}); err != nil {
		t.Fatal(err)
	}
}

// used makes a datastore with a history and its copy, and closes it.
func used(t *testing.T) (path string, status Status) {
	t.Helper()
	path = upstreamFile(t, installedAndUpdated()...)
	s := open(t, path)
	status = mustStatus(t, s)
	status.TridentVersion = "1.0.0"
	for i := range 3 {
		status.InstallIndex = i
		mustRecord(t, s, status)
		settle(t, s, fmt.Sprint(i))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path, status
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func place(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever byte is wrong, and wherever the file ends: the host's status is what
// it was, and what was damaged is kept.
func TestADamagedDatastoreIsReplacedByItsCopy(t *testing.T) {
	t.Parallel()
	path, want := used(t)
	whole, copied := read(t, path), read(t, path+backupSuffix)
	damages := map[string][]byte{"gone": nil}
	ends := []int{1, 99, 100, 511, 512, 4095, len(whole) - 1}
	for i := range 50 {
		ends = append(ends, len(whole)*i/50)
	}
	for _, n := range ends {
		damages[fmt.Sprintf("ends at %d", n)] = whole[:n]
	}
	offsets := []int{0, 16, 18, 19, 20, 21, 24, 28, 44, 47, 56, 59, 63, 71, 99, 100, 103, 105, 108} // sqlite.org/fileformat.html, 1.3
	for i := range 150 {
		offsets = append(offsets, 109+(len(whole)-109)*i/150)
	}
	for _, n := range offsets {
		flipped := bytes.Clone(whole)
		flipped[n] ^= 0x2a
		damages[fmt.Sprintf("flipped at %d", n)] = flipped
	}
	restored := 0
	for name, data := range damages {
		dir := t.TempDir()
		path := filepath.Join(dir, "datastore.sqlite")
		if place(t, path+backupSuffix, copied); data != nil {
			place(t, path, data)
		}
		s, err := Open(t.Context(), path)
		if errkind.Of(err) == errkind.Incompatible && name == "flipped at 60" {
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := s.Status(t.Context()); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
		if ops, err := s.List(t.Context(), 10, false); err != nil || len(ops) != 3 {
			t.Errorf("%s: operations %v, %v", name, ops, err)
		}
		settle(t, s, "next")
		kept, err := s.Damaged()
		if err != nil || len(kept) > 1 {
			t.Errorf("%s: %v, %v", name, kept, err)
		}
		if len(kept) == 1 {
			restored++
			if got := read(t, kept[0].Path); !bytes.Equal(got, data) || time.Since(kept[0].Time).Abs() > time.Minute {
				t.Errorf("%s: not kept as it was, or at %v", name, kept[0].Time)
			}
		}
		s.Close()
		os.RemoveAll(dir)
	}
	if restored < len(damages)/3 { // what is flipped where nothing is stored does no harm
		t.Errorf("%d of %d were restored", restored, len(damages))
	}
}

func TestRestoringABackupReportsTheLostChanges(t *testing.T) {
	t.Parallel()
	path, want := used(t)
	s := open(t, path)
	late := want
	late.InstallIndex = 77
	mustRecord(t, s, late)
	s.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	place(t, path+"-journal", []byte("would be applied to whatever has the name"))
	s = open(t, path)
	if got := mustStatus(t, s); !got.Equal(want) {
		t.Errorf("%+v", got)
	}
	kept, err := s.Damaged()
	if err != nil || len(kept) != 1 {
		t.Fatalf("%v, %v", kept, err)
	}
	if string(read(t, kept[0].Path+"-journal")) != "would be applied to whatever has the name" {
		t.Error("the journal is not kept")
	}
	for _, name := range []string{path, path + backupSuffix, kept[0].Path} {
		if fi, err := os.Stat(name); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
}

func TestTwoDamagedDatastoresAreKept(t *testing.T) {
	t.Parallel()
	path, _ := used(t)
	var all []Damaged
	for i := range 4 {
		place(t, path, []byte{byte(i)})
		s := open(t, path)
		var err error
		if all, err = s.Damaged(); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	if len(all) != 2 || string(read(t, all[0].Path)) != "\x02" || string(read(t, all[1].Path)) != "\x03" {
		t.Errorf("%v", all)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	var left []string
	for _, e := range entries {
		if n := e.Name(); !strings.HasSuffix(n, "-journal") && !strings.Contains(n, damagedSuffix) {
			left = append(left, n)
		}
	}
	if want := []string{"datastore.sqlite", "datastore.sqlite.bak"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestADamagedBackupChangesNothing(t *testing.T) {
	t.Parallel()
	path, _ := used(t)
	for name, backup := range map[string][]byte{"damaged too": bytes.Repeat([]byte("x"), 8192), "none": nil} {
		if err := os.Remove(path + backupSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if backup != nil {
			place(t, path+backupSuffix, backup)
		}
		place(t, path, []byte("rubbish"))
		_, err := Open(t.Context(), path)
		if errkind.Of(err) != errkind.Corrupt || errkind.Hint(err) == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if string(read(t, path)) != "rubbish" {
			t.Errorf("%s: it was changed", name)
		}
	}
}

func TestTheCopyIsAsGoodAsTheDatastore(t *testing.T) {
	t.Parallel()
	path, want := used(t)
	s := open(t, path+backupSuffix)
	if got := mustStatus(t, s); !got.Equal(want) {
		t.Errorf("%+v", got)
	}
	for _, p := range []string{"user_version", "application_id"} {
		if n, err := queryNumber(t.Context(), s.db, "PRAGMA "+p); n == 0 || err != nil {
			t.Errorf("%s is %d, %v", p, n, err)
		}
	}
}

// limited opens a datastore on a disk that has room for that many pages.
func limited(t *testing.T, path string, pages int) *Store {
	t.Helper()
	s := NewClosed(path)
	if err := s.openFile(t.Context(), fmt.Sprintf("max_page_count(%d)", pages)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestAFullDiskDoesNotPreventAStart(t *testing.T) {
	t.Parallel()
	taken := upstreamFile(t, installedAndUpdated()...)
	fi, err := os.Stat(taken)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path         string
		pages, links int
	}{
		"a new datastore":        {filepath.Join(t.TempDir(), "d"), 1, 0},
		"a part of the schema":   {filepath.Join(t.TempDir(), "d"), 4, 0},
		"upstream's, taken over": {taken, int(fi.Size() / 4096), 2},
	} {
		s := limited(t, c.path, c.pages)
		if ops, err := s.List(t.Context(), 10, true); err != nil || len(ops) != 0 {
			t.Errorf("%s: List: %v, %v", name, ops, err)
		}
		if _, err := s.Load(t.Context(), "x"); errkind.Of(err) != errkind.NotFound {
			t.Errorf("%s: Load: %v", name, err)
		}
		if b, err := s.Blocked(t.Context()); err != nil || len(b) != 0 {
			t.Errorf("%s: Blocked: %v, %v", name, b, err)
		}
		before := mustStatus(t, s)
		if links := images(t, s); len(links) != c.links {
			t.Errorf("%s: links %v", name, links)
		}
		if err := s.Record(t.Context(), Status{Phase: Fresh{}, Spec: "a: 1"}); errkind.Of(err) != errkind.NoSpace || errkind.Hint(err) == "" {
			t.Errorf("%s: Record: %v", name, err)
		}
		if _, err := s.db.Exec("PRAGMA max_page_count = 1000"); err != nil {
			t.Fatal(err)
		}
		settle(t, s, "there is room again")
		if ops, err := s.List(t.Context(), 10, false); err != nil || len(ops) != 1 || !mustStatus(t, s).Equal(before) {
			t.Errorf("%s: afterwards: %v, %v", name, ops, err)
		}
	}
}

func TestAFailedBackupLeavesThePreviousBackup(t *testing.T) {
	t.Parallel()
	path, _ := used(t)
	before := read(t, path+backupSuffix)
	s := open(t, path)
	if _, err := s.db.Exec("CREATE TABLE bad (a TEXT); INSERT INTO bad VALUES ('x'); UPDATE trident_hoststatus SET sum = 'no'"); err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(t.Context()); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("err = %v", err)
	}
	settle(t, s, "saved all the same")
	if !bytes.Equal(before, read(t, path+backupSuffix)) {
		t.Error("the copy was replaced by a bad one")
	}
	if diff := cmp.Diff(0, len(leftovers(t, path))); diff != "" {
		t.Error(leftovers(t, path))
	}
}

func leftovers(t *testing.T, path string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestARestoreThatThePowerEndedIsDoneAgain(t *testing.T) {
	t.Parallel()
	path, want := used(t)
	place(t, path, bytes.Repeat([]byte("rubbish "), 1024))
	if _, err := setAside(path, time.Now().UTC()); err != nil {
		t.Fatal(err)
	}
	place(t, path+restoredSuffix, []byte("half of a co"))
	place(t, filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+backupSuffix+".123"), []byte("half of another"))
	s := open(t, path)
	if got := mustStatus(t, s); !got.Equal(want) {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(path + restoredSuffix); err == nil || len(leftovers(t, path)) > 0 {
		t.Errorf("left behind: %v, %v", err, leftovers(t, path))
	}
}

func TestADatastoreThatSomebodyHoldsIsNotDamaged(t *testing.T) {
	t.Parallel()
	path, _ := used(t)
	db := raw(t, path)
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	before := read(t, path)
	if err := NewClosed(path).openFile(t.Context(), "busy_timeout(0)"); err == nil || errkind.Of(err) == errkind.Corrupt {
		t.Errorf("err = %v", err)
	}
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, read(t, path)) {
		t.Error("it was changed")
	}
	open(t, path)
}

// What is not a file in the place of the datastore, or of its journal, is moved aside.
func TestADatastoreThatIsNotAFileDoesNotBlockOpen(t *testing.T) {
	for _, suffix := range []string{"", "-journal"} {
		for kind, make := range map[string]func(path string) error{
			"a folder": func(path string) error { return os.MkdirAll(filepath.Join(path, "sub"), 0o700) },
			"a pipe":   func(path string) error { return unix.Mkfifo(path, 0o600) },
			"a link":   func(path string) error { return os.Symlink("/etc/passwd", path) },
		} {
			if suffix == "" && kind == "a link" {
				continue // a datastore may be elsewhere
			}
			t.Run(kind+" at "+suffix, func(t *testing.T) {
				path, want := used(t)
				if err := errors.Join(os.RemoveAll(path+suffix), make(path+suffix)); err != nil {
					t.Fatal(err)
				}
				s := open(t, path)
				got := mustStatus(t, s)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
				mustRecord(t, s, want)
			})
		}
	}
}

// Whatever is done to the file while tridentd has it open: nothing that was journaled is
// lost, and the file is in its place again.
func TestADatastoreThatIsMovedWhileItIsOpenIsRestored(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(path string) error{
		"removed":  os.Remove,
		"renamed":  func(path string) error { return os.Rename(path, path+".old") },
		"a folder": func(path string) error { return errors.Join(os.Remove(path), os.MkdirAll(path+"/lost", 0o755)) },
		"a link":   func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)) },
		"replaced": func(path string) error { return os.Rename(path+backupSuffix, path) },
		"text": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", []byte("x\n"), 0o644), os.Rename(path+".new", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, _ := used(t)
			s := open(t, path)
			want := mustStatus(t, s)
			if err := s.Save(t.Context(), operation.Operation{ID: "running", Phase: operation.Doing, Plan: []string{"a"}, State: json.RawMessage("{}")}); err != nil {
				t.Fatal(err)
			}
			if err := hurt(path); err != nil {
				t.Fatal(err)
			}
			settle(t, s, "next")
			if kept, err := s.Damaged(); err != nil || len(kept) != 1 {
				t.Errorf("kept %v, %v", kept, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if fi, err := os.Lstat(path); err != nil || fi.Mode() != 0o600 {
				t.Errorf("in its place is %v, %v", fi, err)
			}
			s = open(t, path)
			if ops, err := s.List(t.Context(), 10, false); err != nil || len(ops) != 5 {
				t.Errorf("operations %v, %v", ops, err)
			}
			if got := mustStatus(t, s); !got.Equal(want) {
				t.Errorf("status %+v, want %+v", got, want)
			}
			if text, err := os.ReadFile("/etc/passwd"); name == "a link" && (err != nil || bytes.HasPrefix(text, []byte("SQLite"))) {
				t.Errorf("the file behind the link was written: %v", err)
			}
		})
	}
}

func TestADatastoreThatIsOverwrittenWhileItIsOpenIsAnErrorWithAWayForward(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{"emptied": nil, "noise": bytes.Repeat([]byte("noise"), 5000)} {
		path, _ := used(t)
		s := open(t, path)
		place(t, path, data)
		err := s.Save(t.Context(), operation.Operation{ID: "next", Phase: operation.Doing, Plan: []string{"a"}, State: json.RawMessage("{}")})
		if errkind.Of(err) != errkind.Corrupt || !strings.Contains(errkind.Hint(err), "systemctl restart tridentd.service") {
			t.Errorf("%s: %v; hint %q", name, err, errkind.Hint(err))
		}
	}
}

// What is in the place of the datastore is a pipe or a link that leads to itself, with
// and without the same in the place of its copy.
func TestADatastoreThatIsNotAFileIsDamagedWithOrWithoutABackup(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(path string) error{
		"pipe":   func(path string) error { return unix.Mkfifo(path, 0o600) },
		"loop":   func(path string) error { return os.Symlink(path, path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		for _, both := range []bool{false, true} {
			path, want := used(t)
			spoil := []string{path}
			if both {
				spoil = append(spoil, path+backupSuffix)
			}
			for _, p := range spoil {
				if err := errors.Join(os.Remove(p), hurt(p)); err != nil {
					t.Fatal(err)
				}
			}
			s, err := Open(t.Context(), path)
			if both {
				if errkind.Of(err) != errkind.Corrupt || errkind.Hint(err) == "" {
					t.Errorf("%s, and so is the copy: %v", name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got := mustStatus(t, s); !got.Equal(want) {
				t.Errorf("%s: %+v", name, got)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestADatastoreThatWasEmptiedIsDamageAndNotAFreshHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string // beside the datastore
		gone  bool              // the datastore is not there at all
		want  string            // in the error; "" is a fresh host
	}{
		"both copies emptied":         {files: map[string]string{"d.sqlite.bak": ""}, want: "the file is empty; the backup is empty, too"},
		"a copy that was cut":         {files: map[string]string{"d.sqlite.bak": "SQLite format 3"}, want: "the backup is empty, too"},
		"a log of servicing":          {files: map[string]string{"trident-Provisioned-20261128T180052Z.log": "x"}, want: "the file is empty; the datastore has no backup"},
		"a record of the rescuer":     {files: map[string]string{"self/rescue.json": "{}"}, want: "the file is empty; the datastore has no backup"},
		"evidence":                    {files: map[string]string{"self/evidence/op-1/journal.txt": "x"}, want: "the file is empty; the datastore has no backup"},
		"nothing":                     {},
		"an image of Trident shipped": {files: map[string]string{"self/2.0.0.raw": "x"}},
		"moved aside with its copy":   {files: map[string]string{"trident-Provisioned-20261128T180052Z.log": "x"}, gone: true},
		"moved aside, an empty copy":  {files: map[string]string{"d.sqlite.bak": ""}, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "d.sqlite")
			if !c.gone {
				place(t, path, nil)
			}
			for file, text := range c.files {
				file = filepath.Join(filepath.Dir(path), file)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				place(t, file, []byte(text))
			}
			s, err := Open(t.Context(), path)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				_ = s.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || errkind.Hint(err) == "" || errkind.Of(ForCallers(err)) != errkind.Internal {
				t.Fatalf("%v, hint %q", err, errkind.Hint(err))
			}
			if text := read(t, path); len(text) > 0 {
				t.Errorf("the datastore has %d bytes now", len(text))
			}
			for file, text := range c.files {
				if got := read(t, filepath.Join(filepath.Dir(path), file)); string(got) != text {
					t.Errorf("%s has changed", file)
				}
			}
		})
	}
}

func TestCallersSeeADamagedDatastoreAsAFaultOfTheHost(t *testing.T) {
	t.Parallel()
	_, parse := ParseStatus([]byte("spec: {"))
	_, row := decode[operation.Operation]("{")
	for _, err := range []error{parse, row, fmt.Errorf("x: %w", damageKind(errkind.With(errkind.Internal, coded(11))))} {
		if errkind.Of(err) != errkind.Corrupt || errkind.Of(ForCallers(err)) != errkind.Internal {
			t.Errorf("%v: %s, to callers %s", err, errkind.Of(err), errkind.Of(ForCallers(err)))
		}
	}
	image := errkind.Errorf(errkind.Corrupt, "read image: broken")
	if got := ForCallers(image); !errors.Is(got, image) || errkind.Of(got) != errkind.Corrupt || ForCallers(nil) != nil {
		t.Error("an error that is not about the datastore has changed")
	}
}

type coded int

func (c coded) Code() int     { return int(c) }
func (c coded) Error() string { return "coded" }
