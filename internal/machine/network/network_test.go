package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

func TestTheLoopbackDeviceIsFound(t *testing.T) {
	all, err := Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	real, err := net.Interfaces()
	if err != nil || len(all) != len(real) {
		t.Errorf("%d devices, and the standard library finds %d: %v", len(all), len(real), err)
	}
	i := slices.IndexFunc(all, func(d Device) bool { return d.Loopback })
	if i < 0 || all[i].Name != "lo" || all[i].MTU == 0 || !slices.Contains(all[i].Prefixes, netip.MustParsePrefix("127.0.0.1/8")) {
		t.Errorf("%+v", all)
	}
}

// sockets returns those of this process by their inodes.
func sockets(t *testing.T, f Filter) map[uint64]Socket {
	t.Helper()
	out := map[uint64]Socket{}
	err := Sockets(t.Context(), f, func(s Socket) error { out[s.Inode] = s; return nil })
	if errkind.Of(err) == errkind.Unsupported {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inodeOf returns the inode of a socket.
func inodeOf(t *testing.T, c interface{ File() (*os.File, error) }) uint64 {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		t.Fatal(err)
	}
	return s.Ino
}

func TestSocketsOfEveryProtocolAreFoundWithTheirProcess(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	path := filepath.Join(t.TempDir(), "s")
	local, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	all := sockets(t, Filter{})
	owners, err := Owners(t.Context(), "/proc")
	if err != nil {
		t.Fatal(err)
	}
	port := func(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }
	for _, tt := range []struct {
		name  string
		inode uint64
		want  Socket
	}{
		{"tcp", inodeOf(t, tcp.(*net.TCPListener)), Socket{Protocol: TCP, State: StateListen, Local: "127.0.0.1", LocalPort: port(tcp.Addr()), Remote: "0.0.0.0"}},
		{"udp", inodeOf(t, udp.(*net.UDPConn)), Socket{Protocol: UDP, State: 7, Local: "127.0.0.1", LocalPort: port(udp.LocalAddr()), Remote: "0.0.0.0"}},
		{"unix", inodeOf(t, local.(*net.UnixListener)), Socket{Protocol: Unix, State: StateListen, Local: path}},
	} {
		tt.want.Inode = tt.inode
		got := all[tt.inode]
		if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(Socket{}, "UID", "SendQueue")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if o := owners[tt.inode]; o.PID != int32(os.Getpid()) || o.Command == "" {
			t.Errorf("%s belongs to %+v", tt.name, o)
		}
	}
	only := sockets(t, Filter{Protocols: []Protocol{TCP}, States: []uint8{StateEstablished}})
	if _, ok := only[inodeOf(t, tcp.(*net.TCPListener))]; ok {
		t.Error("a filter for connections has a listener")
	}
	for _, s := range only {
		if s.Protocol != TCP || s.State != StateEstablished {
			t.Errorf("%+v is not what the filter wants", s)
		}
	}
}

func TestAConnectionRequestIsOneThatWasReceived(t *testing.T) {
	if m := (Filter{States: []uint8{stateSynReceived}}).mask(); m != 1<<3|1<<12 {
		t.Errorf("%b", m)
	}
	if s := stateOf(stateNewRequest); s != stateSynReceived {
		t.Error(s)
	}
}

func TestAnswersOfTheKernelThatAreErrorsAreErrors(t *testing.T) {
	answer := func(code int32) []byte {
		out := message(unix.NLMSG_ERROR, make([]byte, 4))
		binary.NativeEndian.PutUint32(out[headerSize:], uint32(code))
		return out
	}
	nothing := func(uint16, []byte) error { return nil }
	for code, kind := range map[int32]errkind.Kind{-int32(unix.ENOENT): errkind.Unsupported, -int32(unix.EPERM): errkind.Internal} {
		done, err := messages(answer(code), nothing)
		if !done || errkind.Of(err) != kind {
			t.Errorf("%d: %v, %v", code, done, err)
		}
	}
	if done, err := messages(answer(0), nothing); !done || err != nil {
		t.Error(done, err)
	}
	for _, part := range [][]byte{{1}, make([]byte, headerSize), append(answer(0)[:headerSize:headerSize], 1)} {
		if _, err := messages(part, nothing); errkind.Of(err) != errkind.Unsupported {
			t.Errorf("%v: %v", part, err)
		}
	}
}

func TestOwnersOfAProcWithoutProcesses(t *testing.T) {
	if _, err := Owners(t.Context(), t.TempDir()+"/none"); errkind.Of(err) != errkind.Unsupported {
		t.Error(err)
	}
	if all, err := Owners(t.Context(), t.TempDir()); err != nil || len(all) != 0 {
		t.Error(all, err)
	}
}

// FuzzAnswer feeds the parsers of the answers of the kernel.
func FuzzAnswer(f *testing.F) {
	f.Add(message(unix.RTM_NEWLINK, append(make([]byte, unix.SizeofIfInfomsg), 6, 0, 3, 0, 'l', 'o', 0, 0)))
	f.Add(message(unix.RTM_NEWADDR, append(append(make([]byte, unix.SizeofIfAddrmsg), 8, 0, 1, 0), 127, 0, 0, 1)))
	f.Add(message(sockDiag, append([]byte{unix.AF_INET, 10}, make([]byte, inetSize-2)...)))
	f.Add(message(sockDiag, append([]byte{unix.AF_UNIX, 1, 10, 0}, append(make([]byte, 12), 7, 0, 0, 0, 0, 'a', 'b', 0)...)))
	f.Fuzz(func(t *testing.T, part []byte) {
		_, _ = messages(part, func(_ uint16, body []byte) error {
			parseDevice(body)
			parseAddress(body)
			for _, parse := range []func([]byte) (Socket, bool){parseInet, parseUnix} {
				if s, ok := parse(body); ok && s.State > StateClosing {
					t.Errorf("%+v", s)
				}
			}
			return nil
		})
	})
}

func BenchmarkSockets(b *testing.B) {
	for b.Loop() {
		if err := Sockets(b.Context(), Filter{}, func(Socket) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
