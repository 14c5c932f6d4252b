package capture

import (
	"bufio"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxParents = 6
	maxOpen    = 8192    // files of a process
	maxTable   = 8 << 20 // bytes of a table of sockets
)

// connections are TCP connections, by the ports of both ends.
type connections struct {
	listening map[uint16]bool
	open      map[[2]uint16]bool // port of this host, port of the other end
}

// ownConnections returns the TCP connections of a process and of its parents, except those of
// process 1. A process that ends meanwhile has none.
func ownConnections(proc string, pid int) connections {
	c := connections{listening: map[uint16]bool{}, open: map[[2]uint16]bool{}}
	for range maxParents {
		if pid <= 1 {
			break
		}
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if inodes := socketsOf(filepath.Join(dir, "fd")); len(inodes) > 0 {
			for _, table := range []string{"net/tcp", "net/tcp6"} {
				c.add(filepath.Join(dir, table), inodes)
			}
		}
		pid = parentOf(filepath.Join(dir, "stat"))
	}
	return c
}

// socketsOf returns the inodes of the sockets that a process has open.
func socketsOf(dir string) map[string]bool {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxOpen)
	out := map[string]bool{}
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(dir, name))
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			out[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return out
}

// parentOf returns the parent of a process, or 0 (proc_pid_stat(5)).
func parentOf(stat string) int {
	text, err := os.ReadFile(stat)
	if err != nil {
		return 0
	}
	// The name of the program is in parentheses, and may have some itself.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	pid, _ := strconv.Atoi(fields[1])
	return pid
}

// add adds the connections of a table that have one of the inodes (proc_pid_net(5)).
func (c connections) add(table string, inodes map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer f.Close()
	const listens = "0A"
	for lines := bufio.NewScanner(io.LimitReader(f, maxTable)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || !inodes[fields[9]] {
			continue
		}
		local, other := portOf(fields[1]), portOf(fields[2])
		if fields[3] == listens {
			c.listening[local] = true
		} else {
			c.open[[2]uint16{local, other}] = true
		}
	}
}

func portOf(address string) uint16 {
	_, text, _ := strings.Cut(address, ":")
	port, _ := strconv.ParseUint(text, 16, 16)
	return uint16(port)
}

// has reports whether a packet is of one of the connections, in either direction.
func (c connections) has(packet []byte, link uint32) bool {
	source, target, ok := tcpPorts(packet, link)
	return ok && (c.listening[source] || c.listening[target] || c.open[[2]uint16{source, target}] || c.open[[2]uint16{target, source}])
}

// tcpPorts returns the ports of a TCP packet (RFC 791, RFC 8200, RFC 9293, IEEE 802.1Q).
func tcpPorts(p []byte, link uint32) (source, target uint16, ok bool) {
	var kind uint16
	if link == linkEthernet {
		if len(p) < 14 {
			return 0, 0, false
		}
		kind, p = binary.BigEndian.Uint16(p[12:]), p[14:]
		for range 2 { // tags of VLANs
			if (kind == unix.ETH_P_8021Q || kind == unix.ETH_P_8021AD) && len(p) >= 4 {
				kind, p = binary.BigEndian.Uint16(p[2:]), p[4:]
			}
		}
	} else if len(p) > 0 {
		kind = map[byte]uint16{4: unix.ETH_P_IP, 6: unix.ETH_P_IPV6}[p[0]>>4]
	}
	switch {
	case kind == unix.ETH_P_IP && len(p) >= 20:
		head := int(p[0]&15) * 4
		isLater := binary.BigEndian.Uint16(p[6:])&0x1fff != 0 // a later fragment has no ports
		if p[9] != unix.IPPROTO_TCP || isLater || head < 20 || len(p) < head+4 {
			return 0, 0, false
		}
		p = p[head:]
	case kind == unix.ETH_P_IPV6 && len(p) >= 44 && p[6] == unix.IPPROTO_TCP:
		p = p[40:]
	default:
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), true
}
