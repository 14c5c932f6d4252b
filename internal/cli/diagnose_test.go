package cli

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
)

// unbundle FILE unpacks a bundle into the folder bundle.
func unbundle(ts *testscript.TestScript, _ bool, args []string) {
	files, err := readBundle(ts.MkAbs(args[0]))
	ts.Check(err)
	for name, text := range files {
		ts.Check(writeFile(filepath.Join(ts.MkAbs("bundle"), name), string(text)))
	}
}

func readBundle(name string) (map[string][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	out := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if out[h.Name], err = io.ReadAll(r); err != nil {
			return nil, err
		}
	}
}

// nowhere FOLDER TEXT wants a text in no file, and no file's name, of a folder.
func nowhere(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if bytes.Contains(text, []byte(args[1])) || strings.Contains(d.Name(), args[1]) {
			ts.Fatalf("%s has %q", name, args[1])
		}
		return err
	}))
}
