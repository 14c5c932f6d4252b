package extension

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/gpt"
)

var amd64 = hostinfo.Host{ID: "debian", VersionID: "13", Architecture: "x86-64"}

func releaseNamed(name string) fstest.MapFS {
	return fstest.MapFS{"usr/lib/extension-release.d/extension-release." + name: {Data: []byte("ID=_any\n"), Mode: 0o644}}
}

// erofsOf makes an erofs image.
func erofsOf(t testing.TB, files fstest.MapFS) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "erofs"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := erofs.Create(f)
	if err := w.CopyFrom(files); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const (
	rootAMD64    = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
	rootSigAMD64 = "41092b05-9fc8-4523-994f-2def0408b176"
	usrAMD64     = "8484680c-9521-48c6-9c11-b0720656f69e"
	usrSigAMD64  = "e7bb33fb-06cf-4e81-8273-e543b413e2e2"
	rootARM64    = "b921b045-1df0-41c3-af44-4c6f280d3fae"
	linuxHome    = "933ac7e1-2eb4-4f13-b844-0e14e2aef915"
)

type part struct {
	kind string
	data []byte
}

// gptOf makes an image with these partitions, each from a boundary of 4096
// bytes on.
func gptOf(t testing.TB, parts ...part) []byte {
	t.Helper()
	table := gpt.Table{DiskID: gpt.GUID{1}}
	at := int64(20480)
	for i, p := range parts {
		kind, err := gpt.ParseGUID(p.kind)
		if err != nil {
			t.Fatal(err)
		}
		size := (int64(len(p.data)) + 4095) / 4096 * 4096
		table.Partitions = append(table.Partitions, gpt.Partition{
			Type: kind, ID: gpt.GUID{byte(i + 1)}, First: uint64(at) / 512, Last: uint64(at+size)/512 - 1,
		})
		at += size
	}
	table.Size = at + 20480
	f, err := os.Create(filepath.Join(t.TempDir(), "gpt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(table.Size); err != nil {
		t.Fatal(err)
	}
	if err := gpt.Write(f, &table); err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		if _, err := f.WriteAt(p.data, table.Partitions[i].Offset()); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newCert(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0), // systemd does not look
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func signatureOf(t *testing.T, cert *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	root := [32]byte{1, 2, 3}
	der, err := ddi.SignRootHash(root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"rootHash": ddi.HashString(root), "signature": der, "certificateFingerprint": "any"})
	if err != nil {
		t.Fatal(err)
	}
	return append(text, make([]byte, 16<<10-len(text))...)
}

// fixTable makes the checksums of the first partition table right, so that what
// was changed in it is looked at.
func fixTable(image []byte) {
	if len(image) < 1024+128*128 || string(image[512:520]) != "EFI PART" {
		return
	}
	h := image[512 : 512+92]
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(image[1024:1024+128*128]))
	clear(h[16:20])
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
}
