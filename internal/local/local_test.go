package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/proto/client"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

func TestTheAPIInMemoryValidatesAndDoesNothingElse(t *testing.T) {
	t.Parallel()
	s, err := Serve("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial("memory", client.WithDialer(s.Dial))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.Version(t.Context()); v != "1.2.3" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
	host := hostv1.NewHostServiceClient(c.Conn())
	found, err := host.ValidateConfig(t.Context(), &hostv1.ValidateConfigRequest{Config: &hostv1.ValidateConfigRequest_Text{Text: "x: 1"}})
	if err != nil || found.GetValid() || len(found.GetFindings()) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := host.GetHost(t.Context(), &hostv1.GetHostRequest{}); client.Kind(err) != errkind.Unsupported {
		t.Errorf("it says what host this is: %v", err)
	}
	if _, err := c.Status(t.Context()); client.Kind(err) != errkind.Unsupported {
		t.Errorf("it services itself: %v", err)
	}
	if err := errors.Join(c.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if conn, err := s.Dial(t.Context()); err == nil {
		t.Error("it answers after its end", conn.Close())
	}
}

func TestTheNetworkOfTheInstallerComesFirst(t *testing.T) {
	t.Parallel()
	const ours, theirs = "os: {netplan: {version: 2, ethernets: {eth0: {dhcp4: true}}}}\n", "managementOs: {netplan: {version: 2, ethernets: {eth1: {dhcp4: true}}}}\n"
	for config, want := range map[string]string{ours: "eth0", ours + theirs: "eth1", "os: {}\n": ""} {
		root := t.TempDir()
		var ran []string
		tools := run.Func(func(_ context.Context, name string, args ...string) ([]byte, error) {
			ran = append(ran, strings.Join(append([]string{name}, args...), " "))
			return nil, nil
		})
		started, err := StartNetwork(t.Context(), root, []byte(config), tools)
		text, rerr := os.ReadFile(filepath.Join(root, osconfig.Netplan))
		if want == "" {
			if started || err != nil || rerr == nil || len(ran) > 0 {
				t.Errorf("%q: %v, %v, ran %v", config, started, err, ran)
			}
			continue
		}
		if !started || err != nil || strings.Join(ran, ";") != "netplan apply" || !strings.HasPrefix(string(text), "network:\n") || !strings.Contains(string(text), want) {
			t.Errorf("%q: %v, %v, ran %v, file:\n%s", config, started, err, ran, text)
		}
		if info, err := os.Stat(filepath.Join(root, osconfig.Netplan)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

func TestANetworkThatDoesNotStartIsAnErrorByName(t *testing.T) {
	t.Parallel()
	broken := run.Func(func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("no netplan") })
	config := []byte("os: {netplan: {version: 2, ethernets: {eth0: {dhcp4: true}}}}\n")
	if _, err := StartNetwork(t.Context(), t.TempDir(), config, broken); errkind.Variant(err) != "StartNetwork" {
		t.Errorf("apply: %v", err)
	}
	root, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(root, "etc")); err != nil {
		t.Fatal(err)
	}
	_, err := StartNetwork(t.Context(), root, config, broken)
	left, rerr := os.ReadDir(outside)
	if errkind.Variant(err) != "WriteNetplanConfig" || rerr != nil || len(left) > 0 {
		t.Errorf("a link out of the tree: %v, left %v", err, left)
	}
	if _, err := StartNetwork(t.Context(), root, []byte("x: 1"), broken); errkind.Variant(err) != "ParseHostConfiguration" {
		t.Errorf("a bad configuration: %v", err)
	}
}

const history = `[{"config": {"storage": {"disks": [{"partitions": [{"id": "esp", "type": "esp"}, {"id": "root"}]}],
  "filesystems": [{"deviceId": "esp", "mountPoint": {"path": "/efi"}}, {"deviceId": "root", "mountPoint": {"path": "/"}}]}}}]`

func TestAnImageIsInitialized(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, filepath.Join(root, "history.json"), history)
	write(t, filepath.Join(root, "efi/EFI/BOOT/bootx64.efi"), "loader")
	write(t, filepath.Join(root, "efi/EFI/BOOT/x/grub.cfg"), "menu")
	lsblk := run.Func(func(_ context.Context, name string, _ ...string) ([]byte, error) {
		return []byte(`{"blockdevices": [{"maj:min": "7:0", "children": [
			{"partn": 1, "size": 4096, "partuuid": "a", "partlabel": "esp"}, {"partn": 2, "size": 4096, "partuuid": "b", "partlabel": "root"}]}]}`), nil
	})
	in := Initialization{Root: root, History: filepath.Join(root, "history.json"), Disk: "/dev/vda", Version: "1.2.3", Tools: lsblk}
	if err := Initialize(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"efi/EFI/AZLA/bootx64.efi": "loader", "efi/EFI/AZLA/x/grub.cfg": "menu"} {
		if text, err := os.ReadFile(filepath.Join(root, name)); string(text) != want || err != nil {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	store, err := hoststate.Open(t.Context(), filepath.Join(root, hoststate.DefaultPath))
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.Status(t.Context())
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	if got.Phase != (hoststate.Settled{}) || got.PartitionPaths["root"] != "/dev/disk/by-partuuid/b" || !strings.Contains(got.Spec, "injectedHostStatus: true") {
		t.Errorf("recorded %+v", got)
	}
	if err := Initialize(t.Context(), in); errkind.Of(err) != errkind.Exists {
		t.Errorf("again: %v", err)
	}
}

// The boot files of volume A are made in each form of the record, and never over
// those that are there.
func TestTheBootFilesOfVolumeAAreMade(t *testing.T) {
	t.Parallel()
	status := func(esp string) string {
		return "servicingState: provisioned\nspec:\n  storage:\n    disks:\n    - {id: d, device: /dev/sda, partitions: [{id: esp, type: esp, size: 64M}]}\n" +
			"    filesystems:\n    - {deviceId: esp, mountPoint: " + esp + "}\n"
	}
	for name, c := range map[string]struct{ status, esp, there, want string }{
		"a host status":           {status("/boot/efi"), "boot/efi", "", "loader"},
		"a host status, ESP /efi": {status("/efi"), "efi", "", "loader"},
		"no storage":              {"servicingState: provisioned\nspec: {}\n", "boot/efi", "", "loader"},
		"there already":           {status("/boot/efi"), "boot/efi", "own", "own"},
	} {
		root := t.TempDir()
		write(t, filepath.Join(root, "status"), c.status)
		write(t, filepath.Join(root, c.esp, "EFI/BOOT/bootx64.efi"), "loader")
		azla := filepath.Join(root, c.esp, "EFI/AZLA/bootx64.efi")
		if c.there != "" {
			write(t, azla, c.there)
		}
		if err := Initialize(t.Context(), Initialization{Root: root, Status: filepath.Join(root, "status")}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if text, err := os.ReadFile(azla); err != nil || string(text) != c.want {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func TestAnImageWithoutAHistoryIsRefusedByName(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, filepath.Join(root, "bad"), "spec: [")
	for want, in := range map[string]Initialization{
		"HistoryFileNotFound": {Root: root, History: filepath.Join(root, "none")},
		"ReadInputFile":       {Root: root, Status: filepath.Join(root, "none")},
		"ParseHostStatus":     {Root: root, Status: filepath.Join(root, "bad")},
	} {
		if err := Initialize(t.Context(), in); errkind.Variant(err) != want {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestTheDatastoreOfAHostIsCopiedFromWhereItIs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, filepath.Join(root, "etc/trident/trident.conf"), "DatastorePath=/srv/d.sqlite\n")
	store, err := hoststate.Open(t.Context(), filepath.Join(root, "srv/d.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	err = store.Record(t.Context(), hoststate.Status{Phase: hoststate.Settled{}, Spec: "os:\n  hostname: h\n"})
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	if err := CopyDatastore(t.Context(), root, filepath.Join(root, "copy"), strings.Clone); err != nil {
		t.Error(err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}
