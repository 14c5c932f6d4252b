// Command deploy measures how fast a partition of an image gets from an http
// server onto a disk, side by side with a pipeline of the usual tools and with
// each of its stages alone.
//
// The partition is an ext4 with files of this machine's /usr, served on loopback
// from the page cache. The disk is a loop device if root runs the command, or else a file.
// Trident, the pipeline and each stage run in turns, three times, and the command compares
// the medians. The ratio counts; the seconds are those of this machine. Trident does what the
// pipeline does, and also reads back what it wrote.
//
// The last lines are about the bound: no program that uses these stages can be faster than
// their processor time divided by the cores, nor faster than the disk writes and reads the
// partition past the page cache. The processor time is that of the whole machine, because
// much of the writing is done by threads of the kernel, so nothing else should run.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/blockdev"
)

func main() {
	size := flag.Int64("size", 1024, "size of the partition, in MiB")
	rounds := flag.Int("rounds", 3, "how often each is measured")
	bytes := flag.Bool("bytes", false, "measure only how many bytes an update fetches")
	only := flag.Bool("only", false, "measure only ours")
	url := flag.String("deploy", "", "what the bench calls itself with: the image to write to the argument")
	flag.Parse()
	ctx := context.Background()
	var err error
	if *url != "" {
		err = deploy(ctx, *url, flag.Arg(0))
	} else if *bytes {
		err = updateOf(ctx, *size<<20)
	} else {
		err = bench(ctx, *size<<20, *rounds, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench deploy:", err)
		os.Exit(1)
	}
}

// decodeMemory is what a stream may use to decode frames at the same time, in bytes.
const decodeMemory = 128 << 20

// deploy is a process of its own, so that its memory can be told.
func deploy(ctx context.Context, url, target string) error {
	img, err := image.Open(ctx, fetch.Source{URL: url}, image.Ignored, image.Options{})
	if err != nil {
		return err
	}
	defer img.Close()
	d, err := blockdev.Open(target, true)
	if err != nil {
		return err
	}
	defer d.Close()
	img.UseMemory(decodeMemory)
	p := img.Partitions()[1]
	begun := time.Now()
	v, err := p.Deploy(ctx, d, image.Deployment{Saved: func(image.Checkpoint) error { return nil }})
	if err != nil {
		return err
	}
	if !v.Of(p.File) {
		return errors.New("it was not verified")
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			fmt.Println(time.Since(begun).Seconds(), f[1])
		}
	}
	return nil
}

// world is what all measurements share.
type world struct {
	raw, packed, cosi string // files
	url               string // of the folder with them
	target            string
	size              int64 // bytes of the partition
	peak              int64 // bytes of memory of ours
}

