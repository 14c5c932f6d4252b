package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// peerInfo identifies the other end of a connection, from the kernel.
type peerInfo struct {
	uid    uint32
	pid    int32
	isRoot bool // or the user of the daemon, which in tests need not be root
	isOwn  bool // the CLI or the rescuer, run by root
	// isGateway peers call for remote identities; see ListenForGateway.
	isGateway bool
	refusal   error // the error of all calls of a refused connection
	session   *session
}

func (peerInfo) AuthType() string { return "unix-peer" }

// isSelf reports whether the peer is this process.
func (p peerInfo) isSelf() bool { return int(p.pid) == os.Getpid() }

// peerOf reads SO_PEERCRED (unix(7)).
func peerOf(c *net.UnixConn) (peerInfo, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peerInfo{}, fmt.Errorf("read credentials of the peer: %w", err)
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, cerr); err != nil {
		return peerInfo{}, fmt.Errorf("read credentials of the peer: %w", err)
	}
	who := peerInfo{uid: cred.Uid, pid: cred.Pid, isRoot: cred.Uid == 0 || int(cred.Uid) == os.Geteuid()}
	who.isOwn = who.isRoot && isOwnProgram(cred.Pid)
	return who, nil
}

// isOwnProgram reports whether a process runs trident or trident-rescue, by the name of
// its program file. Any process of root could have that name: this decides only about
// free places.
func isOwnProgram(pid int32) bool {
	path, err := os.Readlink("/proc/" + strconv.Itoa(int(pid)) + "/exe")
	name := filepath.Base(strings.TrimSuffix(path, " (deleted)"))
	return err == nil && (name == "trident" || name == "trident-rescue")
}

// peerCredentials gives the peer of a connection to its calls. It refuses connections
// that no Listener has accepted.
type peerCredentials struct{}

func (peerCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*conn)
	if !ok {
		return nil, nil, fmt.Errorf("connection from %s: not from our unix socket", raw.RemoteAddr().Network())
	}
	c.onServed()
	who := c.peer
	who.session = c.session
	return c, who, nil
}

func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for a server")
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

func (peerCredentials) OverrideServerName(string) error { return nil }
