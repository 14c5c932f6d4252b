package filekind

import (
	"encoding/binary"
	"fmt"
	"io"
)

// ProgramHead is how many bytes of a file Program needs.
const ProgramHead = 4096

// ReadProgram is [Program] for the file that r reads from its beginning. It returns the
// errors of r.
func ReadProgram(r io.Reader) (arch string, err error) {
	head, err := io.ReadAll(io.LimitReader(r, ProgramHead))
	if err != nil {
		return "", err
	}
	return Program(head), nil
}

// Program returns the architecture of a program or library of Linux (ELF) or UEFI (PE)
// from the beginning of its file: Go's name (GOARCH) if it is known here, else the number
// in its header, such as "machine 0x2a". For any other file it returns "".
func Program(head []byte) (arch string) {
	if len(head) >= 20 && string(head[:4]) == "\x7fELF" {
		order := binary.ByteOrder(binary.LittleEndian)
		if head[5] == 2 {
			order = binary.BigEndian
		}
		if kind := order.Uint16(head[16:]); kind != 2 && kind != 3 { // neither ET_EXEC nor ET_DYN
			return ""
		}
		return nameOf(order.Uint16(head[18:]), map[uint16]string{
			3: "386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 258: "loong64",
		})
	}
	if len(head) < 0x40 || string(head[:2]) != "MZ" {
		return ""
	}
	at := int64(binary.LittleEndian.Uint32(head[0x3c:]))
	if at+6 > int64(len(head)) || string(head[at:at+4]) != "PE\x00\x00" {
		return ""
	}
	return nameOf(binary.LittleEndian.Uint16(head[at+4:]), map[uint16]string{
		0x14c: "386", 0x1c0: "arm", 0x1c2: "arm", 0x1c4: "arm", 0x5032: "riscv32", 0x5064: "riscv64", 0x6264: "loong64", 0x8664: "amd64", 0xaa64: "arm64",
	})
}

func nameOf(machine uint16, names map[uint16]string) string {
	if name, ok := names[machine]; ok {
		return name
	}
	return fmt.Sprintf("machine %#x", machine)
}
