// Package capture records the packets of a network interface, for callers who may be on another
// machine.
//
// The packets that carry the recording to its caller must not be in it: each would make the
// next one. So the package leaves out the TCP connections of the process that made the call
// and of its parents (the gateway, or an SSH server above a client).
package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// Bounds of a recording.
const (
	maxSnap      = 256 << 10
	minSnap      = 64 // the headers by which a connection is recognised
	maxBytes     = 1 << 30
	defaultBytes = 16 << 20
	maxTime      = time.Hour
	defaultTime  = time.Minute
	maxCaptures  = 4
	piece        = 64 << 10
	maxName      = 15 // of an interface (IFNAMSIZ without its NUL)
)

// Query says what to record. Zero numbers are defaults.
type Query struct {
	Interface   string
	Promiscuous bool
	SnapLength  int32 // bytes of each packet
	Filter      []Instruction
	MaxBytes    int64
	MaxTime     time.Duration
	Caller      int // the process whose connections are left out; 0: none
}

// check completes q with the defaults.
func (q Query) check() (Query, error) {
	invalid := func(format string, args ...any) (Query, error) {
		return q, errkind.Errorf(errkind.Invalid, "capture packets: "+format, args...)
	}
	if q.Interface == "" || len(q.Interface) > maxName || strings.ContainsAny(q.Interface, "/ \t\n\x00") {
		return invalid("%.64q is not the name of a network interface", q.Interface)
	}
	if q.SnapLength == 0 {
		q.SnapLength = maxSnap
	}
	if q.SnapLength < minSnap || q.SnapLength > maxSnap {
		return invalid("snap_length is %d, it must be from %d to %d", q.SnapLength, minSnap, maxSnap)
	}
	if q.MaxBytes == 0 {
		q.MaxBytes = defaultBytes
	}
	if q.MaxBytes < 0 || q.MaxBytes > maxBytes {
		return invalid("max_bytes is %d, it must be from 0 to %d", q.MaxBytes, maxBytes)
	}
	if q.MaxTime == 0 {
		q.MaxTime = defaultTime
	}
	if q.MaxTime < 0 || q.MaxTime > maxTime {
		return invalid("max_time is %s, it must be from 0 to %s", q.MaxTime, maxTime)
	}
	if err := Check(q.Filter); err != nil {
		return invalid("check the filter: %w", err)
	}
	return q, nil
}

// Service records the packets of the host below the folder Root.
type Service struct {
	Root string

	mu      sync.Mutex
	running int
}

func (s *Service) begin() (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running >= maxCaptures {
		return nil, errkind.WithHint(errkind.Errorf(errkind.Unavailable, "capture packets: %d captures run already", maxCaptures), "end one of them, or try again later")
	}
	s.running++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
	}, nil
}

// Run gives a pcap file to send, in pieces of whole records that are valid until send returns,
// until a bound of q is reached or ctx ends. It returns how many packets the kernel has
// dropped because they were not taken in time.
func (s *Service) Run(ctx context.Context, q Query, send func([]byte) error) (dropped uint64, err error) {
	if q, err = q.check(); err != nil {
		return 0, err
	}
	end, err := s.begin()
	if err != nil {
		return 0, err
	}
	defer end()
	link, err := net.InterfaceByName(q.Interface)
	if err != nil {
		return 0, errkind.Errorf(errkind.NotFound, "capture packets: there is no network interface %s", q.Interface)
	}
	kind, err := s.linkType(q.Interface)
	if err != nil {
		return 0, err
	}
	own := connections{}
	if q.Caller > 0 {
		own = ownConnections(filepath.Join(s.Root, "proc"), q.Caller)
	}
	fd, err := listen(q, link.Index)
	if err != nil {
		return 0, fmt.Errorf("capture packets of %s: %w", q.Interface, err)
	}
	f := os.NewFile(uintptr(fd), q.Interface)
	defer f.Close()
	w := &pcap{send: send, most: q.MaxBytes, snap: int(q.SnapLength), link: kind}
	err = record(ctx, f, q, w, func(p []byte, from *unix.SockaddrLinklayer) bool {
		// The kernel shows a packet of the loopback twice: as it is sent, and as it arrives.
		isTwice := link.Flags&net.FlagLoopback != 0 && from != nil && from.Pkttype == unix.PACKET_OUTGOING
		return !isTwice && !own.has(p, kind)
	})
	if stats, serr := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); serr == nil {
		dropped = uint64(stats.Drops)
	}
	if err != nil {
		err = fmt.Errorf("capture packets of %s: %w", q.Interface, err)
	}
	return dropped, err
}

// linkType returns the type of the pcap file for an interface (draft-ietf-opsawg-pcaplinktype):
// Ethernet, or plain IP for an interface without headers.
func (s *Service) linkType(name string) (uint32, error) {
	text, err := os.ReadFile(filepath.Join(s.Root, "sys/class/net", name, "type"))
	if err != nil {
		return 0, fmt.Errorf("capture packets of %s: %w", name, err)
	}
	switch n, _ := strconv.Atoi(strings.TrimSpace(string(text))); n {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		return linkEthernet, nil
	case unix.ARPHRD_NONE, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_PPP:
		return linkRaw, nil
	default:
		return 0, errkind.Errorf(errkind.Unsupported, "capture packets of %s: its type %d is not supported", name, n)
	}
}

// listen opens a socket that gets the packets of an interface (packet(7)). It gets none before
// the filter is in place.
func listen(q Query, index int) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if len(q.Filter) > 0 {
		program := make([]unix.SockFilter, len(q.Filter))
		for i, in := range q.Filter {
			program[i] = unix.SockFilter{Code: uint16(in.Op), Jt: uint8(in.Jt), Jf: uint8(in.Jf), K: in.K}
		}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}); err != nil {
			return -1, errkind.Errorf(errkind.Invalid, "the kernel refuses the filter: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return -1, os.NewSyscallError("setsockopt", err)
	}
	if q.Promiscuous {
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}); err != nil {
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network byte order
	return fd, os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all & 0xffff), Ifindex: index}))
}

// errFull ends a recording at its bound of bytes.
var errFull = errors.New("the file is full")

// record writes the packets that wanted selects, until a bound or the end of ctx.
func record(ctx context.Context, f *os.File, q Query, w *pcap, wanted func([]byte, *unix.SockaddrLinklayer) bool) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if err := f.SetReadDeadline(time.Now().Add(q.MaxTime)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })()
	if err := w.begin(); err != nil {
		return err
	}
	buf, control := make([]byte, q.SnapLength), make([]byte, unix.CmsgSpace(16))
	for wait := true; ; {
		var n, oob int
		var from unix.Sockaddr
		var err error
		if cerr := conn.Read(func(fd uintptr) bool {
			n, oob, _, from, err = unix.Recvmsg(int(fd), buf, control, unix.MSG_TRUNC)
			return !wait || !errors.Is(err, unix.EAGAIN)
		}); cerr != nil {
			err = cerr
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return w.flush()
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN): // no more for now
			if err := w.flush(); err != nil {
				return err
			}
			wait = true
			continue
		case err != nil:
			return err
		}
		wait = false
		link, _ := from.(*unix.SockaddrLinklayer)
		packet := buf[:min(n, len(buf))]
		if !wanted(packet, link) {
			continue
		}
		if err := w.packet(timeOf(control[:oob]), packet, n); errors.Is(err, errFull) {
			return w.flush()
		} else if err != nil {
			return err
		}
	}
}
