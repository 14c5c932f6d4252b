package provision

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/gateway/connect"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/isopatch"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

const done = operationsv1.Phase_PHASE_DONE

// lines gets each line of a log.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(bytes.TrimSpace(p)):
	default:
	}
	return len(p), nil
}

// placeholder is a placeholder of size bytes.
func placeholder(path string, size int) string {
	head := isopatch.Magic + ":" + path + ":"
	return head + strings.Repeat("#", size-len(head)-1) + "\n"
}

const room = 17055 // bytes of upstream's placeholders

// liveImage writes a file with the placeholders of a live image.
func liveImage(t *testing.T, placeholders ...string) string {
	t.Helper()
	return write(t, "live.iso", "iso"+strings.Join(placeholders, strings.Repeat("\x00", 5000))+"end")
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var osImage = sync.OnceValues(func() ([]byte, error) {
	var parts []image.Part
	for _, name := range []string{"esp", "root"} {
		typ, _ := image.ParsePartType(name, image.AMD64)
		parts = append(parts, image.Part{Name: name, Type: typ, Content: bytes.NewReader(make([]byte, 64<<10)), Size: 64 << 10})
	}
	disk, size, err := image.Assemble(parts)
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp("", "provision")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	var out bytes.Buffer
	_, err = image.Write(context.Background(), &out, image.Spec{
		Arch: image.AMD64, OSRelease: "ID=debian\n", Disk: disk, DiskSize: size, Temp: temp, Packages: []image.Package{},
		Bootloader: image.Bootloader{Type: image.GRUB},
		Mounts: []image.Mount{
			{Number: 1, MountPoint: "/boot/efi", Type: "vfat", UUID: "AAAA-AAAA"},
			{Number: 2, MountPoint: "/", Type: "ext4", UUID: "840b5bf4-8c1b-8b11-b7a6-72898d23a6b4"},
		},
	}, nil)
	return out.Bytes(), err
})

// options are those of a run that works.
func options(t *testing.T) Options {
	t.Helper()
	cosi, err := osImage()
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Config: []byte(hostconfigtest.Document(t, "single")), Image: write(t, "os.cosi", string(cosi)),
		ISO:     liveImage(t, placeholder("/etc/trident/config.yaml", room), placeholder("/trident_cdrom/rcp-agent.yaml", room)),
		Address: "127.0.0.1", Loopback: true, Name: "m1",
	}
}

// run is a prepared run, and what it says.
type run struct {
	*Run
	t       *testing.T
	log     lines
	notices lines
}

func prepare(t *testing.T, change func(*Options)) *run {
	t.Helper()
	r := &run{t: t, log: make(lines, 100), notices: make(lines, 100)}
	o := options(t)
	o.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	o.Notice = func(s string) { _, _ = r.notices.Write([]byte(s)) }
	if change != nil {
		change(&o)
	}
	var err error
	if r.Run, err = Prepare(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// boot is a machine that boots the live image: it reads the configuration of its agent out of
// the image that it downloads. The agent dials from the given address until stop, with daemon
// behind it.
func (r *run) boot(daemon *clienttest.Server) (stop func()) {
	r.t.Helper()
	return r.agent(r.read("/trident_cdrom/rcp-agent.yaml"), daemon)
}

// read returns a file of the live image that the run serves.
func (r *run) read(path string) []byte {
	r.t.Helper()
	iso := r.get(r.ISO())
	original, err := os.ReadFile(r.options.ISO)
	if err != nil {
		r.t.Fatal(err)
	}
	found, err := isopatch.Find(r.t.Context(), bytes.NewReader(original), int64(len(original)))
	if err != nil || len(iso) != len(original) {
		r.t.Fatal(err, len(iso), len(original))
	}
	for _, p := range found {
		if p.Path == path {
			return iso[p.Offset : p.Offset+p.Size]
		}
	}
	r.t.Fatalf("the image has no place for %s", path)
	return nil
}

func (r *run) get(url string) []byte {
	r.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return body
}

// agent runs the agent of a machine.
func (r *run) agent(config []byte, daemon *clienttest.Server) (stop func()) {
	r.t.Helper()
	c, warnings, err := connect.Parse(config)
	if err != nil || len(warnings) > 0 || c.Socket != connect.DefaultSocket {
		r.t.Fatalf("%v, %v, %s", err, warnings, c.Socket)
	}
	c.Socket = filepath.Join(r.t.TempDir(), "s")
	c.Proxy, c.MinPause, c.MaxPause = "none", 20*time.Millisecond, 100*time.Millisecond
	if err := daemon.Listen(c.Socket); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(daemon.Close)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { connect.Run(ctx, c, slog.New(slog.DiscardHandler)) })
	stop = sync.OnceFunc(func() { cancel(); ended.Wait() })
	r.t.Cleanup(stop)
	return stop
}

// report sends a report of trident.phonehome in the form of upstream's.
func (r *run) report(url, body string) int {
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		r.t.Error(err)
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// installation are the events of an installation up to its reboot.
func installation() []*operationsv1.Event {
	return []*operationsv1.Event{clienttest.Step(0, "write", nil), clienttest.Progress("write", 1, 2), clienttest.Reboot("reboot")}
}

func nothing(*client.Event) {}

// onReboot calls fn once, when the machine reboots.
func onReboot(fn func()) func(*client.Event) {
	return func(e *client.Event) {
		if e.GetChange().GetWaiting() == "reboot" {
			go fn()
		}
	}
}

func text(format string, args ...any) string { return fmt.Sprintf(format, args...) }
