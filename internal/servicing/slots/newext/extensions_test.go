package newext

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

func newExtensions(t *testing.T) *Extensions {
	t.Helper()
	return &Extensions{Host: change.New(change.Host{Root: hosttest.TempDir(t), Logger: slog.New(slog.DiscardHandler)})}
}

// A rehearsal asks the server for a file, and takes an answer without ranges.
func TestARehearsalFindsAnExtensionThatIsMissing(t *testing.T) {
	t.Parallel()
	x := newExtensions(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ranges":
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, 8192)))
		case "/whole":
			_, _ = w.Write(make([]byte, 8192))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	for path, kind := range map[string]errkind.Kind{"/ranges": "", "/whole": "", "/gone": errkind.NotFound} {
		if err := x.isThere(t.Context(), server.URL+path); (err == nil) != (kind == "") || err != nil && errkind.Of(err) != kind {
			t.Errorf("%s: %v", path, err)
		}
	}
	hosttest.Write(t, filepath.Join(x.Root, "etc/trident/registry-auth.json"), "no JSON, but secret")
	if err := x.isThere(t.Context(), "oci://127.0.0.1:1/x:1"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("credentials that cannot be read: %v", err)
	}
}

// Trident itself is never activated in a new system, and the error names who lists it.
func TestAnImageOfTridentIsRefusedByItsOrigin(t *testing.T) {
	t.Parallel()
	x := newExtensions(t)
	for url, says := range map[string]string{
		"file://" + x.OnHost(x.carriedFile(0)): "the image carries an image of Trident itself",
		"https://example.com/trident.raw":      "os.sysexts lists an image of Trident itself",
	} {
		if err := x.ownListed(extension.Source{URL: url}); errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), says) || errkind.Hint(err) == "" {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A folder that is in the way of an unpacked extension is replaced, and a file in place of the
// folder for all of them is an error.
func TestUnpackNamesWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	root := hosttest.TempDir(t)
	hosttest.Write(t, filepath.Join(root, "file"), "")
	if _, err := unpack(t.Context(), image.Partition{}, filepath.Join(root, "file/0.raw")); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("%v", err)
	}
}

// The extension at the path of Trident's own link is set up by another step. With no other
// extension nothing is linked, and no unit is enabled.
func TestPlaceLeavesTridentsOwnExtensionAlone(t *testing.T) {
	t.Parallel()
	x := newExtensions(t)
	c, err := hostconfig.ParseRecorded([]byte("os: {sysexts: [{url: 'file:///none.raw', sha384: " + strings.Repeat("a", 96) + ", path: " + change.OwnPath + "}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	root := hosttest.TempDir(t)
	run := operation.Rehearse("op", record.Record{Asked: c.Recorded(), Purpose: record.Installs}, nil)
	if err := x.Place(t.Context(), run, c, root); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	if len(run.State.Extensions.New) != 0 {
		t.Errorf("%+v", run.State.Extensions)
	}
}
