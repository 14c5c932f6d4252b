package efivar_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/gpt"
)

var disk = efivar.HardDrive{
	Number: 1, Start: 2048, Size: 0x20000,
	Partition: gpt.GUID{0xc1, 0x2a, 0x73, 0x28, 0xf8, 0x1f, 0x11, 0xd2, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b},
}

// The bytes are put together by hand from UEFI 2.10, 3.1.3 and 10.3.5.
var written = strings.Join([]string{
	"01000000", "4800", // active; 72 bytes of paths
	"41005a004c0041000000",                                             // AZLA
	"0401", "2a00", "01000000", "0008000000000000", "0000020000000000", // hard drive
	"28732ac11ff8d211ba4b00a0c93ec93b", "02", "02",
	"0404", "1a00", "5c004500460049005c0061002e00650066006900", // \EFI\a.efi …
}, "")

func TestALoadOptionIsWrittenAsUEFISpecifiesIt(t *testing.T) {
	t.Parallel()
	o := efivar.NewLoadOption("AZLA", disk, "/EFI/a.efi")
	data, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := written + "0000" + "7fff0400"
	if got := hex.EncodeToString(data); got != want {
		t.Errorf("is   %s\nwant %s", got, want)
	}
	back, err := efivar.DecodeLoadOption(data)
	if diff := cmp.Diff(o, back, cmp.Transformer("nil", func(b []byte) string { return string(b) })); diff != "" || err != nil {
		t.Error(diff, err)
	}
	at, file, ok := back.Location()
	if at != disk || file != "/EFI/a.efi" || !ok {
		t.Errorf("%+v %s %v", at, file, ok)
	}
}

func TestOnlyAFileOnAPartitionIsALocation(t *testing.T) {
	t.Parallel()
	whole := efivar.NewLoadOption("x", disk, "/a/b.efi")
	split := whole
	part := efivar.NewLoadOption("x", disk, `/b.efi`).Nodes[1]
	dir := efivar.NewLoadOption("x", disk, `/a/`).Nodes[1]
	split.Nodes = []efivar.Node{whole.Nodes[0], dir, part, whole.Nodes[2]}
	if _, file, ok := split.Location(); file != "/a/b.efi" || !ok {
		t.Errorf("a path in two nodes is %s, %v", file, ok)
	}
	mbr := whole.Nodes[0]
	mbr.Data = append([]byte(nil), mbr.Data...)
	mbr.Data[36] = 1
	for name, nodes := range map[string][]efivar.Node{
		"no nodes": nil, "no file": {whole.Nodes[0], whole.Nodes[2]}, "no disk": whole.Nodes[1:],
		"an MBR disk": {mbr, whole.Nodes[1]}, "behind the end": {whole.Nodes[2], whole.Nodes[0], whole.Nodes[1]},
	} {
		if at, file, ok := (efivar.LoadOption{Nodes: nodes}).Location(); ok {
			t.Errorf("%s: %+v %s", name, at, file)
		}
	}
}

func TestALoadOptionThatIsCutOffOrLiesIsCorrupt(t *testing.T) {
	t.Parallel()
	whole, err := efivar.NewLoadOption("AZLA", disk, "/EFI/a.efi").Encode()
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		if _, err := efivar.DecodeLoadOption(whole[:n]); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	for at, b := range map[int]byte{4: 0xff, 18: 3, 19: 0xff} { // length of the list, of the first node
		bad := append([]byte(nil), whole...)
		bad[at] = b
		if _, err := efivar.DecodeLoadOption(bad); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	for name, o := range map[string]efivar.LoadOption{
		"a long node": {Nodes: []efivar.Node{{Data: make([]byte, 0xfffc)}}},
		"a long path": {Nodes: []efivar.Node{{Data: make([]byte, 0x8000)}, {Data: make([]byte, 0x8000)}}},
		"a NUL":       {Description: "a\x00b"},
	} {
		if _, err := o.Encode(); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeLoadOption(f *testing.F) {
	for _, name := range []string{"", "AZLA", "ü𝄞"} {
		data, err := efivar.NewLoadOption(name, disk, "/EFI/a.efi").Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, "optional"...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := efivar.DecodeLoadOption(data)
		if err != nil {
			return
		}
		o.Location()
		again, err := o.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if len(again) != len(data) {
			t.Errorf("%d bytes became %d", len(data), len(again))
		}
		back, err := efivar.DecodeLoadOption(again)
		if diff := cmp.Diff(o, back); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
}
