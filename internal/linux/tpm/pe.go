package tpm

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	maxSections = 96       // as Windows permits
	maxHeaders  = 64 << 10 // bytes
	maxSigned   = 1 << 20  // bytes of signatures
	maxZeros    = 64 << 20 // bytes that a section has in memory and not in the file

	sectionSize  = 40
	pe32Plus     = 0x20b
	pe32         = 0x10b
	securityDir  = 4 // index of the directory of signatures
	pkcs7Signed  = 0x0002
	certHeader   = 8
	zeroPageSize = 32 << 10
)

// Program is an EFI program in the PE format (PE Format, Microsoft).
type Program struct {
	r                       io.ReaderAt
	size                    int64
	headers                 []byte // SizeOfHeaders bytes
	checksumAt, directoryAt int    // in headers
	signed                  span   // signatures, at the end of the file
	sections                []section
}

type section struct {
	name   string
	memory int64 // bytes in memory; those beyond raw are zeros
	raw    span
}

type span struct{ at, size int64 }

// OpenProgram reads the headers of an EFI program. Its error is of kind Corrupt if the file
// is not one.
func OpenProgram(r io.ReaderAt, size int64) (*Program, error) {
	p := &Program{r: r, size: size}
	if err := p.open(); err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read an EFI program: %w", err)
	}
	return p, nil
}

func (p *Program) open() error {
	le := binary.LittleEndian
	first, err := p.read(0, min(p.size, maxHeaders))
	if err != nil {
		return err
	}
	if len(first) < 64 || string(first[:2]) != "MZ" {
		return fmt.Errorf("it does not begin with MZ")
	}
	at := int64(le.Uint32(first[60:]))
	if at+24+112+8*16 > int64(len(first)) || string(first[at:at+4]) != "PE\x00\x00" {
		return fmt.Errorf("it has no PE header")
	}
	count, optional := int(le.Uint16(first[at+6:])), at+24
	optionalSize := int64(le.Uint16(first[at+20:]))
	directories := optional + 112
	switch le.Uint16(first[optional:]) {
	case pe32Plus:
	case pe32:
		directories = optional + 96
	default:
		return fmt.Errorf("its optional header is of an unknown kind")
	}
	p.checksumAt, p.directoryAt = int(optional+64), int(directories+8*securityDir)
	headers := int64(le.Uint32(first[optional+60:]))
	table := optional + optionalSize
	if count > maxSections || headers > int64(len(first)) || table+int64(count*sectionSize) > headers || int64(p.directoryAt+8) > table {
		return fmt.Errorf("its headers do not fit")
	}
	p.headers = first[:headers]
	if le.Uint32(first[directories-4:]) > securityDir {
		p.signed = span{int64(le.Uint32(first[p.directoryAt:])), int64(le.Uint32(first[p.directoryAt+4:]))}
	}
	if p.signed.size > 0 && (p.signed.at < headers || p.signed.at+p.signed.size > p.size) {
		return fmt.Errorf("its signatures do not fit")
	}
	for i := range count {
		h := first[table+int64(i*sectionSize):][:sectionSize]
		name, _, _ := bytes.Cut(h[:8], []byte{0})
		s := section{string(name), int64(le.Uint32(h[8:])), span{int64(le.Uint32(h[20:])), int64(le.Uint32(h[16:]))}}
		if s.raw.at+s.raw.size > p.size || s.memory-s.raw.size > maxZeros {
			return fmt.Errorf("its section %.8q does not fit", s.name)
		}
		p.sections = append(p.sections, s)
	}
	return nil
}

func (p *Program) read(at, size int64) ([]byte, error) {
	out := make([]byte, size)
	_, err := p.r.ReadAt(out, at)
	if err == io.EOF && at+size <= p.size {
		err = nil
	}
	return out, err
}

