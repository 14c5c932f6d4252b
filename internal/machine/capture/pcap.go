package capture

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// Types of links in a pcap file (draft-ietf-opsawg-pcaplinktype).
const (
	linkEthernet = 1
	linkRaw      = 101
)

// Sizes of the headers of a pcap file (draft-ietf-opsawg-pcap).
const (
	fileHeader   = 24
	recordHeader = 16
)

// pcap writes a pcap file with times in nanoseconds, in pieces of whole records.
type pcap struct {
	send    func([]byte) error
	most    int64
	snap    int
	link    uint32
	buf     []byte
	written int64
}

func (p *pcap) begin() error {
	const nanoseconds = 0xa1b23c4d
	b := binary.LittleEndian.AppendUint32(nil, nanoseconds)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...) // time zone and accuracy: always 0
	b = binary.LittleEndian.AppendUint32(b, uint32(p.snap))
	p.buf = binary.LittleEndian.AppendUint32(b, p.link)
	p.written = fileHeader
	return p.flush()
}

// packet adds a packet of which size bytes were on the wire. It fails with errFull, and adds
// nothing, if the file would become too large.
func (p *pcap) packet(at time.Time, data []byte, size int) error {
	if p.written+recordHeader+int64(len(data)) > p.most {
		return errFull
	}
	p.written += recordHeader + int64(len(data))
	p.buf = binary.LittleEndian.AppendUint32(p.buf, uint32(at.Unix()))
	p.buf = binary.LittleEndian.AppendUint32(p.buf, uint32(at.Nanosecond()))
	p.buf = binary.LittleEndian.AppendUint32(p.buf, uint32(len(data)))
	p.buf = binary.LittleEndian.AppendUint32(p.buf, uint32(size))
	p.buf = append(p.buf, data...)
	if len(p.buf) >= piece {
		return p.flush()
	}
	return nil
}

func (p *pcap) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	err := p.send(p.buf)
	p.buf = p.buf[:0]
	return err
}

// timeOf returns when the kernel got a packet (SO_TIMESTAMPNS), or now.
func timeOf(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}
