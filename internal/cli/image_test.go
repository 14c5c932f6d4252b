package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	sdboot "github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/boot/boottest"
	cosi "github.com/trident-project/trident/internal/image"
)

// makeUKI FILE UNAME writes a unified kernel image.
func makeUKI(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), boottest.UKI(sdboot.AMD64, args[1]), 0o600))
}

// makeDisk FILE TYPE=FILE… writes a disk image of these partitions.
func makeDisk(ts *testscript.TestScript, _ bool, args []string) {
	var parts []cosi.Part
	for _, arg := range args[1:] {
		name, path, _ := strings.Cut(arg, "=")
		kind, ok := cosi.ParsePartType(name, cosi.AMD64)
		if !ok {
			ts.Fatalf("no type %q", name)
		}
		f, err := os.Open(ts.MkAbs(path))
		ts.Check(err)
		defer f.Close()
		info, err := f.Stat()
		ts.Check(err)
		parts = append(parts, cosi.Part{Name: name, Type: kind, Content: f, Size: info.Size()})
	}
	disk, size, err := cosi.Assemble(parts)
	ts.Check(err)
	out, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer out.Close()
	_, err = io.Copy(out, io.NewSectionReader(disk, 0, size))
	ts.Check(err)
}

// web serves the folder of the script, and puts its URL into $WEB.
func web(ts *testscript.TestScript, _ bool, _ []string) {
	files := http.FileServer(http.Dir(ts.MkAbs(".")))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		files.ServeHTTP(w, r)
	}))
	ts.Defer(s.Close)
	ts.Setenv("WEB", s.URL)
}
