// Package network reads the network devices and the sockets of the network namespace of this
// process from the kernel, by netlink(7): rtnetlink(7) and sock_diag(7). The files below
// /proc/net have the same content, and are slow on hosts with many sockets.
package network

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	headerSize = unix.NLMSG_HDRLEN
	// largestPart is the size of the buffer for a part of an answer. The kernel fills at
	// most 32 KiB (NLMSG_GOODSIZE and netlink_recvmsg in net/netlink/af_netlink.c).
	largestPart = 64 << 10
	// answerTime is the longest time that the kernel may take for a part of an answer.
	answerTime = 10 * time.Second
)

// errFamily is the error of a kernel that does not know the protocol or family of a request.
var errFamily = errors.New("the kernel does not have it")

// dump sends a request for a list, and calls each with the type and the body of each message
// of the answer. It stops at an error of each. The body is only valid during the call.
func dump(ctx context.Context, protocol int, kind uint16, request []byte, each func(kind uint16, body []byte) error) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		return errkind.Errorf(errkind.Unsupported, "open netlink: %w", err)
	}
	if err != nil {
		return errkind.Errorf(errkind.Internal, "open netlink: %w", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(int64(answerTime))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return errkind.Errorf(errkind.Internal, "open netlink: %w", err)
	}
	if err := unix.Sendto(fd, message(kind, request), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return errkind.Errorf(errkind.Internal, "ask the kernel: %w", err)
	}
	buf := make([]byte, largestPart)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return errkind.Errorf(errkind.Timeout, "ask the kernel: no answer within %s", answerTime)
		case err != nil:
			return errkind.Errorf(errkind.Internal, "ask the kernel: %w", err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // not from the kernel
		}
		done, err := messages(buf[:n], each)
		if done || err != nil {
			return err
		}
	}
}

// message returns a request for a list.
func message(kind uint16, body []byte) []byte {
	out := make([]byte, headerSize, headerSize+len(body))
	binary.NativeEndian.PutUint32(out, uint32(headerSize+len(body))) //nolint:gosec // some 50 bytes
	binary.NativeEndian.PutUint16(out[4:], kind)
	binary.NativeEndian.PutUint16(out[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(out[8:], 1)
	return append(out, body...)
}

// messages calls each for the messages of one part, and reports whether it is the last part.
func messages(part []byte, each func(kind uint16, body []byte) error) (done bool, err error) {
	for len(part) > 0 {
		if len(part) < headerSize {
			return false, errMalformed("a message header")
		}
		size := int(binary.NativeEndian.Uint32(part))
		kind := binary.NativeEndian.Uint16(part[4:])
		if size < headerSize || size > len(part) {
			return false, errMalformed("a message length")
		}
		body := part[headerSize:size]
		part = part[min(len(part), aligned(size)):]
		switch kind {
		case unix.NLMSG_NOOP, unix.NLMSG_OVERRUN:
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			return true, resultOf(body)
		default:
			if err := each(kind, body); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// resultOf returns the error in the last message of an answer, nil for success.
func resultOf(body []byte) error {
	if len(body) < 4 {
		return nil
	}
	code := int32(binary.NativeEndian.Uint32(body)) //nolint:gosec // the kernel stores an int
	if code >= 0 {
		return nil
	}
	errno := unix.Errno(-code)
	if errno == unix.ENOENT || errno == unix.EOPNOTSUPP || errno == unix.EPROTONOSUPPORT || errno == unix.EINVAL {
		return errkind.Errorf(errkind.Unsupported, "ask the kernel: %w: %w", errFamily, errno)
	}
	return errkind.Errorf(errkind.Internal, "ask the kernel: %w", errno)
}

func errMalformed(what string) error {
	return errkind.Errorf(errkind.Unsupported, "read the answer of the kernel: %s has an unknown form", what)
}

// attributes calls each for the attributes in a body. It ignores what has an unknown form, as
// the kernel may add attributes.
func attributes(body []byte, each func(kind uint16, value []byte)) {
	const head = unix.SizeofRtAttr
	for len(body) >= head {
		size := int(binary.NativeEndian.Uint16(body))
		if size < head || size > len(body) {
			return
		}
		each(binary.NativeEndian.Uint16(body[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), body[head:size])
		body = body[min(len(body), aligned(size)):]
	}
}

// aligned rounds up to the alignment of messages and attributes.
func aligned(size int) int { return (size + 3) &^ 3 }

// number returns the number in an attribute, 0 if it is too short.
func number(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}
