// Command gateway measures what the gateway costs, side by side with the bare socket of
// tridentd.
//
//	make build && go run ./internal/e2e/bench/gateway -bin dist
//
// It runs tridentd and trident-gateway with a folder as the host, as root, and prints the
// median time of a call, the throughput of an upload, the processor time that the gateway spends
// on both, the memory of 1,000 idle connections, and the memory of an idle gateway compared with
// the smallest TLS gRPC server. The rounds of both ways alternate, because other work on the
// machine disturbs both alike. On a machine that does other work compare the processor times.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"

	"github.com/trident-project/trident/proto/client"
)

type bench struct {
	bin, dir string
	address  string // of the gateway
	calls    int
	size     int64
	rounds   int
	only     string
	tls      *tls.Config
	programs []*exec.Cmd
}

func main() {
	b := &bench{}
	flag.StringVar(&b.bin, "bin", "dist", "the folder of the programs")
	flag.IntVar(&b.calls, "calls", 400, "calls of a round")
	flag.Int64Var(&b.size, "size", 128<<20, "bytes of an upload")
	flag.IntVar(&b.rounds, "rounds", 7, "how often each is measured")
	flag.StringVar(&b.only, "only", "", "measure this alone: memory, calls or upload")
	flag.Parse()
	err := run(b)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(b *bench) error {
	dir, err := os.MkdirTemp("", "bench-gateway-")
	if err != nil {
		return err
	}
	b.dir = dir
	defer os.RemoveAll(dir)
	defer b.stop()
	if err := b.start(); err != nil {
		return err
	}
	var errs []error
	for _, m := range []struct {
		name string
		run  func() error
	}{{"memory", b.memory}, {"calls", b.latency}, {"upload", b.upload}} {
		if b.only == "" || b.only == m.name {
			errs = append(errs, m.run())
		}
	}
	return errors.Join(errs...)
}

// start makes the host and starts the programs.
func (b *bench) start() error {
	etc := filepath.Join(b.dir, "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.address = free.Addr().String()
	if err := free.Close(); err != nil {
		return err
	}
	user := fmt.Sprintf("trident-gateway:x:%d:%d::/:/bin/false\n", os.Geteuid(), os.Getegid())
	if err := os.WriteFile(filepath.Join(etc, "passwd"), []byte(user), 0o644); err != nil {
		return err
	}
	if out, err := exec.Command(filepath.Join(b.bin, "trident-gateway"), "setup", "--root", b.dir, "--name", "localhost").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	keys := filepath.Join(etc, "trident/gateway")
	settings := fmt.Sprintf(`listen: [%q]
socket: %s/run/trident/gateway.sock
tls: {certificate: %[3]s/server.crt, key: %[3]s/server.key, clientCA: %[3]s/ca.crt}
tokens: %[3]s/tokens.json
audit: {file: %[2]s/audit.log}
limits: {perIdentity: {callsPerSecond: 1000000, connections: 2000}}
rights: [{identity: "uri:trident://admin", rights: [admin]}]
`, b.address, b.dir, keys)
	file := filepath.Join(b.dir, "serve.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil {
		return err
	}
	if err := b.program("tridentd", "--root", b.dir, "--idle-timeout", "0"); err != nil {
		return err
	}
	if err := waitFor(func() bool { _, err := os.Stat(filepath.Join(b.dir, "run/trident/gateway.sock")); return err == nil }); err != nil {
		return err
	}
	if err := b.program("trident-gateway", "serve", "-c", file, "--wake-file", ""); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(keys, "clients/admin.crt"), filepath.Join(keys, "clients/admin.key"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(filepath.Join(keys, "ca.crt"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	b.tls = &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, ServerName: "localhost", NextProtos: []string{"h2"}}
	return waitFor(func() bool { c, err := net.Dial("tcp", b.address); return err == nil && c.Close() == nil })
}

func (b *bench) program(name string, args ...string) error {
	cmd := exec.Command(filepath.Join(b.bin, name), args...)
	cmd.Env = append(os.Environ(), "GODEBUG=disablethp=1") // as its unit has
	log, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		return err
	}
	cmd.Stderr = log
	b.programs = append(b.programs, cmd)
	return cmd.Start()
}

func (b *bench) stop() {
	for _, p := range slices.Backward(b.programs) {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
}

func waitFor(isTrue func() bool) error {
	for range 1000 {
		if isTrue() {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("a program did not start within 20 s")
}

// both returns a client of the bare socket, and one of the gateway.
func (b *bench) both() (ways map[string]*client.Client, err error) {
	bare, err := client.Dial(filepath.Join(b.dir, "run/trident/trident.sock"))
	if err != nil {
		return nil, err
	}
	over, err := client.Dial("tls://"+b.address, client.WithTLS(b.tls))
	return map[string]*client.Client{"socket": bare, "gateway": over}, err
}

func (b *bench) latency() error {
	ways, err := b.both()
	if err != nil {
		return err
	}
	medians := map[string][]float64{}
	before := cpu(b.programs[1].Process.Pid)
	for range b.rounds {
		for name, c := range ways {
			var took []float64
			for range b.calls {
				begin := time.Now()
				if _, err := c.Version(context.Background()); err != nil {
					return err
				}
				took = append(took, time.Since(begin).Seconds()*1000)
			}
			medians[name] = append(medians[name], median(took))
		}
	}
	socket, gateway := median(medians["socket"]), median(medians["gateway"])
	fmt.Printf("call, median: socket %.3f ms, gateway %.3f ms, one more hop %.3f ms (bar 0.3)\n", socket, gateway, gateway-socket)
	spent := cpu(b.programs[1].Process.Pid) - before
	fmt.Printf("call: the gateway spends %.3f ms of processor time\n", spent.Seconds()*1000/float64(b.rounds*b.calls))
	return nil
}

// upload measures how long it takes until tridentd refuses an upload of random bytes, which
// it does after the last byte.
func (b *bench) upload() error {
	ways, err := b.both()
	if err != nil {
		return err
	}
	rates := map[string][]float64{}
	before := cpu(b.programs[1].Process.Pid)
	for range b.rounds {
		for name, c := range ways {
			begin := time.Now()
			source := client.Source{Upload: io.LimitReader(rand.NewChaCha8([32]byte{}), b.size), Size: b.size}
			if _, err := c.Stage(context.Background(), source, false, nil); err == nil {
				return errors.New("tridentd has accepted random bytes")
			} else if !strings.Contains(err.Error(), "image") {
				return err
			}
			rates[name] = append(rates[name], float64(b.size)/(1<<20)/time.Since(begin).Seconds())
		}
	}
	socket, gateway := median(rates["socket"]), median(rates["gateway"])
	fmt.Printf("upload of %d MiB: socket %.0f MiB/s, gateway %.0f MiB/s, loss %.1f %% (bar 15)\n", b.size>>20, socket, gateway, 100*(1-gateway/socket))
	spent := cpu(b.programs[1].Process.Pid) - before
	fmt.Printf("upload: the gateway spends %.3f ms of processor time for each MiB\n", spent.Seconds()*1000/float64(int64(b.rounds)*b.size>>20))
	return nil
}

// memory measures an idle gateway, the smallest server, and 1,000 idle connections.
func (b *bench) memory() error {
	program := filepath.Join(b.dir, "floor")
	if out, err := exec.Command("go", "build", "-o", program, "./internal/e2e/bench/gateway/floor").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	least := exec.Command(program, filepath.Join(b.dir, "etc/trident/gateway"))
	least.Env, least.Stderr = append(os.Environ(), "GODEBUG=disablethp=1"), os.Stderr
	if err := least.Start(); err != nil {
		return err
	}
	b.programs = append(b.programs, least)
	time.Sleep(2 * time.Second) // until both are idle
	gateway := b.programs[1].Process.Pid
	idle, floor := rss(gateway), rss(least.Process.Pid)
	fmt.Printf("idle: gateway %.1f MiB, smallest TLS gRPC server %.1f MiB, ratio %.2f (bar 1.5)\n", idle, floor, idle/floor)
	var conns []*grpc.ClientConn
	for range 1000 {
		conn, err := grpc.NewClient("passthrough:///"+b.address, grpc.WithTransportCredentials(credentials.NewTLS(b.tls)), grpc.WithIdleTimeout(0))
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		conn.Connect()
		for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			ok := conn.WaitForStateChange(ctx, state)
			cancel()
			if !ok {
				return fmt.Errorf("connection %d stays %s", len(conns), state)
			}
		}
	}
	time.Sleep(6 * time.Second) // until the gateway has trimmed its memory
	full := rss(gateway)
	fmt.Printf("1,000 idle connections: %.1f MiB in all, %.1f MiB more than idle (bar 40)\n", full, full-idle)
	for _, conn := range conns {
		_ = conn.Close()
	}
	return nil
}

// rss returns the resident memory of a process in MiB.
func rss(pid int) float64 {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

// cpu returns the processor time of a process so far, in steps of 10 ms (proc_pid_stat(5)).
func cpu(pid int) time.Duration {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
