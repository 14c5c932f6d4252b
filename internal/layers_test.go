// Package internal_test holds the architecture: which package may import which.
package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/trident-project/trident/"

// layers is the import table, top to bottom. A package that is not in it, and an
// arrow that is not in it, fail. Tests may import what they like.
var layers = []struct{ pkg, may string }{
	// tools of the build
	{"packaging/build", "internal/linux/atomicfile internal/arch internal/version"},
	{"packaging/target", "internal/arch internal/version"},
	{"packaging/pictures", ""},
	{"packaging/docs", "internal/cli internal/hostconfig/schema internal/version"},

	// commands
	{"cmd/trident", "internal/cli"},
	{"cmd/trident-container", ""},
	{"cmd/tridentd", "internal/container internal/daemon internal/observe internal/errkind internal/version"},
	{"cmd/trident-rescue", "internal/rescue internal/version"},
	{"cmd/trident-gateway", "internal/gateway/command"},

	// edges: what the outside sees, and what it may import
	{"internal/cli", "internal/cli/command internal/cli/host internal/cli/hosts internal/cli/image internal/cli/operation internal/cli/self internal/cli/sysext internal/cli/terminal internal/version proto/client internal/cli/feed internal/cli/call"},
	{"internal/gateway/command", "internal/gateway/loginfile internal/gateway/connect internal/gateway/page internal/gateway/proxy internal/gateway/setup internal/gateway/config internal/gateway/token internal/linux/run internal/systemd internal/errkind internal/version internal/gateway/password"},
	{"internal/gateway/proxy", "internal/gateway/config internal/gateway/token internal/gateway/identity internal/gateway/rights internal/gateway/audit internal/gateway/limit internal/linux/regfile internal/errkind proto/errkind/grpckind proto/wire internal/gateway/jsonrpc internal/gateway/password"},
	{"internal/gateway/jsonrpc", "internal/interrupt internal/gateway/jsonrpc/envelope internal/gateway/jsonrpc/load internal/gateway/jsonrpc/methods internal/gateway/jsonrpc/openrpc internal/gateway/rights internal/errkind proto/errkind/grpckind internal/version proto/trident/operations/v1 internal/gateway/jsonrpc/uploads proto/trident/handles/v1 proto/trident/machine/v1"},
	{"internal/gateway/page", ""},
	{"internal/gateway/jsonrpc/methods", "internal/gateway/jsonrpc/openrpc internal/gateway/rights internal/errkind proto/wire proto/trident/operations/v1 proto/trident/self/v1 proto/trident/v1 proto/trident/machine/v1 proto/trident/v1preview"},
	{"internal/gateway/jsonrpc/envelope", ""},
	{"internal/gateway/jsonrpc/load", ""},
	{"internal/gateway/jsonrpc/uploads", "internal/errkind"},
	{"internal/gateway/jsonrpc/openrpc", ""},
	{"internal/gateway/setup", "internal/gateway/config internal/systemd internal/linux/regfile internal/linux/atomicfile internal/errkind"},
	{"internal/gateway/audit", "internal/errkind"},
	{"internal/gateway/limit", "internal/interrupt internal/errkind"},
	{"internal/cli/host", "internal/cli/command internal/cli/machine internal/cli/terminal internal/diagnose internal/errkind internal/linux/filekind internal/linux/outfile internal/linux/run internal/local internal/nearest internal/version proto/client proto/trident/host/v1 proto/trident/v1"},
	{"internal/cli/call", "internal/cli/command internal/cli/terminal internal/errkind"},
	{"internal/cli/hosts", "internal/cli/listen internal/cli/provision internal/cli/command internal/cli/terminal internal/hosts internal/errkind proto/client"},
	{"internal/cli/feed", "internal/when internal/bytesize internal/cli/command internal/cli/terminal internal/errkind internal/feed internal/feed/publish internal/fetch internal/linux/regfile internal/trust"},
	{"internal/cli/image", "internal/isopatch internal/arch internal/bytesize internal/cli/command internal/cli/terminal internal/errkind internal/fetch internal/image internal/image/build internal/linux/outfile internal/linux/regfile"},
	{"internal/cli/listen", "internal/cli/command internal/cli/terminal internal/errkind internal/linux/regfile proto/client"},
	{"internal/cli/machine", "internal/interrupt internal/bytesize internal/cli/command internal/cli/terminal proto/client proto/trident/machine/v1 internal/errkind"},
	{"internal/cli/operation", "internal/cli/command internal/cli/terminal internal/errkind proto/client proto/trident/operations/v1"},
	{"internal/cli/provision", "internal/bytesize internal/cli/command internal/cli/terminal internal/errkind internal/linux/filekind internal/linux/regfile internal/provision internal/provision/qemu internal/provision/redfish"},
	{"internal/cli/self", "internal/when internal/bytesize internal/cli/command internal/cli/terminal internal/errkind internal/fetch internal/linux/filekind internal/linux/regfile proto/client proto/trident/self/v1"},
	{"internal/cli/sysext", "internal/arch internal/bytesize internal/cli/command internal/cli/terminal internal/errkind internal/extension internal/linux/ddi internal/linux/outfile internal/linux/regfile internal/trust internal/version"},
	{"internal/cli/command/commandtest", "internal/cli/command internal/cli/terminal"},
	{"internal/cli/command", "internal/cli/terminal internal/hosts internal/nearest internal/errkind proto/client internal/linux/outfile"},
	{"internal/cli/terminal", "internal/bytesize internal/errkind proto/client proto/trident/operations/v1"},
	{"internal/hosts", "internal/nearest internal/settingsfile internal/linux/atomicfile internal/linux/regfile internal/errkind proto/client"},
	{"internal/local", "internal/api internal/hoststate internal/osconfig internal/hostconfig internal/linux/run internal/linux/inroot internal/errkind"},
	{"internal/daemon", "internal/interrupt internal/api/control internal/machine/capture internal/machine/files internal/machine/logs internal/machine/mounts internal/machine/power internal/machine/units internal/gateway/policy internal/linux/inroot internal/api internal/api/updating internal/updates internal/updates/settings internal/observe internal/servicing internal/servicing/change internal/servicing/oplog internal/servicing/runtime internal/servicing/slots internal/servicing/slots/disks internal/servicing/slots/loader internal/servicing/slots/machine internal/servicing/slots/rebuild internal/servicing/slots/wholedisk internal/selfservice internal/operation internal/hoststate internal/hostinfo internal/systemd internal/linux/run internal/linux/atomicfile internal/version internal/errkind internal/diagnose internal/api/machine"},
	{"internal/diagnose", "internal/linux/outfile internal/linux/regfile"},
	{"internal/observe", "internal/operation internal/errkind proto/wire"},
	{"internal/provision/provisiontest", "internal/gateway/connect internal/image internal/isopatch proto/client/clienttest"},
	{"internal/provision/qemu", "internal/errkind internal/linux/run"},
	{"internal/provision/redfish", "internal/errkind"},
	{"internal/provision", "internal/errkind internal/fetch internal/hostconfig internal/hostconfig/rules internal/image internal/isopatch internal/linux/regfile proto/client"},
	{"internal/gateway/connect", "internal/interrupt internal/systemd internal/linux/regfile internal/linux/atomicfile internal/linux/run internal/settingsfile internal/errkind"},
	{"internal/gateway/connect/connecttest", ""},
	{"internal/api/updating", "internal/when internal/updates internal/updates/settings internal/fetch internal/errkind proto/trident/self/v1"},
	{"internal/api", "internal/handles internal/fetch internal/servicing internal/selfservice internal/hoststate internal/storage internal/hostconfig internal/hostconfig/rules internal/operation internal/errkind proto/errkind/grpckind proto/wire " + generated},
	{"internal/api/control", "internal/machine/capture internal/machine/files internal/machine/logs internal/machine/mounts internal/machine/power internal/machine/units internal/systemd internal/errkind proto/trident/machine/v1"},
	{"internal/api/machine", "internal/hostinfo internal/machine/network internal/machine/system internal/errkind proto/trident/machine/v1"},
	{"internal/handles", "internal/fetch internal/linux/inroot internal/errkind internal/linux/regfile"},
	{"proto/client/examples/fleet", "proto/client"},
	{"proto/client/examples/image-builder", "proto/client proto/wire"},
	{"proto/client/examples/package-manager", "proto/client"},
	{"proto/client", "proto/errkind proto/errkind/grpckind proto/wire " + generated},
	{"proto/client/clienttest", "proto/errkind proto/errkind/grpckind proto/wire " + generated},

	// engine: what changes a host
	{"internal/servicing", "internal/servicing/oplog internal/servicing/runtime internal/servicing/slots internal/servicing/slots/rebuild internal/servicing/slots/wholedisk internal/servicing/change internal/operation internal/hoststate internal/hostconfig internal/hostconfig/diff internal/hostconfig/rules internal/errkind"},
	{"internal/servicing/oplog", "internal/interrupt internal/servicing/hooks internal/servicing/change internal/operation internal/hoststate internal/hostconfig internal/osconfig internal/linux/atomicfile"},
	{"internal/servicing/runtime", "internal/servicing/hooks internal/servicing/change internal/selfservice internal/operation internal/hoststate internal/extension internal/osconfig internal/hostconfig internal/hostconfig/diff internal/fetch internal/linux/inroot internal/errkind"},
	{"internal/servicing/slots", "internal/servicing/slots/loader internal/servicing/slots/disks internal/servicing/slots/newos internal/servicing/slots/liveos internal/servicing/slots/record internal/servicing/hooks internal/servicing/change internal/operation internal/hoststate internal/hostconfig internal/slot internal/errkind"},
	{"internal/servicing/slots/wholedisk", "internal/servicing/slots/disks internal/servicing/slots/liveos internal/servicing/slots/record internal/servicing/change internal/operation internal/hostconfig internal/image internal/fetch internal/linux/blockdev internal/linux/gpt internal/errkind internal/storage"},
	{"internal/servicing/slots/rebuild", "internal/servicing/slots/loader internal/servicing/slots/machine internal/servicing/change internal/operation internal/hoststate internal/storage internal/hostconfig internal/slot internal/linux/blockdev internal/linux/gpt internal/linux/md internal/errkind"},
	{"internal/servicing/slots/loader", "internal/servicing/slots/disks internal/servicing/slots/record internal/servicing/slots/machine internal/servicing/change internal/storage internal/hostconfig internal/boot internal/slot internal/linux/efivar internal/errkind internal/servicing/slots/seal internal/boot/grubcfg"},
	{"internal/servicing/slots/disks", "internal/servicing/slots/record internal/servicing/slots/machine internal/servicing/change internal/storage internal/hostconfig internal/image internal/fetch internal/hostinfo internal/linux/atomicfile internal/errkind internal/linux/verity internal/linux/blockdev"},
	{"internal/servicing/slots/newos", "internal/servicing/slots/newext internal/servicing/slots/record internal/servicing/slots/machine internal/servicing/hooks internal/servicing/change internal/osconfig internal/storage internal/hostconfig internal/hostconfig/rules internal/systemd internal/linux/inroot internal/errkind"},
	{"internal/servicing/slots/newext", "internal/servicing/slots/record internal/servicing/change internal/extension internal/osconfig internal/hostconfig internal/image internal/fetch internal/linux/atomicfile internal/errkind"},
	{"internal/servicing/slots/liveos", "internal/servicing/slots/record internal/servicing/change internal/osconfig internal/hostconfig internal/linux/inroot internal/errkind"},
	{"internal/servicing/slots/seal", "internal/servicing/slots/record internal/slot internal/linux/luks internal/linux/tpm internal/linux/regfile internal/linux/atomicfile internal/errkind"},
	{"internal/servicing/slots/record", "internal/operation internal/hoststate internal/extension internal/osconfig internal/storage internal/hostconfig internal/image internal/fetch internal/slot internal/errkind internal/linux/blockdev"},
	{"internal/servicing/slots/machine", "internal/storage internal/boot internal/hostinfo internal/linux/blockdev internal/linux/efivar internal/linux/fat internal/linux/loop internal/linux/md internal/linux/mount internal/linux/inroot internal/linux/run internal/errkind"},
	{"internal/servicing/hooks", "internal/servicing/change internal/hostconfig internal/systemd internal/linux/inroot internal/linux/atomicfile internal/errkind"},
	{"internal/servicing/change", "internal/operation internal/hoststate internal/extension internal/osconfig internal/storage internal/hostconfig internal/hostconfig/diff internal/systemd internal/linux/inroot internal/linux/run internal/linux/atomicfile internal/errkind"},
	{"internal/selfservice", "internal/selfservice/images internal/operation internal/hoststate internal/rescue internal/trust internal/extension internal/fetch internal/systemd internal/linux/inroot internal/linux/run internal/linux/atomicfile internal/errkind"},
	{"internal/selfservice/images", "internal/rescue internal/trust internal/extension internal/fetch internal/fetch/blocks internal/hostinfo internal/linux/ddi internal/linux/inroot internal/linux/regfile internal/linux/atomicfile internal/version internal/errkind"},
	{"internal/hoststate", "internal/operation internal/linux/inroot internal/linux/atomicfile internal/version internal/errkind"},
	{"internal/operation/operationtest", "internal/operation internal/errkind"},
	{"internal/operation", "internal/errkind"},
	{"internal/rescue", "internal/linux/atomicfile internal/linux/unmerged internal/version"},

	// domain: what a host, an image, a key is
	{"internal/gateway/policy", "internal/linux/regfile internal/gateway/config internal/gateway/token internal/gateway/identity internal/linux/inroot internal/errkind"},
	{"internal/gateway/config", "internal/gateway/identity internal/gateway/rights internal/bytesize internal/settingsfile internal/errkind"},
	{"internal/gateway/password", "internal/gateway/loginfile internal/linux/regfile internal/errkind"},
	{"internal/gateway/token", "internal/gateway/loginfile internal/gateway/rights internal/linux/regfile internal/errkind"},
	{"internal/gateway/loginfile", "internal/linux/atomicfile internal/errkind"},
	{"internal/gateway/identity", "internal/errkind"},
	{"internal/gateway/rights", "internal/nearest internal/errkind"},
	{"internal/updates/settings", "internal/updates internal/errkind"},
	{"internal/updates", "internal/when internal/settingsfile internal/bytesize internal/extension internal/feed internal/fetch internal/hostinfo internal/linux/regfile internal/linux/inroot internal/linux/atomicfile internal/version internal/errkind"},
	{"internal/feed/publish", "internal/feed internal/trust internal/extension internal/fetch internal/linux/ddi internal/linux/regfile internal/linux/atomicfile internal/version internal/errkind internal/patch"},
	{"internal/extension", "internal/extension/content internal/extension/volume internal/linux/regfile internal/hostinfo internal/fetch internal/systemd internal/linux/ddi internal/linux/inroot internal/linux/atomicfile internal/version internal/errkind internal/fetch/blocks"},
	{"internal/extension/content", "internal/linux/filekind internal/linux/inroot internal/linux/unmerged internal/errkind"},
	{"internal/extension/volume", "internal/linux/ddi internal/linux/filekind internal/linux/gpt internal/linux/loop internal/errkind"},
	{"internal/feed", "internal/version internal/arch internal/errkind"},
	{"internal/osconfig", "internal/hostconfig internal/hostconfig/rules internal/linux/inroot internal/linux/run internal/linux/atomicfile internal/errkind"},
	{"internal/isopatch", "internal/interrupt internal/errkind"},
	{"internal/image/build", "internal/image internal/boot internal/linux/fat internal/linux/filekind internal/linux/regfile internal/errkind"},
	{"internal/boot/boottest", "internal/boot internal/linux/efivar internal/linux/gpt internal/slot internal/errkind"},
	{"internal/boot", "internal/interrupt internal/linux/efivar internal/linux/gpt internal/slot internal/errkind"},
	{"internal/boot/grubcfg", "internal/errkind"},
	{"internal/hostinfo", "internal/arch internal/linux/inroot internal/errkind"},
	{"internal/storage", "internal/bytesize internal/hostconfig internal/slot internal/linux/blockdev internal/linux/gpt internal/linux/md internal/linux/luks internal/linux/run internal/errkind"},
	{"internal/hostconfig/rules", "internal/hostconfig internal/hostconfig/internal/form internal/linux/gpt"},
	{"internal/hostconfig/diff", "internal/hostconfig internal/hostconfig/internal/form internal/errkind"},
	{"internal/hostconfig/schema", "internal/hostconfig internal/hostconfig/internal/form"},
	{"internal/hostconfig", "internal/hostconfig/internal/form internal/nearest internal/errkind"},
	{"internal/hostconfig/internal/form", ""},
	{"internal/hostconfig/hostconfigtest", "internal/linux/damage"},
	{"internal/image", "internal/arch internal/fetch internal/linux/filekind internal/linux/gpt internal/linux/verity internal/errkind"},
	{"internal/fetch/blocks", "internal/fetch internal/patch internal/trust internal/linux/ddi internal/linux/gpt internal/linux/verity internal/linux/regfile internal/errkind"},
	{"internal/trust", "internal/linux/regfile internal/linux/ddi internal/linux/inroot internal/linux/unmerged internal/errkind"},
	{"internal/patch", "internal/errkind"},
	{"internal/fetch", "internal/interrupt internal/linux/inroot internal/linux/regfile internal/linux/atomicfile internal/linux/run internal/errkind"},

	// machine: one interface of the kernel or of systemd each
	{"internal/machine/capture", "internal/errkind"},
	{"internal/machine/files", "internal/linux/inroot internal/linux/regfile internal/bytesize internal/errkind"},
	{"internal/machine/logs", "internal/interrupt internal/systemd internal/linux/run internal/linux/regfile internal/errkind"},
	{"internal/machine/mounts", "internal/systemd internal/linux/atomicfile internal/linux/run internal/errkind"},
	{"internal/machine/power", "internal/systemd internal/errkind"},
	{"internal/machine/units", "internal/systemd internal/errkind"},
	{"internal/container", "internal/errkind"},
	{"internal/systemd/systemdtest", "internal/systemd internal/errkind"},
	{"internal/systemd", "internal/linux/run internal/errkind"},
	{"internal/machine/network", "internal/errkind"},
	{"internal/machine/system", "internal/errkind"},
	{"internal/linux/damage", ""},
	{"internal/hosttest", ""},
	{"internal/sourcetest", ""},
	{"internal/linux/md/mdtest", "internal/linux/md internal/linux/blockdev internal/errkind"},
	{"internal/linux/md", "internal/linux/blockdev internal/linux/run internal/errkind"},
	{"internal/linux/blockdev/blockdevtest", "internal/linux/blockdev internal/linux/gpt"},
	{"internal/linux/blockdev", "internal/linux/gpt internal/errkind"},
	{"internal/linux/ddi", "internal/linux/ddi/pclusters internal/linux/regfile internal/linux/filekind internal/linux/gpt internal/linux/verity internal/linux/run internal/linux/atomicfile internal/errkind"},
	{"internal/linux/ddi/pclusters", "internal/errkind"},
	{"internal/linux/efivar/efivartest", "internal/linux/efivar internal/errkind"},
	{"internal/linux/efivar", "internal/linux/gpt internal/errkind"},
	{"internal/linux/fat", "internal/errkind"},
	{"internal/linux/filekind", "internal/linux/gpt internal/linux/regfile internal/errkind"},
	{"internal/linux/gpt", "internal/errkind"},
	{"internal/linux/luks/lukstest", "internal/linux/luks internal/errkind"},
	{"internal/linux/luks", "internal/linux/run internal/errkind"},
	{"internal/linux/tpm/tpmtest", "internal/linux/tpm internal/errkind"},
	{"internal/linux/tpm", "internal/errkind"},
	{"internal/linux/verity", "internal/errkind"},
	{"internal/linux/inroot", "internal/linux/regfile internal/errkind"},
	{"internal/linux/loop", "internal/errkind"},
	{"internal/linux/mount/mounttest", "internal/linux/mount"},
	{"internal/linux/mount", "internal/errkind"},
	{"internal/linux/regfile", "internal/errkind internal/interrupt"},
	{"internal/linux/run", "internal/errkind"},
	{"internal/linux/outfile", "internal/linux/atomicfile internal/errkind"},
	{"internal/linux/atomicfile", ""},
	{"internal/linux/unmerged", ""},

	// words: what every layer speaks of
	{"internal/settingsfile", "internal/nearest internal/errkind"},
	{"internal/slot", "internal/errkind"},
	{"internal/when", "internal/errkind"},
	{"internal/interrupt", "internal/errkind"},
	{"internal/errkind", "proto/errkind"},
	{"internal/version", ""},
	{"internal/bytesize", ""},
	{"internal/arch", ""},
	{"internal/nearest", ""},

	// the wire
	{"proto/errkind/grpckind", "proto/errkind"},
	{"proto/errkind", ""},
	{"proto/wire", ""},
	{"proto/trident/machine/v1", "proto/trident/host/v1 proto/trident/operations/v1"},
	{"proto/trident/self/v1", "proto/trident/operations/v1"},
	{"proto/trident/host/v1", "proto/trident/operations/v1 proto/trident/v1"},
	{"proto/trident/setup/v1", ""},
	{"proto/trident/handles/v1", ""},
	{"proto/trident/operations/v1", ""},
	{"proto/trident/v1preview", "proto/trident/v1"},
	{"proto/trident/v1", ""},
}

