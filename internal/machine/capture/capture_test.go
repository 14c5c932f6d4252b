package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

func TestABPFProgramIsChecked(t *testing.T) {
	ret := Instruction{Op: 0x06, K: 0xffff}
	for name, program := range map[string][]Instruction{
		"none": nil, "all": {ret}, "a constant": {{Op: 0x00, K: 1}, ret}, "udp": {{Op: 0x28, K: 12}, {Op: 0x15, Jf: 3, K: 0x800}, {Op: 0x30, K: 23}, {Op: 0x15, Jf: 1, K: 17}, ret, {Op: 0x06}},
		"the header length": {{Op: 0xb1, K: 14}, {Op: 0x48, K: 14}, ret}, "return A": {{Op: 0x16}}, "jump always": {{Op: 0x05, K: 0}, ret}, "by X": {{Op: 0x3c}, ret},
	} {
		if err := Check(program); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, program := range map[string][]Instruction{
		"too long": make([]Instruction, maxInstructions+1), "no return": {{Op: 0x00}}, "a jump out": {{Op: 0x15, Jt: 1}, ret}, "a far jump": {{Op: 0x05, K: 0xffffffff}, ret},
		"an unknown class": {{Op: 0xff}, ret}, "a large operation": {{Op: 0x106}}, "a large jump": {{Op: 0x15, Jt: 256}, ret}, "memory": {{Op: 0x60, K: 16}, ret}, "a store": {{Op: 0x02, K: 99}, ret},
		"division by 0": {{Op: 0x34}, ret}, "modulo 0": {{Op: 0x94}, ret}, "a shift": {{Op: 0x64, K: 32}, ret}, "an operation of extended BPF": {{Op: 0xb7}, ret}, "a call": {{Op: 0x85}, ret},
	} {
		if err := Check(program); errkind.Of(err) != errkind.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The kernel accepts what Check accepts.
func FuzzABPFProgram(f *testing.F) {
	for _, b := range [][]byte{{6, 0, 0, 0, 0, 0, 0, 1}, {0x28, 0, 0, 0, 0, 0, 0, 12, 6, 0, 0, 0, 0, 0, 0, 0}, {0x15, 0, 1, 1, 0, 0, 8, 0, 6, 0, 0, 0, 0, 0, 0, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var program []Instruction
		var filter []unix.SockFilter
		for ; len(text) >= 8 && len(program) < 64; text = text[8:] {
			in := Instruction{Op: uint32(text[0]), Jt: uint32(text[2]), Jf: uint32(text[3]), K: binary.BigEndian.Uint32(text[4:])}
			program, filter = append(program, in), append(filter, unix.SockFilter{Code: uint16(in.Op), Jt: text[2], Jf: text[3], K: in.K})
		}
		if Check(program) != nil || len(program) == 0 {
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Skip(err)
		}
		defer unix.Close(fd)
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
		// The kernel also refuses reads of memory that was not written, and unknown data beside
		// the packet: the call then fails with Invalid, too.
		if err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("%v: %v", program, err)
		}
	})
}

func TestAQueryThatCannotBeIsRefused(t *testing.T) {
	for name, q := range map[string]Query{
		"no interface": {}, "a path": {Interface: "../lo"}, "a long name": {Interface: strings.Repeat("x", 16)}, "a short packet": {Interface: "lo", SnapLength: 10},
		"a long packet": {Interface: "lo", SnapLength: 1 << 20}, "bytes": {Interface: "lo", MaxBytes: -1}, "many bytes": {Interface: "lo", MaxBytes: maxBytes + 1},
		"time": {Interface: "lo", MaxTime: -1}, "much time": {Interface: "lo", MaxTime: 2 * time.Hour}, "a filter": {Interface: "lo", Filter: []Instruction{{Op: 0xff}}},
	} {
		if _, err := (&Service{Root: "/"}).Run(t.Context(), q, nil); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&Service{Root: "/"}).Run(t.Context(), Query{Interface: "absent0"}, nil); errkind.Of(err) != errkind.NotFound {
		t.Errorf("got %v", err)
	}
}

// frame returns the headers of a packet over Ethernet.
func frame(isV6 bool, source, target uint16) []byte {
	p := make([]byte, 14, 80)
	if isV6 {
		binary.BigEndian.PutUint16(p[12:], unix.ETH_P_IPV6)
		p = append(p, make([]byte, 40)...)
		p[14], p[20] = 0x60, unix.IPPROTO_TCP
	} else {
		binary.BigEndian.PutUint16(p[12:], unix.ETH_P_IP)
		p = append(p, make([]byte, 24)...) // with options
		p[14], p[23] = 0x46, unix.IPPROTO_TCP
	}
	p = binary.BigEndian.AppendUint16(p, source)
	return binary.BigEndian.AppendUint16(p, target)
}

func TestOwnConnectionsAreRecognised(t *testing.T) {
	own := connections{listening: map[uint16]bool{4443: true}, open: map[[2]uint16]bool{{22, 5000}: true}}
	for _, isV6 := range []bool{false, true} {
		for ports, want := range map[[2]uint16]bool{{4443, 1}: true, {1, 4443}: true, {22, 5000}: true, {5000, 22}: true, {22, 5001}: false, {1, 2}: false} {
			p := frame(isV6, ports[0], ports[1])
			if got := own.has(p, linkEthernet); got != want {
				t.Errorf("v6 %t, ports %v: %t", isV6, ports, got)
			}
			if got := own.has(p[14:], linkRaw); got != want {
				t.Errorf("raw, v6 %t, ports %v: %t", isV6, ports, got)
			}
			for cut := range p {
				own.has(p[:cut], linkEthernet)
				own.has(p[:cut], linkRaw)
			}
		}
	}
	udp := frame(false, 4443, 1)
	udp[23] = unix.IPPROTO_UDP
	if own.has(udp, linkEthernet) {
		t.Error("UDP is recognised as TCP")
	}
}

func TestThePcapFileEndsAtItsBound(t *testing.T) {
	var out bytes.Buffer
	w := &pcap{send: func(b []byte) error { out.Write(b); return nil }, most: fileHeader + 2*(recordHeader+10), snap: 100, link: linkEthernet}
	if err := w.begin(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := w.packet(time.Unix(5, 7), make([]byte, 10), 1500); (err != nil) != (i == 2) || i == 2 && !errors.Is(err, errFull) {
			t.Errorf("packet %d: %v", i, err)
		}
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	b := out.Bytes()
	if int64(len(b)) != w.most || binary.LittleEndian.Uint32(b) != 0xa1b23c4d || binary.LittleEndian.Uint32(b[24:]) != 5 || binary.LittleEndian.Uint32(b[28:]) != 7 || binary.LittleEndian.Uint32(b[36:]) != 1500 {
		t.Errorf("%x", b)
	}
}

// A capture of the loopback has the packets of a connection, and not those of one whose
// process made the call.
func TestPacketsOfTheLoopbackAreRecorded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, caller := range []int{0, os.Getpid()} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var out bytes.Buffer
		talked := false
		_, err := (&Service{Root: "/"}).Run(ctx, Query{Interface: "lo", MaxTime: time.Minute, Caller: caller}, func(b []byte) error {
			out.Write(b)
			if !talked { // the recording has begun
				talked = true
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					return err
				}
				defer c.Close()
				if _, err := c.Write([]byte("over TCP")); err != nil {
					return err
				}
				if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
					return err
				}
				_, err = udp.WriteTo([]byte("the last packet"), udp.LocalAddr())
				return err
			}
			if bytes.Contains(out.Bytes(), []byte("the last packet")) {
				cancel()
			}
			return nil
		})
		cancel()
		if errors.Is(err, unix.EPERM) {
			t.Skip("only root may record packets")
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		if got := bytes.Contains(out.Bytes(), []byte("over TCP")); got != (caller == 0) {
			t.Errorf("caller %d: the connection is recorded: %t", caller, got)
		}
	}
}
