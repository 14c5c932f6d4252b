// Command guest measures in a virtual machine what callers notice of an upgrade,
// and what the daemon costs there, side by side with the smallest gRPC server
// that Go can have (see the bench daemon) under the same systemd.
//
//	go run ./internal/e2e/bench/guest
//
// The calls come from within the guest. The command compares the pause of an upgrade with
// that of `systemctl restart` of the smallest server, whose socket systemd also keeps. No
// restart can be shorter than that.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/product"
	"github.com/trident-project/trident/proto/client"
)

const apiSocket = "/run/trident/trident.sock"

// Versions: that of the package, and those that it is upgraded to.
const base = "1.0.0"

func upgrades() []string { return []string{"2.0.0", "2.1.0", "2.2.0"} }

// restarts of the smallest server, to compare with.
const restarts = 5

func main() {
	rate := flag.Int("rate", 200, "calls a second during an upgrade; an emulated processor may not manage more than some")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	err := run(ctx, *rate)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench guest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rate int) (err error) {
	dir, err := filepath.Abs("dist/bench")
	if err != nil {
		return err
	}
	image, err := lab.Image(ctx, lab.Trixie())
	if err != nil {
		return err
	}
	booted, err := lab.Booted(ctx, image, lab.Options{CPUs: 2})
	if err != nil {
		return err
	}
	b := &bench{rate: rate}
	if err := b.build(ctx, dir); err != nil {
		return err
	}
	if b.vm, err = lab.Load(ctx, booted); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.vm.Close()) }()
	err = b.install(ctx)
	if err == nil {
		err = b.measure(ctx)
	}
	if err != nil {
		return errors.Join(err, errors.New(b.vm.Evidence(context.Background())))
	}
	return nil
}

// bench is the guest and what goes into it.
type bench struct {
	vm    *lab.VM
	files map[string]string // path in the guest: path here
	api   *client.Client
	rate  int // calls a second
}

func (b *bench) build(ctx context.Context, dir string) error {
	m, err := product.New(ctx, dir)
	if err != nil {
		return err
	}
	b.files = map[string]string{}
	keep := func(name, path string, made error) {
		b.files["/root/"+name], err = path, errors.Join(err, made)
	}
	path, made := m.Stub()
	keep("stub.rpm", path, made)
	path, made = m.RPM(ctx, base)
	keep("trident.rpm", path, made)
	for i, v := range upgrades() {
		one := m.Good
		if i == 0 {
			one = m.Image
		}
		path, made = one(ctx, v)
		keep(v+".raw", path, made)
	}
	for name, pkg := range map[string]string{"load": "guest/testdata/load", "smallest": "daemon/testdata/smallest"} {
		path := filepath.Join(dir, name)
		// As the daemon is built.
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./internal/e2e/bench/"+pkg)
		build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		keep(name, path, build.Run())
	}
	return err
}

// units run the smallest server as tridentd's own do.
const units = `
cat >/etc/systemd/system/smallest.socket <<.
[Socket]
ListenStream=/run/smallest.sock
.
cat >/etc/systemd/system/smallest.service <<.
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/root/smallest
.
systemctl daemon-reload
systemctl start smallest.socket
`

func (b *bench) install(ctx context.Context) error {
	for path, from := range b.files {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		err = errors.Join(b.vm.Put(ctx, path, f, 0o755), f.Close())
		if err != nil {
			return err
		}
	}
	_, err := b.vm.Run(ctx, "set -e; cd /root; rpm --install stub.rpm trident.rpm; systemctl start tridentd.socket tridentd-resume.path\n"+units, nil)
	if err != nil {
		return err
	}
	socket, err := b.vm.Forward(apiSocket)
	if err != nil {
		return err
	}
	b.api, err = client.Dial(socket)
	return err
}

// server is one that is measured.
type server struct{ unit, socket string }

func tridentd() server { return server{"tridentd.service", apiSocket} }
func smallest() server { return server{"smallest.service", "/run/smallest.sock"} }

