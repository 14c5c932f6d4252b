package efivar_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/efivar"
	"github.com/trident-project/trident/internal/linux/efivar/efivartest"
)

func TestAllStoresPassTheSuite(t *testing.T) {
	t.Run("in memory", func(t *testing.T) { efivartest.Suite(t, &efivartest.Fake{}) })
	t.Run("a folder that stands for efivarfs", func(t *testing.T) { efivartest.Suite(t, efivar.Dir(t.TempDir())) })
	t.Run("efivarfs", func(t *testing.T) {
		d, err := efivar.Open(efivar.DefaultDir)
		if err != nil {
			t.Skip(err)
		}
		efivartest.Suite(t, d)
	})
}

func TestAHostThatDidNotBootByUEFIIsRefused(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, err := efivar.Open(dir); errkind.Of(err) != errkind.Precondition || errkind.Hint(err) == "" {
			t.Errorf("%v", err)
		}
	}
}

func TestAttributesComeBeforeTheDataInAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := efivar.SetLoaderText(efivar.Dir(dir), efivar.EntryOneShot, "a.efi"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"))
	want := "\x07\x00\x00\x00a\x00.\x00e\x00f\x00i\x00\x00\x00"
	if err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestFilesThatAreNotVariablesAreIgnored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const guid = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	for file, data := range map[string]string{
		"Empty" + guid: "", "Short" + guid: "\x07\x00\x00\x00", "Huge" + guid: strings.Repeat("x", efivar.MaxData+5), "not a variable": "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "Link"+guid)); err != nil {
		t.Fatal(err)
	}
	s := efivar.Dir(dir)
	get := func(name string) error {
		_, err := s.Get(efivar.Name{Name: name, Vendor: efivar.Global})
		return err
	}
	if err := get("Empty"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file without a variable: %v", err)
	}
	for name, want := range map[string]errkind.Kind{"Short": errkind.Corrupt, "Huge": errkind.TooLarge, "Link": errkind.Internal} {
		if err := get(name); err == nil || errkind.Of(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	names, err := s.List()
	if err != nil || len(names) != 4 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestBootVariablesAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	s := &efivartest.Fake{}
	order, err := efivar.BootOrder(s)
	if err != nil || order != nil {
		t.Errorf("%v, %v", order, err)
	}
	if _, ok, err := efivar.BootNext(s); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	err = errors.Join(
		efivar.SetBootOrder(s, []efivar.Number{0x10, 0xabcd}),
		efivar.SetBootNext(s, 0xabcd),
		efivar.SetLoaderText(s, efivar.EntryDefault, "ü.efi"),
		efivar.SetEntry(s, efivar.Entry{Number: 0xabcd, LoadOption: efivar.NewLoadOption("new", disk, "/EFI/a.efi")}),
		s.Set(efivar.Name{Name: "Boot0000", Vendor: efivar.Global}, efivar.Variable{Attributes: 7, Data: []byte("junk")}),
		s.Set(efivar.Name{Name: "Boot00ef", Vendor: efivar.Global}, efivar.Variable{Attributes: 7, Data: []byte("lower case")}),
	)
	if err != nil {
		t.Fatal(err)
	}
	order, err = efivar.BootOrder(s)
	if diff := cmp.Diff([]efivar.Number{0x10, 0xabcd}, order); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if n, ok, err := efivar.BootNext(s); n != 0xabcd || !ok || err != nil {
		t.Errorf("%v, %v, %v", n, ok, err)
	}
	if text, err := efivar.LoaderText(s, efivar.EntryDefault); text != "ü.efi" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	entries, err := efivar.Entries(s)
	if err != nil || len(entries) != 1 || entries[0].Number != 0xabcd || entries[0].Description != "new" {
		t.Errorf("%+v, %v", entries, err)
	}
	if n, err := efivar.FreeNumber(s); n != 1 || err != nil {
		t.Errorf("%v, %v", n, err)
	}
	err = errors.Join(efivar.SetBootOrder(s, nil), efivar.ClearBootNext(s), efivar.SetLoaderText(s, efivar.EntryDefault, ""), efivar.DeleteEntry(s, 0xabcd))
	names, _ := s.List()
	if err != nil || len(names) != 2 {
		t.Errorf("left %v, %v", names, err)
	}
}
