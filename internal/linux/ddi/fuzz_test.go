package ddi

import (
	"bytes"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
)

func FuzzOpen(f *testing.F) {
	whole, _ := signed(f, writeTree(f, map[string]string{"usr/x": "x", "usr/l": "-> x", "opt/d/y": "yy"}))
	f.Add(whole)
	path, _ := built(f, writeTree(f, map[string]string{"usr/x": "x"}))
	f.Add(readFile(f, path))
	f.Add(whole[:len(whole)-512])
	f.Fuzz(func(t *testing.T, b []byte) {
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
	for at := int64(0); at < data.Size(); at += 97 {
		f.Add(uint32(at), []byte{0xff, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		b := bytes.Clone(whole)
		copy(b[data.Offset()+int64(at)%data.Size():data.Offset()+data.Size()], patch)
		walk(t, openBytes(t, b))
	})
}

func FuzzSignature(f *testing.F) {
	whole, _ := signed(f, writeTree(f, map[string]string{"usr/x": "x"}))
	p := openBytes(f, whole).Table().Partitions[2]
	f.Add(whole[p.Offset() : p.Offset()+p.Size()])
	f.Add([]byte(`{"rootHash":"00","signature":"AAAA"}`))
	f.Add([]byte("{}\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
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
