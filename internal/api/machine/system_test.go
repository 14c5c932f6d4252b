package machine

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/machine/system"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// stream keeps the messages that a method sends.
type stream[T any] struct {
	grpc.ServerStream
	ctx context.Context
	all []*T
}

func (s *stream[T]) Context() context.Context { return s.ctx }

func (s *stream[T]) Send(m *T) error {
	s.all = append(s.all, m)
	return nil
}

// Every field of GetMemoryResponse is filled from a field of /proc/meminfo.
func TestEveryFieldOfTheMemoryHasASource(t *testing.T) {
	names := memoryNames(t)
	m := system.Memory{}
	for i, name := range names {
		m[name] = uint64(i + 1)
	}
	got := memoryToWire(m).ProtoReflect()
	fields := got.Descriptor().Fields()
	seen := map[uint64]string{}
	for i := range fields.Len() {
		f := fields.Get(i)
		n := got.Get(f).Uint()
		if !got.Has(f) || n == 0 {
			t.Errorf("%s is empty", f.Name())
		} else if other := seen[n]; other != "" {
			t.Errorf("%s and %s are the same", f.Name(), other)
		}
		seen[n] = string(f.Name())
	}
	if len(names) != fields.Len() {
		t.Errorf("%d names for %d fields", len(names), fields.Len())
	}
	if size := proto.Size(memoryToWire(nil)); size != 0 {
		t.Errorf("a kernel without fields gives %d bytes", size)
	}
}

// memoryNames returns the names that memory.go reads.
func memoryNames(t *testing.T) (names []string) {
	t.Helper()
	source, err := os.ReadFile("memory.go")
	if err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(string(source), `of("`) {
		if name, _, ok := strings.Cut(part, `"),`); ok {
			names = append(names, name)
		}
	}
	return names
}

