//go:build !outside

package e2e

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	sdkModule  = "github.com/trident-project/trident/proto"
	sdkVersion = "v1.2.3"
)

// sdkProxy makes a module proxy in a folder (https://go.dev/ref/mod#goproxy-protocol) that
// has the SDK of this tree, and nothing else of it.
func sdkProxy(t *testing.T) string {
	t.Helper()
	proxy := t.TempDir()
	at := filepath.Join(proxy, sdkModule, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../../proto/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mod), "replace") {
		t.Error("proto/go.mod replaces a module, which has no effect in the programs of others")
	}
	for name, text := range map[string]string{
		"list": sdkVersion + "\n", sdkVersion + ".mod": string(mod), sdkVersion + ".info": fmt.Sprintf(`{"Version":%q}`, sdkVersion),
	} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := os.Create(filepath.Join(at, sdkVersion+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	pack := zip.NewWriter(out)
	tree := os.DirFS("../../proto")
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		w, err := pack.Create(sdkModule + "@" + sdkVersion + "/" + name)
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := pack.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return proxy
}

// outsider is a module of somebody else, with a module cache of its own. It gets the SDK
// from sdkProxy and other modules from the module cache of this machine, without a network.
type outsider struct {
	t   *testing.T
	dir string
	env []string
}

func newOutsider(t *testing.T) *outsider {
	t.Helper()
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	o := &outsider{t: t, dir: t.TempDir()}
	downloads := filepath.Join(strings.TrimSpace(string(cache)), "cache", "download")
	// With -trimpath the build cache has what an earlier run built in another folder.
	o.env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOSUMDB=off", "GOFLAGS=-mod=mod -modcacherw -trimpath",
		"GOMODCACHE="+t.TempDir(), "GOPROXY=file://"+sdkProxy(t)+",file://"+downloads+",off")
	o.write("go.mod", "module example.com/outsider\n\ngo 1.26.0\n\nrequire "+sdkModule+" "+sdkVersion+"\n")
	return o
}

func (o *outsider) write(name, text string) {
	o.t.Helper()
	name = filepath.Join(o.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		o.t.Fatal(err)
	}
}

// goTool runs go in the module, and returns what it prints to stdout.
func (o *outsider) goTool(args ...string) (string, error) {
	o.t.Helper()
	cmd := exec.CommandContext(o.t.Context(), "go", args...)
	cmd.Dir, cmd.Env = o.dir, o.env
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), err, out, failed.String())
	}
	return string(out), err
}

// The examples and their tests, which run them against clienttest, in a module that
// requires the SDK by its version, and the modules in their programs.
func TestAModuleOfSomebodyElseBuildsAndTestsTheExamples(t *testing.T) {
	o := newOutsider(t)
	examples := os.DirFS("../../proto/client/examples")
	err := fs.WalkDir(examples, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(examples, name)
		if err == nil {
			o.write(name, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := o.goTool("test", "-json", "./...")
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]int{}
	for line := range strings.Lines(out) {
		var event struct{ Action, Package, Test string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("read the line %q of go test: %v", line, err)
		}
		if event.Action == "pass" && event.Test != "" {
			tested[event.Package]++
		}
	}
	for _, name := range []string{"fleet", "image-builder", "package-manager"} {
		if tested["example.com/outsider/"+name] == 0 {
			t.Errorf("no test of the example %s passes: %v", name, tested)
		}
	}
	out, err = o.goTool("list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./...")
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(out)
	slices.Sort(modules)
	want := []string{
		"example.com/outsider", sdkModule, "golang.org/x/net", "golang.org/x/sys", "golang.org/x/text",
		"google.golang.org/genproto/googleapis/rpc", "google.golang.org/grpc", "google.golang.org/protobuf",
	}
	slices.Sort(want)
	if got := slices.Compact(modules); !slices.Equal(got, want) {
		t.Errorf("the examples need the modules %q, want %q", got, want)
	}
}