// Measured returns the digest that the firmware extends a register with when it loads the
// program: the Authenticode hash, which does not cover signatures.
func (p *Program) Measured() (Digest, error) {
	sum := sha256.New()
	sum.Write(p.headers[:p.checksumAt])
	sum.Write(p.headers[p.checksumAt+4 : p.directoryAt])
	sum.Write(p.headers[p.directoryAt+8:])
	done := int64(len(p.headers))
	byPlace := slices.SortedFunc(slices.Values(p.sections), func(a, b section) int { return cmp.Compare(a.raw.at, b.raw.at) })
	for _, s := range byPlace {
		if s.raw.size == 0 {
			continue
		}
		if _, err := io.Copy(sum, io.NewSectionReader(p.r, s.raw.at, s.raw.size)); err != nil {
			return Digest{}, fmt.Errorf("read section %s of an EFI program: %w", s.name, err)
		}
		done += s.raw.size
	}
	if rest := p.size - p.signed.size - done; rest > 0 {
		if _, err := io.Copy(sum, io.NewSectionReader(p.r, done, rest)); err != nil {
			return Digest{}, fmt.Errorf("read the end of an EFI program: %w", err)
		}
	}
	return Digest(sum.Sum(nil)), nil
}

// content returns the section as it is in memory. ok is false without the section.
func (p *Program) content(name string) (r io.Reader, ok bool, err error) {
	var out io.Reader
	for _, s := range p.sections {
		if s.name != name {
			continue
		}
		if out != nil {
			return nil, true, errkind.Errorf(errkind.Unsupported, "the program has two sections %s", name)
		}
		has := min(s.raw.size, s.memory)
		out = io.MultiReader(io.NewSectionReader(p.r, s.raw.at, has), io.LimitReader(zeros{}, s.memory-has))
	}
	return out, out != nil, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	p = p[:min(len(p), zeroPageSize)]
	clear(p)
	return len(p), nil
}

// Section returns the program in a section, such as the kernel in the section .linux. ok is
// false without the section.
func (p *Program) Section(name string) (inner *Program, ok bool, err error) {
	for _, s := range p.sections {
		if s.name == name {
			size := min(s.raw.size, s.memory)
			inner, err := OpenProgram(io.NewSectionReader(p.r, s.raw.at, size), size)
			return inner, true, err
		}
	}
	return nil, false, nil
}

// signers returns a digest of the certificates that each signature has, in their order.
func (p *Program) signers() ([]Digest, error) {
	all, err := p.signatures()
	out := make([]Digest, len(all))
	for i, certificates := range all {
		out[i] = sha256.Sum256(certificates)
	}
	return out, err
}

// signatures returns the certificates that each signature has, in their order.
func (p *Program) signatures() ([][]byte, error) {
	if p.signed.size > maxSigned {
		return nil, errkind.Errorf(errkind.TooLarge, "the signatures of an EFI program are larger than %d bytes", maxSigned)
	}
	rest, err := p.read(p.signed.at, p.signed.size)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for len(rest) >= certHeader {
		size := binary.LittleEndian.Uint32(rest)
		if size < certHeader || int64(size) > int64(len(rest)) {
			return nil, errkind.Errorf(errkind.Corrupt, "a signature of an EFI program does not fit")
		}
		if binary.LittleEndian.Uint16(rest[6:]) == pkcs7Signed {
			d, err := certificates(rest[certHeader:size])
			if err != nil {
				return nil, errkind.Errorf(errkind.Corrupt, "read a signature of an EFI program: %w", err)
			}
			out = append(out, d)
		}
		rest = rest[min(int64(size+7)&^7, int64(len(rest))):]
	}
	return out, nil
}

// certificates returns the certificates in a signature, one behind the other (RFC 2315, 9.1).
func certificates(signature []byte) ([]byte, error) {
	var outer struct {
		Kind    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	var inner struct {
		Version      int
		Algorithms   asn1.RawValue
		Content      asn1.RawValue
		Certificates asn1.RawValue `asn1:"optional,tag:0"`
		Rest         asn1.RawValue `asn1:"optional"`
		Signers      asn1.RawValue `asn1:"optional"`
	}
	if _, err := asn1.Unmarshal(signature, &outer); err != nil {
		return nil, err
	}
	if _, err := asn1.Unmarshal(outer.Content.Bytes, &inner); err != nil {
		return nil, err
	}
	return inner.Certificates.Bytes, nil
}
