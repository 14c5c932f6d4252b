// Command foreign drives every method of Trident's API against a daemon, as a
// client that somebody else wrote, and says how each answered:
//
//	go run . -socket /run/trident/trident.sock
//
// The tables of upstream.go and own.go have the expected answer of each method. The
// command exits with 1 if a method gave another answer, if the stubs have a method
// that the tables lack, or if the tables have a method that the stubs lack.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

//go:generate go run ./generate ../../../proto/testdata/wire.txt stubs

// callTime bounds one call.
const callTime = 2 * time.Minute

// A call is a method with a request, and the answer to it.
type call struct {
	method string
	do     func(context.Context) (answer string, err error)
	want   string
	// host is the answer of a host with systemd, where it is another one.
	host string
	// endsHost calls are not made to a host with systemd: they would end it.
	endsHost bool
}

func main() {
	socket := flag.String("socket", "/run/trident/trident.sock", "where the daemon listens (`path`)")
	config := flag.String("config", "", "the daemon is that of a host that was never serviced, to be updated by this `file`; not that of an empty folder")
	flag.Parse()
	if err := run(*socket, *config); err != nil {
		fmt.Fprintln(os.Stderr, "foreign:", err)
		os.Exit(1)
	}
}

const zeros = "00000000000000000000000000000000" // 32

// nowhere is a Host Configuration with an image that is not there.
const nowhere = "os:\n  sysexts:\n  - url: file:///nowhere.raw\n    sha384: " + zeros + zeros + zeros + "\n"

func run(socket, file string) error {
	config := nowhere
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		config = string(data)
	}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true))) // the daemon may be starting
	if err != nil {
		return err
	}
	defer conn.Close()
	calls := append(upstream(conn, config), own(conn)...)
	faults := 0
	for _, c := range calls {
		if file != "" && c.endsHost {
			continue
		}
		want := c.want
		if file != "" && c.host != "" {
			want = c.host
		}
		got := c.answer()
		fmt.Printf("%-62s %s\n", c.method, got)
		if got != want {
			fmt.Printf("%-62s %s\n", "  wanted", want)
			faults++
		}
	}
	called := methodsOf(calls)
	for _, m := range methods() {
		if !slices.Contains(called, m) {
			fmt.Printf("%-62s is in the stubs, and no line calls it\n", m)
			faults++
		}
	}
	for _, m := range called {
		if !slices.Contains(methods(), m) {
			fmt.Printf("%-62s is called, and not in the stubs\n", m)
			faults++
		}
	}
	if faults > 0 {
		return fmt.Errorf("%d faults", faults)
	}
	return nil
}

func (c call) answer() string {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	answer, err := c.do(ctx)
	if err != nil {
		return refusal(err)
	}
	return answer
}

func methodsOf(calls []call) []string {
	var out []string
	for _, c := range calls {
		out = append(out, c.method)
	}
	return out
}

// methods lists those of the stubs.
func methods() []string {
	var out []string
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			for j := range service.Methods().Len() {
				out = append(out, string(service.FullName())+"/"+string(service.Methods().Get(j).Name()))
			}
		}
		return true
	})
	slices.Sort(out)
	return out
}