func TestCallsAnswerAboutTheRunningSystem(t *testing.T) {
	s := NewSystem("/")
	ctx := t.Context()
	for name, call := range map[string]func() (proto.Message, error){
		"GetVersion": func() (proto.Message, error) { return s.GetVersion(ctx, nil) },
		"GetUptime":  func() (proto.Message, error) { return s.GetUptime(ctx, nil) },
		"GetLoad":    func() (proto.Message, error) { return s.GetLoad(ctx, nil) },
		"GetMemory":  func() (proto.Message, error) { return s.GetMemory(ctx, nil) },
		"GetCpus":    func() (proto.Message, error) { return s.GetCpus(ctx, nil) },
		"GetStat":    func() (proto.Message, error) { return s.GetStat(ctx, nil) },
		"ListDisks":  func() (proto.Message, error) { return s.ListDisks(ctx, nil) },
		"ListMounts": func() (proto.Message, error) { return s.ListMounts(ctx, nil) },
		"ListNetworkDevices": func() (proto.Message, error) {
			return s.ListNetworkDevices(ctx, nil)
		},
	} {
		got, err := call()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := proto.Marshal(got); err != nil { // texts that are not UTF-8
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProcessesComeInPagesAndWithoutArguments(t *testing.T) {
	self := int32(os.Getpid())
	out := &stream[machinev1.ListProcessesResponse]{ctx: t.Context()}
	pids := slices.Repeat([]int32{self}, 2*pageSize)
	if err := NewSystem("/").ListProcesses(&machinev1.ListProcessesRequest{Pids: pids}, out); err != nil {
		t.Fatal(err)
	}
	if len(out.all) != 2 || len(out.all[1].GetProcesses()) != pageSize || out.all[0].GetProcesses()[0].GetPid() != self {
		t.Errorf("%d pages", len(out.all))
	}
	for f := range fieldsOf(&machinev1.Process{}) {
		if f.IsList() || strings.Contains(string(f.Name()), "arg") {
			t.Errorf("the right read shows %s", f.Name())
		}
	}
	args, err := NewSystem("/").GetArguments(t.Context(), &machinev1.GetArgumentsRequest{Pids: []int32{self}})
	if err != nil || len(args.GetProcesses()) != 1 || args.GetProcesses()[0].GetArguments()[0] != os.Args[0] {
		t.Errorf("%v, %v", args, err)
	}
}

func fieldsOf(m proto.Message) func(func(protoreflect.FieldDescriptor) bool) {
	fields := m.ProtoReflect().Descriptor().Fields()
	return func(yield func(protoreflect.FieldDescriptor) bool) {
		for i := range fields.Len() {
			if !yield(fields.Get(i)) {
				return
			}
		}
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	s := NewSystem("/")
	processes := func(pids ...int32) error {
		return s.ListProcesses(&machinev1.ListProcessesRequest{Pids: pids}, &stream[machinev1.ListProcessesResponse]{ctx: t.Context()})
	}
	sockets := func(req *machinev1.ListSocketsRequest) error {
		return s.ListSockets(req, &stream[machinev1.ListSocketsResponse]{ctx: t.Context()})
	}
	arguments := func(pids ...int32) error {
		_, err := s.GetArguments(t.Context(), &machinev1.GetArgumentsRequest{Pids: pids})
		return err
	}
	for name, tt := range map[string]struct {
		err   error
		field string
	}{
		"a negative process":   {processes(1, -1), "pids[1]"},
		"too many processes":   {processes(make([]int32, maxPIDs+1)...), "pids"},
		"no process":           {arguments(), "pids"},
		"process 0":            {arguments(0), "pids[0]"},
		"an unknown protocol":  {sockets(&machinev1.ListSocketsRequest{Protocols: []machinev1.SocketProtocol{9}}), "protocols[0]"},
		"an unspecified state": {sockets(&machinev1.ListSocketsRequest{States: []machinev1.SocketState{1, 0}}), "states[1]"},
		"an unknown state":     {sockets(&machinev1.ListSocketsRequest{States: []machinev1.SocketState{300}}), "states[0]"},
	} {
		if errkind.Of(tt.err) != errkind.Invalid || errkind.Field(tt.err) != tt.field {
			t.Errorf("%s: %v, field %q", name, tt.err, errkind.Field(tt.err))
		}
	}
}

// flow blocks a sender until it is released, as a caller that does not read.
type flow struct {
	stream[machinev1.ListSocketsResponse]
	sending chan struct{}
	release chan struct{}
}

func (f *flow) Send(*machinev1.ListSocketsResponse) error {
	f.sending <- struct{}{}
	<-f.release
	return nil
}

func TestCallersThatDoNotReadHoldUpNobodyForever(t *testing.T) {
	s := NewSystem("/")
	req := &machinev1.ListSocketsRequest{WithProcesses: true}
	slow := &flow{stream[machinev1.ListSocketsResponse]{ctx: t.Context()}, make(chan struct{}, 100), make(chan struct{})}
	ended := make(chan error, maxOwners)
	for range maxOwners {
		go func() { ended <- s.ListSockets(req, slow) }()
		select {
		case <-slow.sending:
		case err := <-ended:
			t.Skip(err) // a kernel without sock_diag
		}
	}
	other := &stream[machinev1.ListSocketsResponse]{ctx: t.Context()}
	if err := s.ListSockets(req, other); errkind.Of(err) != errkind.Unavailable || errkind.Hint(err) == "" {
		t.Error(err)
	}
	if err := s.ListSockets(&machinev1.ListSocketsRequest{}, other); err != nil {
		t.Error(err)
	}
	close(slow.release)
	for range maxOwners {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := s.ListSockets(req, other); err != nil {
		t.Error(err)
	}
}

func TestNamesThatAreNotUTF8AreShown(t *testing.T) {
	p := processToWire(system.Process{Command: "a\xff", Executable: "/x\xfe"})
	if _, err := proto.Marshal(p); err != nil || p.GetCommand() != "a\uFFFD" {
		t.Errorf("%q, %v", p.GetCommand(), err)
	}
}