func (b *bench) measure(ctx context.Context) error {
	virt, err := b.vm.Run(ctx, `echo "$(systemd-detect-virt), $(nproc) processors, Linux $(uname -r)"`, nil)
	if err != nil {
		return err
	}
	fmt.Printf("In a guest (%s):\n%-38s %12s %12s %8s   %s\n", strings.TrimSpace(virt), "", "tridentd", "smallest", "ratio", "expected")
	ours, theirs := tridentd(), smallest()
	var first report
	if err := b.load(ctx, &first, nil, "first", ours.socket, ours.unit, theirs.socket, theirs.unit); err != nil {
		return err
	}
	row("first answer after activation", "%.1f ms", ms(median(first.First[0])), ms(median(first.First[1])), "at most 1.3x")
	if err := b.memory(ctx, ours, theirs); err != nil {
		return err
	}
	up, err := b.stalls(ctx, ours, len(upgrades()), b.upgrade)
	if err != nil {
		return err
	}
	again, err := b.stalls(ctx, theirs, restarts, b.restart)
	if err != nil {
		return err
	}
	fmt.Printf("with %d calls a second:\n", b.rate)
	row("longest stall, upgrade / bare restart", "%.0f ms", ms(up.stall), ms(again.stall), "at most 1.25x")
	fmt.Printf("%-38s %12s %12s %8s   %s\n", "calls failed", up.failed(), again.failed(), "", "0 of ours")
	if up.lost > 0 {
		fmt.Println("the last failure of ours:", up.err)
	}
	return nil
}

func (b *bench) memory(ctx context.Context, servers ...server) error {
	var m [2]mem
	for i, s := range servers {
		var err error
		if m[i], err = b.resident(ctx, s); err != nil {
			return err
		}
	}
	row("idle resident memory", "%.1f MiB", mib(m[0].all), mib(m[1].all), "at most 1.6x")
	row("  of it not backed by the program", "%.1f MiB", mib(m[0].anonymous), mib(m[1].anonymous), "")
	return nil
}

func row(name, format string, ours, theirs float64, expected string) {
	fmt.Printf("%-38s %12s %12s %7.2fx   %s\n", name, fmt.Sprintf(format, ours), fmt.Sprintf(format, theirs), ours/theirs, expected)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func mib(n int64) float64        { return float64(n) / (1 << 20) }

func median[T int64 | time.Duration](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// report is what the command load prints.
type report struct {
	Calls, Failed int
	Error         string
	Longest       time.Duration
	First         [][]time.Duration
}

func (b *bench) load(ctx context.Context, r *report, stdin io.Reader, args ...string) error {
	out, err := b.vm.Run(ctx, "/root/load "+strings.Join(args, " "), stdin)
	if err != nil {
		return err
	}
	return json.NewDecoder(bytes.NewReader([]byte(out))).Decode(r)
}

// mem is resident memory in bytes: all of it, and what no file is behind.
type mem struct{ all, anonymous int64 }

// resident reads the memory of a unit that was just called, and left alone for
// three seconds since.
func (b *bench) resident(ctx context.Context, s server) (m mem, err error) {
	out, err := b.vm.Run(ctx, "sleep 3; cat /proc/$(systemctl show -P MainPID "+s.unit+")/status", nil)
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(out) {
		to := map[string]*int64{"VmRSS:": &m.all, "RssAnon:": &m.anonymous}
		if f := strings.Fields(line); len(f) == 3 && to[f[0]] != nil {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return m, err
			}
			*to[f[0]] = n << 10
		}
	}
	if m.all == 0 {
		return m, fmt.Errorf("no VmRSS of %s in %q", s.unit, out)
	}
	return m, nil
}

// noticed is what callers noticed of several disturbances.
type noticed struct {
	stall       time.Duration // the median of the longest of each
	calls, lost int
	err         string
}

func (n noticed) failed() string { return fmt.Sprintf("%d of %d", n.lost, n.calls) }

// stalls disturbs a server while it is called at a steady rate.
func (b *bench) stalls(ctx context.Context, s server, times int, disturb func(context.Context, int) error) (n noticed, err error) {
	var longest []time.Duration
	for i := range times {
		var r report
		stdin, end := io.Pipe()
		loaded := make(chan error, 1)
		go func() { loaded <- b.load(ctx, &r, stdin, "steady", s.socket, strconv.Itoa(b.rate)) }()
		err := errors.Join(quiet(ctx), disturb(ctx, i), quiet(ctx), end.Close())
		if err := errors.Join(err, <-loaded); err != nil {
			return n, err
		}
		longest = append(longest, r.Longest)
		n.calls, n.lost, n.err = n.calls+r.Calls, n.lost+r.Failed, r.Error
	}
	n.stall = median(longest)
	return n, nil
}

// quiet lets a second of calls go by.
func quiet(ctx context.Context) error {
	select {
	case <-time.After(time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *bench) upgrade(ctx context.Context, i int) error {
	// A guest that can hardly keep pace takes its time, which is no fault here.
	trial := &client.Trial{Soak: durationpb.New(3 * time.Second), Deadline: durationpb.New(15 * time.Minute), AllowReadOnlyUsr: true}
	_, err := b.api.Upgrade(ctx, client.Source{Path: "/root/" + upgrades()[i] + ".raw"}, trial, nil)
	return err
}

func (b *bench) restart(ctx context.Context, _ int) error {
	_, err := b.vm.Run(ctx, "systemctl restart smallest.service", nil)
	return err
}
