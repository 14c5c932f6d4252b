package cli

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
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trident-project/trident/internal/daemon"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/proto/client"
)

// fakeHost is a host for the scripts: a root folder, real daemons in this process,
// a real rescuer, and a systemd that does with them what a real one would.
type fakeHost struct {
	systemd.Jobs   // nil: no command of these tests handles units
	systemd.Mounts // nil: nor mounts
	root           string
	socket         string
	logger         *slog.Logger
	work           sync.WaitGroup
	ctx            context.Context
	down           context.CancelFunc

	mu   sync.Mutex
	stop func() // of the daemon that runs
	unit systemd.Unit
}

var _ systemd.Manager = (*fakeHost)(nil)

// boot makes a host below $WORK/root whose base is version 1.0.0, and a key in
// $WORK that it trusts.
func boot(ts *testscript.TestScript, _ bool, _ []string) {
	root := ts.MkAbs("root")
	h := &fakeHost{root: root, socket: filepath.Join(root, "run/trident/trident.sock"), logger: slog.New(slog.DiscardHandler)}
	h.ctx, h.down = context.WithCancel(context.Background())
	cert := makeKey(ts)
	for name, text := range map[string]string{
		"base/usr/bin/tridentd":                 daemonScript("1.0.0", "healthy"),
		"base/usr/lib/trident/trident-rescue":   "rescuer",
		"base/" + rescue.Base:                   `{"version":"1.0.0"}`,
		"base/usr/lib/trident/trust.d/test.crt": cert,
		"etc/os-release":                        "ID=testos\nVERSION_ID=1\n",
	} {
		ts.Check(writeFile(filepath.Join(root, name), text))
	}
	ts.Check(os.MkdirAll(filepath.Join(root, "var/lib/extensions"), 0o755))
	ts.Check(h.merge())
	h.start()
	ts.Defer(func() {
		h.down()
		h.stopDaemon()
		h.work.Wait()
	})
}

// tree VERSION BEHAVIOUR makes what goes into an image of Trident: healthy, or
// broken, which probes well and then does not start.
func tree(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs("tree-" + args[0])
	release := "ID=_any\nARCHITECTURE=x86-64\nSYSEXT_ID=trident\nSYSEXT_VERSION_ID=" + args[0] + "\nEXTENSION_RELOAD_MANAGER=1\n"
	for name, text := range map[string]string{
		"usr/bin/tridentd":               daemonScript(args[0], args[1]),
		"usr/bin/trident":                strings.Repeat("trident ", 100_000), // more than one chunk of an upload
		"usr/lib/trident/trident-rescue": "rescuer",
		"usr/lib/extension-release.d/extension-release.trident": release,
	} {
		ts.Check(writeFile(filepath.Join(dir, name), text))
	}
}

// daemonScript answers a probe; what it would be as a daemon, start reads.
func daemonScript(version, behaviour string) string {
	return fmt.Sprintf("#!/bin/sh\necho '{\"version\":\"%s\",\"ok\":true}' # %s\n", version, behaviour)
}

func makeKey(ts *testscript.TestScript) string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	ts.Check(err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	ts.Check(writeFile(ts.MkAbs("test.crt"), cert))
	ts.Check(writeFile(ts.MkAbs("test.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))))
	return cert
}

func writeFile(path, text string) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755))
}

// start runs what lies in /usr/bin.
func (h *fakeHost) start() {
	text, err := os.ReadFile(filepath.Join(h.root, "usr/bin/tridentd"))
	m := regexp.MustCompile(`"version":"([^"]+)".* # (\w+)`).FindSubmatch(text)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unit = systemd.Unit{Active: "activating"}
	if err != nil || m == nil || h.ctx.Err() != nil || string(m[2]) == "broken" {
		h.stop = func() {}
		return
	}
	ctx, cancel := context.WithCancel(h.ctx)
	d, err := h.try(ctx, string(m[1]))
	ended := make(chan struct{})
	h.stop = func() { cancel(); <-ended }
	h.work.Go(func() {
		defer close(ended)
		if err == nil {
			err = d.Run(ctx)
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "tridentd:", err) // the script fails for it
		}
	})
	h.unit.Active = "active"
}

