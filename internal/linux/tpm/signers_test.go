package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
)

// signature returns a PKCS #7 signature, of which only the certificates are made (RFC 2315, 9.1).
func signature(t *testing.T, certificates string) []byte {
	t.Helper()
	type signedData struct {
		Version      int
		Algorithms   []int `asn1:"set"`
		Content      struct{ Type asn1.ObjectIdentifier }
		Certificates asn1.RawValue
		Signers      []int `asn1:"set"`
	}
	inner, err := asn1.Marshal(signedData{
		Version: 1, Content: struct{ Type asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}},
		Certificates: asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: []byte(certificates)},
	})
	if err != nil {
		t.Fatal(err)
	}
	outer, err := asn1.Marshal(struct {
		Kind    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: inner}})
	if err != nil {
		t.Fatal(err)
	}
	return outer
}

// signedWith returns a program with a table of signatures at its end.
func signedWith(program []byte, table []byte) []byte {
	out := bytes.Clone(program)
	directory := int(binary.LittleEndian.Uint32(out[60:])) + 24 + 112 + 8*4
	binary.LittleEndian.PutUint32(out[directory:], uint32(len(out)))
	binary.LittleEndian.PutUint32(out[directory+4:], uint32(len(table)))
	return append(out, table...)
}

// entry returns an entry of the table (PE format, The Attribute Certificate Table).
func entry(kind uint16, content []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(8+len(content)))
	out = binary.LittleEndian.AppendUint16(out, 0x200)
	out = append(binary.LittleEndian.AppendUint16(out, kind), content...)
	return append(out, make([]byte, (8-len(out)%8)%8)...)
}

// The firmware measures the certificate that has verified a program, so that register 7 keeps
// its value only for programs with the same certificates.
func TestProgramsOfOtherSignersAreToldApart(t *testing.T) {
	t.Parallel()
	const pkcs7, other = 2, 1
	loader, uki := tpmtest.Loader("1"), tpmtest.UKI("a")
	one := entry(pkcs7, signature(t, "one"))
	boot := func(table []byte) tpm.Boot {
		return tpm.Boot{Loader: tpmtest.Open(t, signedWith(loader, one)), UKI: tpmtest.Open(t, signedWith(uki, table))}
	}
	log := tpm.Log{Events: []tpm.Event{{Register: 7, Type: 0x800000e0, Digest: sha256.Sum256([]byte("db"))}}}
	long := entry(pkcs7, signature(t, "one"))
	long[0]++
	long[3] = 1
	for name, c := range map[string]struct {
		table []byte
		kind  errkind.Kind
		says  string
	}{
		"the same certificate":         {one, "", ""},
		"an entry of another kind":     {append(entry(other, []byte("x")), one...), "", ""},
		"another certificate":          {entry(pkcs7, signature(t, "two")), errkind.Unsupported, "the new UKI is signed with other certificates"},
		"a second signature":           {append(bytes.Clone(one), entry(pkcs7, signature(t, "two"))...), errkind.Unsupported, "signed with other certificates"},
		"an entry behind the end":      {long, errkind.Corrupt, "a signature of an EFI program does not fit"},
		"an entry shorter than itself": {make([]byte, 8), errkind.Corrupt, "a signature of an EFI program does not fit"},
		"no ASN.1":                     {entry(pkcs7, []byte("no signature")), errkind.Corrupt, "read a signature of an EFI program"},
		"no signed data":               {entry(pkcs7, append([]byte{0x30, 11, 6, 1, 42, 0xa0, 6}, "no DER"...)), errkind.Corrupt, "read a signature of an EFI program"},
		"too large":                    {make([]byte, 32<<20), errkind.TooLarge, "are larger than"},
	} {
		next := boot(c.table)
		for way, err := range map[string]error{"new": log.CheckPolicy(boot(one), next), "old": log.CheckPolicy(next, boot(one))} {
			if (err == nil) != (c.kind == "") || err != nil && (errkind.Of(err) != c.kind || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s, as the %s program: %v (%s)", name, way, err, errkind.Of(err))
			}
		}
		if err := (tpm.Log{}).CheckPolicy(boot(one), next); err != nil {
			t.Errorf("%s, and firmware that checks no signature: %v", name, err)
		}
	}
}