func bench(ctx context.Context, size int64, rounds int, only bool) (err error) {
	dir, err := os.MkdirTemp("", "trident-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	w := &world{size: size}
	packed, err := w.prepare(ctx, dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	go func() { _ = http.Serve(l, http.FileServer(http.Dir(dir))) }() // ends with l
	w.url = "http://" + l.Addr().String() + "/"
	end, err := w.attach(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	fmt.Printf("Deploying a partition of %d MiB, %d MiB packed, from http to %s:\n", size>>20, packed>>20, w.target)
	rows := w.rows(ctx)
	if only {
		rows = rows[:1]
	}
	took := make([][]cost, len(rows))
	for range rounds {
		for i, r := range rows {
			c, err := r.run()
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			took[i] = append(took[i], c)
			if i == 0 {
				if err := w.compare(); err != nil {
					return err
				}
			}
		}
	}
	w.print(rows, took)
	if only {
		return nil
	}
	fmt.Println()
	return update(ctx, dir, w.raw)
}

// cost is what one run took.
type cost struct {
	seconds float64
	cpu     float64 // seconds of processor time, of the whole machine
}

type row struct {
	name     string
	expected string
	part     part
	run      func() (cost, error)
}

// part is what a row has to do with the bound.
type part int

const (
	noPart part = iota
	onCores
	onDisk // and on the cores
)

func (w *world) rows(ctx context.Context) []row {
	shell := func(script string) func() (cost, error) {
		return func() (cost, error) {
			_, c, err := measure(exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", script, "bash", w.url+"packed.zst", w.target, w.packed, w.raw))
			return c, err
		}
	}
	return []row{
		{"trident, with reading back", "", noPart, func() (cost, error) { return w.ours(ctx) }},
		{"curl | tee >(sha384sum) | zstd | dd", "", noPart, shell(`curl -sf "$1" | tee >(sha384sum >/dev/null) | zstd -dcq | dd of="$2" conv=fsync,notrunc status=none`)},
		{"the same, dd bs=1M", "1.3", noPart, shell(`curl -sf "$1" | tee >(sha384sum >/dev/null) | zstd -dcq | dd of="$2" bs=1M iflag=fullblock conv=fsync,notrunc status=none`)},
		{"download: curl", "", onCores, shell(`curl -sf -o /dev/null "$1"`)},
		{"hash: sha384sum", "", onCores, shell(`sha384sum "$3" >/dev/null`)},
		{"unpack: zstd -dc", "", onCores, shell(`zstd -dcq "$3" >/dev/null`)},
		{"write: dd bs=1M conv=fsync", "", noPart, shell(`dd if="$4" of="$2" bs=1M conv=fsync,notrunc status=none`)},
		{"write: dd bs=4M oflag=direct", "", onDisk, shell(`dd if="$4" of="$2" bs=4M oflag=direct conv=fsync,notrunc status=none`)},
		{"read back: dd bs=4M iflag=direct", "", onDisk, shell(`dd if="$2" of=/dev/null bs=4M iflag=direct status=none`)},
	}
}

// measure runs a command and returns its output and its cost.
func measure(cmd *exec.Cmd) ([]byte, cost, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	before, err := busy()
	if err != nil {
		return nil, cost{}, err
	}
	begun := time.Now()
	out, err := cmd.Output()
	if err != nil {
		return nil, cost{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	took := time.Since(begun).Seconds()
	after, err := busy()
	return out, cost{took, after - before}, err
}

// busy returns for how many seconds the processors have worked since the machine started
// (/proc/stat, proc_stat(5)), without the times idle and iowait, and without those of guests,
// which are part of the time user.
func busy() (float64, error) {
	const perSecond = 100 // ticks; USER_HZ of every architecture of ours
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var user, nice, system, idle, iowait, irq, softirq, steal int64
	if _, err := fmt.Sscanf(string(text), "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		return 0, fmt.Errorf("/proc/stat: %w", err)
	}
	return float64(user+nice+system+irq+softirq) / perSecond, nil
}

func (w *world) ours(ctx context.Context) (cost, error) {
	self, err := os.Executable()
	if err != nil {
		return cost{}, err
	}
	out, c, err := measure(exec.CommandContext(ctx, self, "-deploy", w.url+"image.cosi", w.target))
	if err != nil {
		return cost{}, err
	}
	var peak int64
	if _, err := fmt.Sscan(string(out), &c.seconds, &peak); err != nil {
		return cost{}, err
	}
	w.peak = max(w.peak, peak<<10)
	return c, nil
}

// print shows by how much ours is faster, and the bound.
func (w *world) print(rows []row, took [][]cost) {
	median := func(t []cost) cost {
		slices.SortFunc(t, func(a, b cost) int { return cmp.Compare(a.seconds, b.seconds) })
		return t[len(t)/2]
	}
	ours := median(took[0]).seconds
	fmt.Printf("%-38s %9s %9s %12s %9s   %s\n", "", "seconds", "cpu", "unpacked/s", "ours is", "expected")
	var cpu, disk float64
	for i, r := range rows {
		t := median(took[i])
		if r.part == onDisk {
			disk += t.seconds
		}
		if r.part != noPart {
			cpu += t.cpu
		}
		expected := ""
		if r.expected != "" {
			expected = "at least " + r.expected + "x as fast, on 2 cores"
		}
		fmt.Printf("%-38s %8.2fs %8.2fs %8.0f MiB %8.2fx   %s\n", r.name, t.seconds, t.cpu, float64(w.size>>20)/t.seconds, t.seconds/ours, expected)
	}
	if len(rows) > 1 {
		cores := runtime.NumCPU()
		cpu /= float64(cores)
		fmt.Printf("%-38s %8.2fs\n", fmt.Sprintf("all stages on %d cores", cores), cpu)
		fmt.Printf("%-38s %8.2fs\n", "the disk, writing and reading", disk)
		fmt.Printf("%-38s %8.2fs %31.2fx   at least 0.9x as fast, on 2 cores\n", "the bound", max(cpu, disk), max(cpu, disk)/ours)
	}
	fmt.Printf("%-38s %8.0f MiB\n", "trident: peak memory (VmHWM)", float64(w.peak)/(1<<20))
}

// compare looks whether the target has what it should.
func (w *world) compare() error {
	if out, err := exec.Command("cmp", "-n", strconv.FormatInt(w.size, 10), w.raw, w.target).CombinedOutput(); err != nil {
		return fmt.Errorf("compare: %w: %s", err, out)
	}
	return nil
}