// try starts a daemon as Restart=on-failure would: a program that another test
// forks holds our lock for the moment until it has become that program.
func (h *fakeHost) try(ctx context.Context, version string) (d *daemon.Daemon, err error) {
	for range 40 {
		d, err = daemon.New(ctx, daemon.Config{Root: h.root, Version: version, Systemd: h, Logger: h.logger})
		if errkind.Of(err) != errkind.Busy {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return d, err
}

func (h *fakeHost) stopDaemon() {
	h.mu.Lock()
	stop := h.stop
	h.mu.Unlock()
	stop()
}

// merge does what systemd-sysext does: /usr is the base and, above it, what the
// link points to.
func (h *fakeHost) merge() error {
	usr := filepath.Join(h.root, "usr")
	if err := errors.Join(os.RemoveAll(usr), os.CopyFS(usr, os.DirFS(filepath.Join(h.root, "base/usr")))); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(h.root, rescue.Link))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	img, err := ddi.Open(f, info.Size())
	if err != nil {
		return err
	}
	return h.lay(img)
}

func (h *fakeHost) lay(img *ddi.Image) error {
	files, err := img.FS()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(h.root, "usr/.systemd-sysext/extensions"), "trident\n"); err != nil {
		return err
	}
	return fs.WalkDir(files, "usr", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		return errors.Join(err, writeFile(filepath.Join(h.root, path), string(text)))
	})
}

// Restart queues, as systemd does: the caller is what is restarted.
func (h *fakeHost) Restart(context.Context, string) error {
	h.work.Go(func() { _ = h.rescuer().Restart(h.ctx) })
	return nil
}

func (h *fakeHost) ReloadOrRestart(context.Context, string) error { return h.merge() }

func (h *fakeHost) StartTransient(_ context.Context, _ string, t systemd.Transient) error {
	if len(t.Exec) != 2 || !strings.HasSuffix(t.Exec[0], "/trident-rescue") || t.Exec[1] != "watch" {
		return fmt.Errorf("no such program: %v", t.Exec)
	}
	h.work.Go(func() { _ = rescue.Watch(h.ctx, rescue.File{Dir: filepath.Join(h.root, rescue.Dir)}, h.rescuer()) })
	return nil
}

func (h *fakeHost) Stop(context.Context, string) error   { return nil }
func (h *fakeHost) Reload(context.Context) error         { return nil }
func (h *fakeHost) Reboot(context.Context) error         { return nil }
func (h *fakeHost) Enable(context.Context, string) error { return nil }
func (h *fakeHost) Version(context.Context) (int, error) { return 257, nil }

// Unit tells of the daemon. One that does not start has been started once more.
func (h *fakeHost) Unit(context.Context, string) (systemd.Unit, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unit.Active == "activating" {
		h.unit.Restarts++
	}
	return h.unit, nil
}

func (h *fakeHost) rescuer() rescuerHost { return rescuerHost{h} }

// rescuerHost is the host as the rescuer sees it.
type rescuerHost struct{ *fakeHost }

func (r rescuerHost) Version(ctx context.Context) (string, error) {
	c, err := client.Dial(r.socket)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	v, err := c.Version(ctx)
	return v, errors.Join(err, c.Close())
}

func (r rescuerHost) Unit(ctx context.Context) (rescue.Unit, error) {
	u, err := r.fakeHost.Unit(ctx, "")
	return rescue.Unit{Active: u.Active, Restarts: int(u.Restarts)}, err
}

func (r rescuerHost) SetLink(link string) error { return rescue.SystemHost{Root: r.root}.SetLink(link) }

func (r rescuerHost) Refresh(context.Context) error { return r.merge() }

func (r rescuerHost) Restart(context.Context) error {
	r.stopDaemon()
	r.start()
	return nil
}

func (r rescuerHost) Logf(string, ...any) {}
