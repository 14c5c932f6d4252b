package selfservice

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/systemd"
)

// disk is what a power cut leaves.
type disk struct {
	root    string
	journal *operationtest.Memory
	blocked map[string]hoststate.Blocked
}

// world is a host: a disk, a systemd that runs daemons and rescuers, a power
// switch.
type world struct {
	t    testing.TB
	shop *workshop

	hosttest.Power
	disk     disk
	on       bool
	life     int // counts boots and processes
	pids     int
	killed   map[*process]bool
	boot     int
	daemon   *process
	booted   time.Time
	unit     systemd.Unit  // tridentd.service
	exits    []rescue.Exit // of its processes, in the journal of this boot
	watching map[string]context.CancelCauseFunc
	marked   bool
	noSocket bool // the file of the socket was removed
	grace    func(context.Context) (time.Duration, error)

	hurtAt int          // the touch before which the disk is damaged; 0 for none
	hurt   func(*world) // damages it

	left *disk // what the cut left

	clock time.Duration // how far the clock of the host is ahead of that of the bubble
	dead  time.Time     // what the clock says after a power cut; zero: it goes on
	built time.Time     // the date of the sources of every version

	read       atomic.Int64 // bytes of images
	noexec     bool         // what is merged does not run
	goroutines sync.WaitGroup
	usr        sync.Mutex // held while /usr changes, which no process start sees half
}

// process is one run of tridentd.
type process struct {
	w       *world
	pid     int
	version string // what it says it is
	dead    bool
	runner  *operation.Runner
	service *Service
}

var errDead = hosttest.ErrDead

func tempDir(t testing.TB) string { return hosttest.TempDir(t) }

// newWorld is a host with a base of version 1.0.0.
func newWorld(t testing.TB, shop *workshop) *world {
	root := tempDir(t)
	write(t, filepath.Join(root, "base", extension.OwnDaemon), daemonText("1.0.0", healthy), 0o755)
	write(t, filepath.Join(root, "base", rescue.Base), `{"version":"1.0.0"}`, 0o644)
	write(t, filepath.Join(root, "base", extension.OwnRescuer), "rescuer 1.0.0", 0o755)
	pemCert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: shop.cert.Raw})
	write(t, filepath.Join(root, "base/usr/lib/trident/trust.d/shop.crt"), string(pemCert), 0o644)
	write(t, filepath.Join(root, "etc/os-release"), "ID=testos\nVERSION_ID=1\n", 0o644)
	for _, dir := range []string{"var/lib/extensions", "run"} {
		if err := hosttest.MkdirAll(filepath.Join(root, dir)); err != nil {
			t.Fatal(err)
		}
	}
	return &world{t: t, shop: shop, disk: disk{root: root, journal: operationtest.NewMemory(), blocked: map[string]hoststate.Blocked{}}}
}

// touch is a change of the host by p, or by the rescuer (nil), at which the
// power may be cut.
func (w *world) touch(p *process, name string, change func() error) error {
	return w.Touch(hosttest.Toucher{
		IsDead: func() bool { return !w.on || p != nil && p.dead },
		Before: func() {
			if w.Touches == w.hurtAt {
				w.hurt(w)
			}
		},
		Cut: w.cutPower,
	}, name, change)
}

// setClock sets the clock of the host.
func (w *world) setClock(now time.Time) {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	w.clock = time.Until(now)
}

// clockTime is what the clock of the host says.
func (w *world) clockTime() time.Time {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	return time.Now().Add(w.clock)
}

// cutPower switches the power off and sets aside what is on disk at this moment. The
// caller holds w.Mu.
func (w *world) cutPower() {
	w.on = false
	root := filepath.Join(tempDir(w.t), "root")
	if err := os.CopyFS(root, os.DirFS(w.disk.root)); err != nil {
		w.t.Error(err)
	}
	w.left = &disk{root: root, journal: w.disk.journal.Clone(), blocked: maps.Clone(w.disk.blocked)}
}

// powerOn boots what is on the disk: systemd merges what the link says, a
// rescuer takes up its trial, and unsettled work brings up the daemon.
func (w *world) powerOn() {
	w.Mu.Lock()
	if w.left != nil {
		w.disk, w.left = *w.left, nil
		if !w.dead.IsZero() {
			w.clock = time.Until(w.dead)
		}
	}
	w.on, w.daemon, w.watching, w.exits, w.noSocket = true, nil, map[string]context.CancelCauseFunc{}, nil, false
	w.unit = systemd.Unit{Active: "inactive"}
	w.boot++
	w.booted = time.Now()
	marked := w.marked
	w.Mu.Unlock()
	merge := w.merge
	if !w.disk.enabled() {
		merge = w.unmerged
	}
	if err := merge(); err != nil {
		w.t.Error(err)
	}
	unit, err := os.ReadFile(filepath.Join(w.disk.root, bootWantsPath)) // through the link
	if err == nil && strings.Contains(string(unit), "\nExecStart=/"+rescue.Program+" watch\n") {
		w.watch("boot")
	}
	if marked {
		w.startDaemon()
	}
}

// bootClock is the clock of a boot.
func (w *world) bootClock() (boot string, up time.Duration) {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	return fmt.Sprint(w.boot), time.Since(w.booted)
}

// unmerged is /usr without extensions.
func (w *world) unmerged() error {
	usr := filepath.Join(w.disk.root, "usr")
	return errors.Join(os.RemoveAll(usr), os.CopyFS(usr, os.DirFS(filepath.Join(w.disk.root, "base/usr"))))
}

// merge does what systemd-sysext does: /usr is the base and, above it, what the
// link points to.
func (w *world) merge() error {
	w.usr.Lock()
	defer w.usr.Unlock()
	root := w.disk.root
	usr := filepath.Join(root, "usr")
	if err := w.unmerged(); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(root, rescue.Link))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	img, err := ddi.Open(f, fi.Size())
	if err != nil {
		return err
	}
	files, err := img.FS()
	if err != nil {
		return err
	}
	write(w.t, filepath.Join(usr, ".systemd-sysext/extensions"), "trident\n", 0o444)
	return fs.WalkDir(files, "usr", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		write(w.t, filepath.Join(root, path), string(text), 0o755)
		return err
	})
}

func (w *world) spawn(f func()) { w.goroutines.Go(f) }

// version is who answers on the socket.
func (w *world) version(context.Context) (string, error) {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	if w.on && w.noSocket {
		return "", rescue.ErrNoSocket
	}
	if !w.on || w.daemon == nil || w.daemon.dead || w.daemon.service == nil {
		return "", errors.New("connection refused")
	}
	return w.daemon.version, nil
}

// runTool runs a candidate, which says the truth whatever it will do as a daemon,
// and has an empty journal to read.
func (w *world) runTool(_ context.Context, name string, args ...string) ([]byte, error) {
	if !strings.HasSuffix(name, "/tridentd") {
		return []byte("nothing to tell"), nil
	}
	if w.noexec && name == filepath.Join(w.disk.root, extension.OwnDaemon) {
		return nil, syscall.EACCES
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(string(text), "version="), " ")
	return fmt.Appendf(nil, `{"version":%q,"ok":true}`, version), nil
}

// counted reads an image, and counts the bytes.
func (w *world) counted(f *os.File) io.ReaderAt { return countingReader{f, &w.read} }

type countingReader struct {
	io.ReaderAt
	count *atomic.Int64
}

func (r countingReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(b, off)
	r.count.Add(int64(n))
	return n, err
}