// The hash of a program does not cover its signatures, or else none could be added.
func TestTheHashOfAProgramLeavesOutItsSignatures(t *testing.T) {
	t.Parallel()
	hash := func(b []byte) tpm.Digest {
		t.Helper()
		d, err := tpmtest.Open(t, b).Measured()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	plain := tpmtest.Loader("1")
	if hash(plain) != hash(signedWith(plain, entry(2, signature(t, "one")))) {
		t.Error("a signature changes the hash")
	}
}

// A live system that other certificates have verified leaves another value in register 7 than
// the system that it installs.
func TestRegister7IsKnownOnlyAfterALiveSystemOfTheSameSigner(t *testing.T) {
	t.Parallel()
	const config, authority = 0x80000001, 0x800000e0
	const owner = "of sixteen bytes"
	boot := func(signers ...string) tpm.Boot {
		var table []byte
		for _, s := range signers {
			table = append(table, entry(2, signature(t, s))...)
		}
		return tpm.Boot{Loader: tpmtest.Open(t, signedWith(tpmtest.Loader("1"), table)), UKI: tpmtest.Open(t, signedWith(tpmtest.UKI("a"), table))}
	}
	off, on := tpmtest.Variable(config, "SecureBoot", "\x00"), tpmtest.Variable(config, "SecureBoot", "\x01")
	vendor, other := tpmtest.Variable(authority, "db", owner+"vendor"), tpmtest.Variable(authority, "db", owner+"other")
	short := vendor
	short.Data = short.Data[:len(short.Data)-1]
	for name, c := range map[string]struct {
		log  []tpm.Event
		next tpm.Boot
		want bool
	}{
		"an empty log":                     {nil, boot("vendor"), true},
		"no Secure Boot":                   {[]tpm.Event{off}, boot("vendor"), true},
		"a log of an unknown form":         {[]tpm.Event{{Register: 7, Type: config, Data: []byte("SecureBoot")}}, boot("vendor"), true},
		"another variable":                 {[]tpm.Event{off, tpmtest.Variable(config, "PK", "\x01")}, boot("vendor"), true},
		"an unverified live system":        {[]tpm.Event{on}, boot("vendor"), false},
		"the same certificate":             {[]tpm.Event{on, vendor}, boot("vendor"), true},
		"the certificate among others":     {[]tpm.Event{on, vendor}, boot("leaf vendor root"), true},
		"a second signature":               {[]tpm.Event{on, vendor}, boot("second", "vendor"), true},
		"another certificate":              {[]tpm.Event{on, other}, boot("vendor"), false},
		"a certificate more":               {[]tpm.Event{on, vendor, other}, boot("vendor"), false},
		"shim":                             {[]tpm.Event{on, vendor, tpmtest.Variable(authority, "MokListRT", owner+"vendor")}, boot("vendor"), false},
		"no signature":                     {[]tpm.Event{on, vendor}, boot(), false},
		"an entry without a certificate":   {[]tpm.Event{on, tpmtest.Variable(authority, "db", owner)}, boot("vendor"), false},
		"an entry that is cut off":         {[]tpm.Event{on, short}, boot("vendor"), false},
		"a name longer than the event":     {[]tpm.Event{{Register: 7, Type: authority, Data: bytes.Repeat([]byte{0xff}, 40)}}, boot("vendor"), false},
		"events of other registers do not": {[]tpm.Event{{Register: 4, Type: authority, Data: on.Data}}, boot("vendor"), true},
	} {
		got, err := tpm.Log{Events: c.log}.KeepsPolicy(c.next)
		if err != nil || got != c.want {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
	broken := tpm.Boot{Loader: tpmtest.Open(t, signedWith(tpmtest.Loader("1"), make([]byte, 8))), UKI: boot().UKI}
	if _, err := (tpm.Log{Events: []tpm.Event{on, vendor}}).KeepsPolicy(broken); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("a signature that does not fit: %v", err)
	}
}
