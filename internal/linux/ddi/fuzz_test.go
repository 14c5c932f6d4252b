package ddi

import (
	"bytes"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/damage"
)

func FuzzOpen(f *testing.F) {
	whole, _ := signed(f, writeTree(f, map[string]string{"usr/x": "x", "usr/l": "-> x", "opt/d/y": "yy"}))
	path, _ := built(f, writeTree(f, map[string]string{"usr/x": "x"}))
	bases := [][]byte{whole, readFile(f, path)}
	for base := range bases {
		f.Add(uint8(base), uint32(0), []byte{})
		f.Add(uint8(base), uint32(512), damage.At(512+16, 0))
		f.Add(uint8(base), uint32(0), damage.At(1024+32, 0xff))
	}
	f.Fuzz(func(t *testing.T, base uint8, missing uint32, edits []byte) {
		b := damage.Apply(bases[int(base)%len(bases)], edits)
		b = b[:len(b)-int(missing)%len(b)]
		m, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Errorf("kind %s: %v", errkind.Of(err), err)
			}
			return
		}
		if err := m.VerifyTree(t.Context(), nil); err != nil && errkind.Of(err) != errkind.Corrupt {
			t.Errorf("kind %s: %v", errkind.Of(err), err)
		}
		walk(t, m)
	})
}

// FuzzFileSystem puts hostile bytes where FuzzOpen, which has to get through
// checksums first, seldom does.
func FuzzFileSystem(f *testing.F) {
	path, _ := built(f, writeTree(f, map[string]string{"usr/x": "x", "usr/l": "-> x", "opt/d/y": "yy"}))
	whole := readFile(f, path)
	data := openBytes(f, whole).Table().Partitions[0]
	inside := whole[data.Offset() : data.Offset()+data.Size()]
	for at := 0; at < len(inside); at += 97 {
		f.Add(damage.At(at, 0xff, 0xff, 0xff, 0xff))
	}
	b := bytes.Clone(whole)
	f.Fuzz(func(t *testing.T, edits []byte) {
		copy(b[data.Offset():], damage.Apply(inside, edits))
		walk(t, openBytes(t, b))
	})
}

func FuzzSignature(f *testing.F) {
	whole, _ := signed(f, writeTree(f, map[string]string{"usr/x": "x"}))
	p := openBytes(f, whole).Table().Partitions[2]
	bases := [][]byte{
		bytes.TrimRight(whole[p.Offset():p.Offset()+p.Size()], "\x00"),
		[]byte(`{"rootHash":"00","signature":"AAAA"}`), []byte("{}\x00\x00"),
	}
	for base := range bases {
		f.Add(uint8(base), []byte{})
		f.Add(uint8(base), damage.At(1, '"'))
	}
	f.Fuzz(func(t *testing.T, base uint8, edits []byte) {
		b := damage.Apply(bases[int(base)%len(bases)], edits)
		sig, err := parseSignature(b)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Errorf("kind %s: %v", errkind.Of(err), err)
			}
			return
		}
		if len(sig.PKCS7) == 0 || !bytes.Contains(b, []byte(HashString(sig.RootHash))) {
			t.Errorf("read %+v", sig)
		}
	})
}
