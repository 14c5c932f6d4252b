package selfservice

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/systemd"
)

// behaviour is how a version of tridentd behaves once it is started.
type behaviour string

const (
	healthy     behaviour = "healthy"
	exits       behaviour = "exits"       // at once, again and again
	hangs       behaviour = "hangs"       // before it is ready
	lies        behaviour = "lies"        // about its version
	crashes     behaviour = "crashes"     // a moment after it was ready
	unstartable behaviour = "unstartable" // its unit fails
)

// workshop makes signed images, once for all tests.
type workshop struct {
	dir  string
	cert *x509.Certificate
	key  *rsa.PrivateKey
	mu   sync.Mutex
	made map[string]string
}

func newWorkshop(t testing.TB) *workshop {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "workshop"},
		// The clock of a synctest bubble stands in the year 2000.
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: now.Add(10 * 365 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &workshop{dir: t.TempDir(), cert: cert, key: key, made: map[string]string{}}
}

// image returns the path of a signed image.
func (w *workshop) image(t testing.TB, version string, b behaviour) string {
	return w.variant(t, version, b, "", func(string) {})
}

// variant returns the path of a signed image whose tree was changed.
func (w *workshop) variant(t testing.TB, version string, b behaviour, variant string, change func(tree string)) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := version + "-" + string(b) + variant
	if path, ok := w.made[name]; ok {
		return path
	}
	tree := filepath.Join(w.dir, name)
	write(t, filepath.Join(tree, extension.OwnDaemon), daemonText(version, b), 0o755)
	write(t, filepath.Join(tree, "usr/bin/trident"), "trident "+version, 0o755)
	write(t, filepath.Join(tree, extension.OwnRescuer), "rescuer "+version, 0o755)
	write(t, filepath.Join(tree, extension.OwnRelease), fmt.Sprintf(
		"ID=_any\nARCHITECTURE=x86-64\nSYSEXT_ID=trident\nSYSEXT_VERSION_ID=%s\nEXTENSION_RELOAD_MANAGER=1\n", version), 0o644)
	change(tree)
	path := tree + ".raw"
	root, err := ddi.Build(context.Background(), path, ddi.BuildOptions{Tree: tree, Arch: ddi.AMD64, Epoch: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := ddi.SignRootHash(root, w.cert, w.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := ddi.Attach(path, sig, w.cert); err != nil {
		t.Fatal(err)
	}
	w.made[name] = path
	return path
}

func daemonText(version string, b behaviour) string {
	return fmt.Sprintf("version=%s behaviour=%s", version, b)
}

func write(t testing.TB, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		t.Fatal(err)
	}
}

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

	mu       sync.Mutex
	disk     disk
	on       bool
	life     int // counts boots and processes
	boot     int
	daemon   *process
	unit     systemd.Unit // tridentd.service
	watching map[string]bool
	marked   bool

	touches int
	cutAt   int // the touch to cut the power at; 0 for none
	after   bool
	trace   []string
	left    *disk // what the cut left

	goroutines sync.WaitGroup
}

// process is one run of tridentd.
type process struct {
	w       *world
	version string // what it says it is
	dead    bool
	runner  *operation.Runner
	service *Service
}

// tempDir is in memory where there is such a place: a power cut is played, so
// nothing is gained by waiting for a real disk.
func tempDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "trident-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

var errDead = errors.New("the power is off")

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
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &world{t: t, shop: shop, disk: disk{root: root, journal: operationtest.NewMemory(), blocked: map[string]hoststate.Blocked{}}}
}

// touch is a change of the host by p, or by the rescuer (nil), at which the
// power may be cut.
func (w *world) touch(p *process, name string, change func() error) error {
	w.mu.Lock()
	if !w.on || p != nil && p.dead {
		w.mu.Unlock()
		return errDead
	}
	w.touches++
	hit := w.touches == w.cutAt
	w.trace = append(w.trace, name)
	if hit && !w.after {
		w.cut()
		w.mu.Unlock()
		return errDead
	}
	w.mu.Unlock()
	err := change()
	w.mu.Lock()
	defer w.mu.Unlock()
	if hit {
		w.cut()
		return errDead
	}
	return err
}

// cut switches the power off and sets aside what is on disk at this moment. The
// caller holds w.mu.
func (w *world) cut() {
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
	w.mu.Lock()
	if w.left != nil {
		w.disk, w.left = *w.left, nil
	}
	w.on, w.daemon, w.watching = true, nil, map[string]bool{}
	w.unit = systemd.Unit{Active: "inactive"}
	w.boot++
	marked := w.marked
	w.mu.Unlock()
	if err := w.merge(); err != nil {
		w.t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(w.disk.root, bootWantsPath)); err == nil {
		w.watch("boot")
	}
	if marked {
		w.startDaemon()
	}
}

