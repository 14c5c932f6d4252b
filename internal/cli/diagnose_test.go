package cli

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trident-project/trident/internal/hosttest"
)

// unbundle FILE unpacks a bundle into the folder bundle.
func unbundle(ts *testscript.TestScript, _ bool, args []string) {
	files, err := hosttest.ReadTarZstd(ts.MkAbs(args[0]))
	ts.Check(err)
	for name, text := range files {
		ts.Check(writeFile(filepath.Join(ts.MkAbs("bundle"), name), string(text)))
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
