package network

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// A Protocol is the protocol of a socket.
type Protocol int

// The protocols.
const (
	TCP Protocol = iota + 1
	UDP
	Unix
)

// The states of sockets that callers need by name (include/net/tcp_states.h).
const (
	StateEstablished = 1
	stateSynReceived = 3
	StateListen      = 10
	StateClosing     = 11
	stateNewRequest  = 12 // a connection request, shown as stateSynReceived
)

// A Socket is one socket.
type Socket struct {
	Protocol                Protocol
	IPv6                    bool
	State                   uint8 // 1 to 11, as in include/net/tcp_states.h
	Local, Remote           string
	LocalPort, RemotePort   uint16
	ReceiveQueue, SendQueue uint32
	UID                     uint32
	Inode                   uint64
}

// A Filter restricts the sockets of an answer. Empty fields restrict nothing.
type Filter struct {
	Protocols []Protocol
	States    []uint8
}

func (f Filter) has(p Protocol) bool { return len(f.Protocols) == 0 || slices.Contains(f.Protocols, p) }

// mask returns the states as the kernel takes them.
func (f Filter) mask() uint32 {
	if len(f.States) == 0 {
		return ^uint32(0)
	}
	mask := uint32(0)
	for _, s := range f.States {
		mask |= 1 << (s & 31)
		if s == stateSynReceived {
			mask |= 1 << stateNewRequest
		}
	}
	return mask
}

// sockDiag is SOCK_DIAG_BY_FAMILY of include/uapi/linux/sock_diag.h.
const sockDiag = 20

// Sockets calls yield for each socket, as the kernel lists them: it holds no list of its own.
// It stops at an error of yield. The error is of kind Unsupported if the kernel does not have
// sock_diag(7) for a protocol.
func Sockets(ctx context.Context, f Filter, yield func(Socket) error) error {
	for _, p := range []struct {
		protocol Protocol
		name     string
		family   uint8
		number   uint8
	}{
		{TCP, "TCP over IPv4", unix.AF_INET, unix.IPPROTO_TCP}, {TCP, "TCP over IPv6", unix.AF_INET6, unix.IPPROTO_TCP},
		{UDP, "UDP over IPv4", unix.AF_INET, unix.IPPROTO_UDP}, {UDP, "UDP over IPv6", unix.AF_INET6, unix.IPPROTO_UDP},
		{Unix, "unix", unix.AF_UNIX, 0},
	} {
		if !f.has(p.protocol) {
			continue
		}
		request, parse := inetRequest(p.family, p.number, f.mask()), parseInet
		if p.protocol == Unix {
			request, parse = unixRequest(f.mask()), parseUnix
		}
		err := dump(ctx, unix.NETLINK_SOCK_DIAG, sockDiag, request, func(_ uint16, body []byte) error {
			s, ok := parse(body)
			if !ok {
				return errMalformed("a socket")
			}
			s.Protocol, s.IPv6 = p.protocol, p.family == unix.AF_INET6
			return yield(s)
		})
		// A kernel without IPv6 does not have these sockets.
		if p.family == unix.AF_INET6 && errkind.Of(err) == errkind.Unsupported {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the %s sockets: %w", p.name, err)
		}
	}
	return nil
}

// inetRequest is a struct inet_diag_req_v2 (include/uapi/linux/inet_diag.h) for all sockets.
func inetRequest(family, protocol uint8, states uint32) []byte {
	out := make([]byte, 56)
	out[0], out[1] = family, protocol
	binary.NativeEndian.PutUint32(out[4:], states)
	return out
}

// inetSize is the size of a struct inet_diag_msg without attributes.
const inetSize = 72

func parseInet(body []byte) (s Socket, ok bool) {
	if len(body) < inetSize {
		return s, false
	}
	s.State = stateOf(body[1])
	s.LocalPort, s.RemotePort = binary.BigEndian.Uint16(body[4:]), binary.BigEndian.Uint16(body[6:])
	device := binary.NativeEndian.Uint32(body[40:])
	s.Local, s.Remote = address(body[0], body[8:24], device), address(body[0], body[24:40], device)
	s.ReceiveQueue, s.SendQueue = binary.NativeEndian.Uint32(body[56:]), binary.NativeEndian.Uint32(body[60:])
	s.UID, s.Inode = binary.NativeEndian.Uint32(body[64:]), uint64(binary.NativeEndian.Uint32(body[68:]))
	return s, true
}

// stateOf returns the state for callers: 1 to 11, and 0 for one that is not known.
func stateOf(kernel uint8) uint8 {
	switch {
	case kernel == stateNewRequest:
		return stateSynReceived
	case kernel > StateClosing:
		return 0
	}
	return kernel
}

// address returns an address of 4 or 16 bytes as a text. An address of the link has the index
// of its device.
func address(family uint8, raw []byte, device uint32) string {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(raw[:4])).String()
	}
	a := netip.AddrFrom16([16]byte(raw[:16]))
	if a.IsLinkLocalUnicast() && device != 0 {
		a = a.WithZone(strconv.FormatUint(uint64(device), 10))
	}
	return a.String()
}

// What a unix_diag_req asks for, and the attributes of the answer
// (include/uapi/linux/unix_diag.h).
const (
	showName   = 0x01
	showQueues = 0x10

	attributeName   = 0
	attributeQueues = 4
)

func unixRequest(states uint32) []byte {
	out := make([]byte, 24)
	out[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(out[4:], states)
	binary.NativeEndian.PutUint32(out[12:], showName|showQueues)
	return out
}

// unixSize is the size of a struct unix_diag_msg without attributes.
const unixSize = 16

func parseUnix(body []byte) (s Socket, ok bool) {
	if len(body) < unixSize {
		return s, false
	}
	s.State, s.Inode = stateOf(body[2]), uint64(binary.NativeEndian.Uint32(body[4:]))
	attributes(body[unixSize:], func(kind uint16, value []byte) {
		switch kind {
		case attributeName:
			s.Local = unixName(value)
		case attributeQueues:
			if len(value) >= 8 {
				s.ReceiveQueue, s.SendQueue = number(value), number(value[4:])
			}
		}
	})
	return s, true
}

// unixName returns the path of a unix socket, or "@" and its abstract name.
func unixName(value []byte) string {
	if len(value) > 0 && value[0] == 0 {
		return "@" + strings.ReplaceAll(string(value[1:]), "\x00", "@")
	}
	return text(value)
}