const generated = "proto/trident/v1 proto/trident/v1preview proto/trident/operations/v1 proto/trident/self/v1 " +
	"proto/trident/setup/v1 proto/trident/handles/v1 proto/trident/host/v1 proto/trident/machine/v1"

// commands are the packages that read the command line of trident.
const commands = "internal/cli internal/cli/call internal/cli/command internal/cli/command/commandtest internal/cli/feed internal/cli/host internal/cli/hosts internal/cli/image internal/cli/listen internal/cli/machine internal/cli/operation internal/cli/provision internal/cli/self internal/cli/sysext"

// keepers are the only packages that may import a module from outside that is
// large, or dangerous, or that ties us to a format.
var keepers = map[string]string{
	"google.golang.org/grpc":          "internal/gateway/proxy internal/api internal/observe proto/errkind/grpckind proto/client proto/client/clienttest internal/api/machine internal/api/control internal/cli/machine internal/gateway/jsonrpc internal/gateway/jsonrpc/methods internal/gateway/jsonrpc/uploads " + generated,
	"google.golang.org/protobuf":      "internal/api internal/api/updating internal/observe internal/cli/host internal/cli/self internal/cli/terminal proto/client proto/client/clienttest internal/api/machine internal/cli/machine internal/api/control internal/gateway/jsonrpc/methods internal/gateway/jsonrpc/openrpc " + generated,
	"github.com/prometheus":           "internal/observe",
	"go.opentelemetry.io":             "internal/observe",
	"modernc.org/sqlite":              "internal/hoststate",
	"github.com/coreos/go-systemd":    "internal/systemd",
	"github.com/godbus/dbus":          "internal/systemd",
	"github.com/spf13/cobra":          commands + " internal/gateway/command packaging/docs internal/gateway/connect",
	"github.com/erofs/go-erofs":       "internal/linux/ddi internal/extension",
	"github.com/smallstep/pkcs7":      "internal/extension internal/linux/ddi",
	"github.com/goreleaser/nfpm":      "packaging/build",
	"github.com/rivo/uniseg":          "internal/cli/terminal",
	"github.com/moby/sys":             "internal/linux/blockdev internal/linux/mount internal/machine/logs internal/machine/mounts internal/machine/system internal/servicing/slots/liveos",
	"github.com/klauspost/compress":   "internal/diagnose internal/image internal/patch internal/linux/ddi/pclusters internal/hosttest",
	"go.yaml.in/yaml":                 "internal/cli/host internal/cli/terminal internal/diagnose internal/hoststate internal/hostconfig internal/hostconfig/internal/form internal/hosts internal/osconfig packaging/build internal/settingsfile",
	"github.com/theupdateframework":   "internal/updates internal/feed/publish",
	"os/exec":                         "internal/linux/run internal/rescue packaging/build cmd/trident-container proto/client",
	"github.com/ProtonMail/go-crypto": "internal/feed/publish",
	"github.com/coder/websocket":      "internal/gateway/jsonrpc",
	"golang.org/x/crypto":             "internal/gateway/password internal/trust internal/linux/ddi internal/cli/sysext",
	"github.com/rogpeppe/go-internal": "",
	"github.com/google/go-cmp":        "internal/hosttest internal/cli/command/commandtest internal/operation/operationtest internal/systemd/systemdtest internal/boot/boottest internal/hostconfig/hostconfigtest",
}

