package host

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/cli/command"
)

func TestAnErrorFileIsEmptiedBySuccess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "e")
	if err := os.WriteFile(file, []byte("message: old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, os.DevNull, file + "-none"} {
		if err := writeErrorFile(t.Context(), secretFile(&command.App{}, path), nil); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(file)
	if len(text) > 0 || err != nil {
		t.Errorf("%v %q", err, text)
	}
	if _, err := os.Stat(file + "-none"); err == nil {
		t.Error("a file was made")
	}
}

func TestReadingAFileIsBounded(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(file, bytes.Repeat([]byte("#"), maxConfig+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(t.Context(), file); err == nil || !strings.Contains(err.Error(), "more than 1024 KiB") {
		t.Errorf("error %v", err)
	}
	if _, err := readConfig(t.Context(), "/dev/zero"); err == nil || !strings.Contains(err.Error(), "is a character device") {
		t.Errorf("error %v", err)
	}
	if _, err := configOf([]byte{0xff}); err == nil {
		t.Error("what is not UTF-8 was taken")
	}
}
