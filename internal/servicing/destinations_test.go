package servicing

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension/content"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
)

func files(destinations ...string) string {
	text := "os:\n  additionalFiles:\n"
	for _, d := range destinations {
		text += "  - {destination: " + d + ", content: x}\n"
	}
	return text
}

func TestNoFileOfAConfigurationOverwritesWhatTridentKeeps(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		if err := os.MkdirAll(filepath.Join(w.root, "srv"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../var/lib/trident", filepath.Join(w.root, "srv/link")); err != nil {
			t.Fatal(err)
		}
		before := w.state()
		for _, name := range []string{
			"/var/lib/trident/datastore.sqlite", "/var/lib/trident/datastore.sqlite-journal", "/var/lib/trident/datastore.sqlite.bak",
			"/var/../var/lib//trident/self/rescue.json", "/var/lib/trident/self", "/var/lib/trident/unsettled",
			"/var/lib/trident/servicing/x/y", "/var/lib/trident/extensions/x", "/run/trident/trident.sock", "/run/trident/lock",
			"/var/lib/extensions/trident.raw", "/etc/systemd/system/trident-rescue.service", "/etc/systemd/system/trident-trial.timer",
		} {
			_, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(files("/etc/motd", name)), Stage: true, Finalize: true})
			if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "os.additionalFiles[1]") || errkind.Hint(err) == "" {
				t.Errorf("%s: %v", name, err)
			}
			_, err = w.daemon.service.plan(change.State{}, w.parse(files(name)))
			if errkind.Of(err) != errkind.Invalid {
				t.Errorf("plan with %s: %v", name, err)
			}
		}
		op := w.ask(files("/srv/link/datastore.sqlite"), true, true)
		if op.Phase != operation.Undone || !strings.Contains(op.Failure.Message, `"/srv/link/datastore.sqlite" cannot be written: Trident keeps`) {
			t.Errorf("through a link: %+v", op)
		}
		after := w.state()
		if before["etc/motd"] != after["etc/motd"] {
			t.Error("a configuration that was refused has changed /etc/motd")
		}
		// Upstream's configurations put files of their own there.
		if op := w.ask(files("/var/lib/trident/local-health-check-file.sh", "/run/tridents"), true, true); op.Phase != operation.Done {
			t.Errorf("files beside those of Trident: %+v", op)
		}
	})
}

func TestADatastoreElsewhereIsNoDestinationEither(t *testing.T) {
	c, report := hostconfig.Parse([]byte("trident: {datastorePath: /srv/t.sqlite}\n"+files("/srv/t.sqlite-journal")), rules.Check)
	if err := report.Err(); err != nil {
		t.Fatal(err)
	}
	if err := change.New(change.Host{}).CheckDestinations(c); errkind.Of(err) != errkind.Invalid {
		t.Errorf("got %v", err)
	}
}

// A folder of Trident's that no list names would be overwritten by a file of a
// configuration, and a unit of Trident's by an extension of others.
func TestTheListsOfTridentsOwnPlacesAgree(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		host := w.daemon.service.Host
		unprotected := map[string]string{
			"/var/lib/trident":                                    "has files of others, such as health checks",
			"/var/lib/trident/handles":                            "has copies that last as long as a connection",
			"/var/lib/trident/trial-journal":                      "is evidence, which is read once",
			"/var/lib/trident/trident-health-check-failure-*.log": "is a log",
		}
		named := placesInCode(t)
		if len(named) < 10 {
			t.Errorf("only %d places found: %v", len(named), named)
		}
		for place, file := range named {
			c := w.parse(files(strconv.Quote(place)))
			if err := host.CheckDestinations(c); err == nil && unprotected[place] == "" {
				t.Errorf("%s: %s is Trident's, and a file of a configuration may overwrite it: name it in ownPlaces or Places", file, place)
			}
		}
		for _, place := range host.Places {
			if !strings.HasPrefix(place, "/etc/") && !strings.HasPrefix(place, "/usr/") {
				continue // no extension has such a file
			}
			if err := content.CheckReserved(fstest.MapFS{place[1:]: {}}); err == nil {
				t.Errorf("an extension of others may have %s", place)
			}
		}
	})
}

// placesInCode returns the paths in /var/lib/trident and /run/trident in texts of the
// code, each with a file that has it.
func placesInCode(t *testing.T) map[string]string {
	t.Helper()
	own, out := regexp.MustCompile(`^/?(var/lib|run)/trident(/|$)`), map[string]string{}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "e2e" || d.Name() == "testdata" || strings.HasSuffix(d.Name(), "test")) {
			return fs.SkipDir
		}
		if filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if l, isText := n.(*ast.BasicLit); isText && l.Kind == token.STRING {
				if text, err := strconv.Unquote(l.Value); err == nil && own.MatchString(text) {
					out[change.Absolute(text)] = name
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAFileBelowAnotherFileIsRefusedBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		for _, names := range [][]string{{"/etc/q", "/etc/q/r"}, {"/etc/q/r/s", "/etc/./q"}} {
			_, err := w.daemon.service.Update(t.Context(), UpdateRequest{Config: w.parse(files(names...)), Stage: true, Finalize: true})
			if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), "a file is not a folder") {
				t.Errorf("%v: %v", names, err)
			}
		}
		if op := w.ask(files("/etc/q/r", "/etc/q/s", "/etc/qr"), true, true); op.Phase != operation.Done {
			t.Errorf("%+v", op)
		}
	})
}