// standardOnly are the programs that have to work when nothing else does.
var standardOnly = []string{"cmd/trident-rescue"}

// imports reads what every package of the tree imports, tests, generated code's
// folders without packages, and the end-to-end tests apart.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	root := ".."
	for _, top := range []string{"cmd", "internal", "proto", "packaging"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "testdata" || rel == "internal/e2e") {
				return fs.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			pkg := path.Dir(filepath.ToSlash(rel))
			out[pkg] = append(out[pkg], []string{}...)
			for _, i := range f.Imports {
				p, err := strconv.Unquote(i.Path.Value)
				if err != nil {
					return err
				}
				out[pkg] = append(out[pkg], p)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestImportsFollowTheTable(t *testing.T) {
	may := map[string][]string{}
	rank := map[string]int{}
	for i, l := range layers {
		may[l.pkg], rank[l.pkg] = strings.Fields(l.may), i
	}
	found := imports(t)
	for pkg, list := range found {
		allowed, ok := may[pkg]
		if !ok {
			t.Errorf("%s is not in the table: give it a line, and one in internal/README.md", pkg)
			continue
		}
		for _, p := range list {
			if to, ours := strings.CutPrefix(p, module); ours && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s, which the table does not allow", pkg, to)
			}
		}
	}
	for _, l := range layers {
		list, ok := found[l.pkg]
		if !ok {
			t.Errorf("%s is in the table and not in the tree", l.pkg)
		}
		for _, to := range may[l.pkg] {
			if rank[to] <= rank[l.pkg] {
				t.Errorf("the table has an arrow up, from %s to %s", l.pkg, to)
			}
			if !slices.Contains(list, module+to) && !strings.HasPrefix(to, "proto/trident/") {
				t.Errorf("%s may import %s, and does not: take it out of the table", l.pkg, to)
			}
		}
	}
}

func TestOnlyOnePackageImportsADangerousModule(t *testing.T) {
	for pkg, list := range imports(t) {
		for _, p := range list {
			for mod, who := range keepers {
				if (p == mod || strings.HasPrefix(p, mod+"/")) && !slices.Contains(strings.Fields(who), pkg) {
					t.Errorf("%s imports %s; only these may: %s", pkg, p, who)
				}
			}
		}
	}
}

func TestTheRescuerUsesTheStandardLibraryOnly(t *testing.T) {
	found := imports(t)
	var check func(pkg string)
	seen := map[string]bool{}
	check = func(pkg string) {
		if seen[pkg] {
			return
		}
		seen[pkg] = true
		for _, p := range found[pkg] {
			if to, ours := strings.CutPrefix(p, module); ours {
				check(to)
			} else if first, _, _ := strings.Cut(p, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s, and is part of a program that uses the standard library only", pkg, p)
			}
		}
	}
	for _, pkg := range standardOnly {
		check(pkg)
	}
}

func TestNoPackageHasAnInit(t *testing.T) {
	for pkg := range imports(t) {
		if strings.HasPrefix(pkg, "proto/trident/") { // generated
			continue
		}
		files, err := filepath.Glob(filepath.Join("..", pkg, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s has an init", name)
				}
			}
		}
	}
}