// merge does what systemd-sysext does: /usr is the base and, above it, what the
// link points to.
func (w *world) merge() error {
	root := w.disk.root
	usr := filepath.Join(root, "usr")
	if err := errors.Join(os.RemoveAll(usr), os.CopyFS(usr, os.DirFS(filepath.Join(root, "base/usr")))); err != nil {
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

func (w *world) go_(f func()) { w.goroutines.Go(f) }

// startDaemon starts what lies in /usr/bin, as systemd would.
func (w *world) startDaemon() {
	text, err := os.ReadFile(filepath.Join(w.disk.root, extension.OwnDaemon))
	if err != nil {
		w.t.Error(err)
		return
	}
	var version string
	var b behaviour
	if _, err := fmt.Sscanf(string(text), "version=%s behaviour=%s", &version, &b); err != nil {
		w.t.Error(err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.on {
		return
	}
	p := &process{w: w, version: version}
	w.daemon = p
	w.unit.Active = "activating"
	switch b {
	case exits:
		w.go_(func() { w.fail(p, 250*time.Millisecond) })
	case hangs:
		w.go_(func() { w.fail(p, 30*time.Second) })
	case unstartable:
		w.unit.Active = "failed"
	case lies:
		p.version = "9.9.9"
		w.go_(func() { w.serve(p, 0) })
	case crashes:
		w.go_(func() { w.serve(p, 4*time.Second) })
	default:
		w.go_(func() { w.serve(p, 0) })
	}
}

// fail is a start that comes to nothing after a while.
func (w *world) fail(p *process, after time.Duration) {
	time.Sleep(after)
	w.again(p)
}

// again is what Restart=on-failure does.
func (w *world) again(p *process) {
	w.mu.Lock()
	same := w.on && w.daemon == p && !p.dead
	p.dead = true
	if same {
		w.unit.Restarts++
	}
	w.mu.Unlock()
	if same {
		w.startDaemon()
	}
}

// serve is a daemon that comes up, and may crash after a while.
func (w *world) serve(p *process, crash time.Duration) {
	w.mu.Lock()
	w.life++
	life := operation.Life{Boot: fmt.Sprint(w.boot), Process: fmt.Sprint(w.life)}
	root := w.disk.root
	w.mu.Unlock()
	runner, err := operation.New(context.Background(), operation.Config{
		Journal: journalOf{p}, Life: life, Logger: slog.New(slog.DiscardHandler),
		Unsettled: func(is bool) error {
			return w.touch(p, "mark", func() error { w.mu.Lock(); w.marked = is; w.mu.Unlock(); return nil })
		},
	})
	if err != nil {
		return // dead already
	}
	s := New(Config{
		Root: root, Version: p.version, Runner: runner, Store: storeOf{p}, Systemd: systemdOf{p}, Logger: slog.New(slog.DiscardHandler),
		Tools: run.Func(w.tool), SelfCheck: w.version,
		Touch: func(name string, change func() error) error { return w.touch(p, name, change) },
	})
	w.mu.Lock()
	if p.dead || !w.on {
		w.mu.Unlock()
		return
	}
	p.runner, p.service = runner, s
	w.unit.Active = "active"
	w.mu.Unlock()
	if err := runner.Resume(context.Background()); err == nil {
		if err := s.Retire(context.Background()); err != nil && !errors.Is(err, errDead) {
			w.t.Errorf("retire: %v", err)
		}
	}
	if crash > 0 {
		time.Sleep(crash)
		w.kill(p)
		w.again(p)
	}
}

// kill ends a process without asking it.
func (w *world) kill(p *process) {
	w.mu.Lock()
	p.dead = true
	w.mu.Unlock()
	w.reap(p)
}

// reap lets the goroutines of a process end.
func (w *world) reap(p *process) {
	if p != nil && p.runner != nil {
		if err := p.runner.Shutdown(context.Background()); err != nil {
			w.t.Error(err)
		}
	}
}

// restart is what a restart job of tridentd.service does: SIGTERM, then a start.
func (w *world) restart() {
	w.mu.Lock()
	p := w.daemon
	w.daemon = nil
	w.unit.Restarts = 0
	w.mu.Unlock()
	w.reap(p)
	w.mu.Lock()
	if p != nil {
		p.dead = true
	}
	w.mu.Unlock()
	w.startDaemon()
}

// watch runs a rescuer.
func (w *world) watch(unit string) {
	w.mu.Lock()
	w.watching[unit] = true
	root := w.disk.root
	boot := w.boot
	w.mu.Unlock()
	w.go_(func() {
		err := rescue.Watch(context.Background(), rescue.File{Dir: filepath.Join(root, rescue.Dir)}, rescuerOf{w, root, boot})
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.boot == boot {
			delete(w.watching, unit)
			if err != nil && w.on {
				w.t.Errorf("rescuer: %v", err)
			}
		}
	})
}

// version is who answers on the socket.
func (w *world) version(context.Context) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.on || w.daemon == nil || w.daemon.dead || w.daemon.service == nil {
		return "", errors.New("connection refused")
	}
	return w.daemon.version, nil
}

// tool runs a candidate, which says the truth whatever it will do as a daemon,
// and has an empty journal to read.
func (w *world) tool(_ context.Context, name string, args ...string) ([]byte, error) {
	if !strings.HasSuffix(name, "/tridentd") {
		return []byte("nothing to tell"), nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(string(text), "version="), " ")
	return fmt.Appendf(nil, `{"version":%q,"ok":true}`, version), nil
}

// journalOf, storeOf and systemdOf are what a process has of its host: nothing
// once it is dead.
type journalOf struct{ *process }

func (j journalOf) alive() (*operationtest.Memory, error) {
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	if j.dead || !j.w.on {
		return nil, errDead
	}
	return j.w.disk.journal, nil
}

func (j journalOf) Save(ctx context.Context, op operation.Operation, e ...operation.Event) error {
	m, err := j.alive()
	if err != nil {
		return err
	}
	return m.Save(ctx, op, e...)
}

func (j journalOf) Load(ctx context.Context, id string) (operation.Operation, error) {
	m, err := j.alive()
	if err != nil {
		return operation.Operation{}, err
	}
	return m.Load(ctx, id)
}

func (j journalOf) List(ctx context.Context, limit int, unsettled bool) ([]operation.Operation, error) {
	m, err := j.alive()
	if err != nil {
		return nil, err
	}
	return m.List(ctx, limit, unsettled)
}

func (j journalOf) Events(ctx context.Context, id string, after uint64, limit int) ([]operation.Event, error) {
	m, err := j.alive()
	if err != nil {
		return nil, err
	}
	return m.Events(ctx, id, after, limit)
}

type storeOf struct{ *process }

func (s storeOf) Block(_ context.Context, b hoststate.Blocked) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.disk.blocked[b.Version] = b
	return nil
}

func (s storeOf) Unblock(_ context.Context, version string) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	delete(s.w.disk.blocked, version)
	return nil
}

func (s storeOf) Blocked(context.Context) (out []hoststate.Blocked, err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, b := range s.w.disk.blocked {
		out = append(out, b)
	}
	return out, nil
}

func (s storeOf) Snapshot(_ context.Context, path string) error {
	return os.WriteFile(path, []byte("datastore"), 0o600)
}

// systemdOf is systemd as far as an upgrade needs it. Its calls are made within
// touches, so it need not ask whether the power is on.
type systemdOf struct{ *process }

func (s systemdOf) Restart(_ context.Context, unit string) error {
	if unit != daemonUnit {
		return errkind.Errorf(errkind.NotFound, "unit %s", unit)
	}
	s.w.go_(func() {
		time.Sleep(time.Millisecond) // the job comes after the answer
		s.w.mu.Lock()
		current := s.w.on && s.w.daemon == s.process
		s.w.mu.Unlock()
		if current {
			s.w.restart()
		}
	})
	return nil
}

func (s systemdOf) ReloadOrRestart(_ context.Context, unit string) error {
	if unit != sysextUnit {
		return errkind.Errorf(errkind.NotFound, "unit %s", unit)
	}
	time.Sleep(300 * time.Millisecond)
	return s.w.merge()
}

func (s systemdOf) StartTransient(_ context.Context, name string, t systemd.Transient) error {
	s.w.mu.Lock()
	there := s.w.watching[name] || s.w.watching["boot"]
	s.w.mu.Unlock()
	if there {
		return errkind.Errorf(errkind.Exists, "unit %s", name)
	}
	if _, err := os.Stat(filepath.Join(s.w.disk.root, t.Exec[0])); err != nil {
		return err
	}
	s.w.watch(name)
	return nil
}

func (systemdOf) Stop(context.Context, string) error           { return nil }
func (systemdOf) ResetFailed(context.Context, ...string) error { return nil }
func (systemdOf) Reload(context.Context) error                 { return nil }
func (s systemdOf) Unit(context.Context, string) (systemd.Unit, error) {
	return s.w.unit, nil
}

// rescuerOf is the host as one boot's rescuer has it.
type rescuerOf struct {
	*world
	root string
	of   int
}

func (r rescuerOf) alive() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on || r.boot != r.of {
		return errDead
	}
	return nil
}

func (r rescuerOf) Version(ctx context.Context) (string, error) { return r.version(ctx) }

func (r rescuerOf) Unit(context.Context) (rescue.Unit, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return rescue.Unit{Active: r.unit.Active, Restarts: int(r.unit.Restarts)}, nil
}

func (r rescuerOf) Swing(link string) error {
	if err := r.alive(); err != nil {
		return err
	}
	return r.touch(nil, "rescuer: swing", func() error { return rescue.SystemHost{Root: r.root}.Swing(link) })
}

func (r rescuerOf) Refresh(context.Context) error {
	if err := r.alive(); err != nil {
		return err
	}
	return r.touch(nil, "rescuer: refresh", r.merge)
}

func (r rescuerOf) Restart(context.Context) error {
	if err := r.alive(); err != nil {
		return err
	}
	return r.touch(nil, "rescuer: restart", func() error { r.restart(); return nil })
}

// Logf is called right after the rescuer has decided, so the power may be cut
// there as well.
func (r rescuerOf) Logf(string, ...any) {
	if r.alive() == nil {
		_ = r.touch(nil, "rescuer: says", func() error { return nil })
	}
}
