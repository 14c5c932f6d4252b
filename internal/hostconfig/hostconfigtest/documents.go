// Package hostconfigtest has documents for the tests of the packages of the Host Configuration.
package hostconfigtest

import (
	"embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/linux/damage"
)

//go:embed testdata/*.yaml
var documents embed.FS

var update = flag.Bool("update", false, "write the golden files anew")

// Change is one replacement in a document: of the first text by the second.
type Change [2]string

// Document returns the document name (slots, verity, usr, single, wrong, ten) with changes.
func Document(t testing.TB, name string, changes ...Change) string {
	t.Helper()
	b, err := documents.ReadFile("testdata/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, c := range changes {
		if strings.Count(text, c[0]) != 1 {
			t.Fatalf("%s.yaml has %q %d times", name, c[0], strings.Count(text, c[0]))
		}
		text = strings.Replace(text, c[0], c[1], 1)
	}
	return text
}

// Upstream returns upstream's documents, from a folder beside the repository, by name.
// root is the path from the folder of the test to the repository.
func Upstream(t testing.TB, root string) map[string][]byte {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "../shared/testdata/hostconfig/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Skip("no samples at ../shared/testdata/hostconfig beside the repository")
	}
	out := map[string][]byte{}
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(name)] = text
	}
	return out
}

// Golden compares got with the file testdata/name, or writes the file with -update.
func Golden(t *testing.T, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// Lines returns each of a list on a line of its own.
func Lines[T fmt.Stringer](list []T) string {
	var b strings.Builder
	for _, one := range list {
		b.WriteString(one.String() + "\n")
	}
	return b.String()
}

// Whole returns a document with every key of the schema.
func Whole() string { return strings.ReplaceAll(whole, "HASH", strings.Repeat("0a", 48)) }

// Fuzz tries target with texts: a long one, of which bytes are edited, and a short one
// behind it. A long text as a whole would take the fuzzer a minute each time that it finds
// something new: it tries to leave out each range of bytes.
func Fuzz(f *testing.F, target func(t *testing.T, text []byte), more ...[]byte) {
	f.Helper()
	bases := append([][]byte{{}}, more...)
	for _, name := range []string{"ten", "slots", "verity", "usr", "wrong"} {
		bases = append(bases, []byte(Document(f, name)))
	}
	for base := range bases {
		f.Add(uint8(base), []byte{}, []byte{})
		f.Add(uint8(base), damage.At(100, '~'), []byte("os: {}\n"))
	}
	for _, text := range []string{
		"", "{}", "a: &a [*a]", "storage: {disks: []}", "os: {netplan: {}, modules: [{name: m, options: {}}]}\ninternalParams: {}", "os: {<<: {}}", "health: {checks: [{systemdServices: [a]}]}", "storage: {swap: [a], filesystems: [{mountPoint: /}]}",
		"os:\n  additionalFiles:\n  - destination: /x\n    content: |2-\n       a\n     b\n\n", "internalParams: {a: [1.50, 0x1, yes, ~, {}]}",
		"storage: {disks: [{id: d, device: /d, partitionTableType: gpt, partitions: [{id: p, size: grow}], adoptedPartitions: [{id: a, matchLabel: l}]}]}",
		"image: {url: 'file:///x', sha384: ignored}\nscripts: {preServicing: [{name: n, runOn: [all], content: 'x'}]}",
	} {
		f.Add(uint8(0), []byte{}, []byte(text))
	}
	f.Fuzz(func(t *testing.T, base uint8, edits, text []byte) {
		if len(text) < 1<<10 {
			target(t, append(damage.Apply(bases[int(base)%len(bases)], edits), text...))
		}
	})
}

const whole = `trident: {disable: false, datastorePath: /x.sqlite, phonehome: 'http://h', logstream: 'http://l'}
image: {url: 'https://h/x', sha384: ignored}
storage:
  disks:
  - {id: d, device: /dev/sda, partitionTableType: gpt, partitions: [{id: p, type: root, size: 4K, uuid: 0fc63daf-8483-4772-8e79-3d69d8477de4, label: l}],
     adoptedPartitions: [{id: a, matchLabel: l}, {id: b, matchUuid: 0fc63daf-8483-4772-8e79-3d69d8477de4}]}
  encryption: {recoveryKeyUrl: 'file:///k', volumes: [{id: e, deviceName: n, deviceId: p}], pcrs: [7, kernel-boot], clearTpmOnInstall: true}
  raid: {software: [{id: r, name: n, level: raid1, devices: [a, b]}], syncTimeout: 5}
  abUpdate: {volumePairs: [{id: v, volumeAId: a, volumeBId: b}]}
  filesystems:
  - {deviceId: p, source: image, mountPoint: {path: /, options: ro}, overrideEspMount: block}
  - {deviceId: p, source: new, type: ext4, mountPoint: /x}
  - {source: new, type: tmpfs, mountPoint: /tmp}
  - {deviceId: p, source: adopted, type: auto}
  verity: [{id: v, name: root, dataDeviceId: a, hashDeviceId: b, corruptionOption: panic}]
  swap: [a, {deviceId: b}]
scripts:
  preServicing: [{name: n, runOn: [all], interpreter: /bin/bash, content: x, arguments: [a], environmentVariables: {K: v}}]
  postProvision: [{name: n, path: /x}]
  postConfigure: []
os:
  netplan: {version: 2}
  selinux: {mode: enforcing}
  users: [{name: u, uid: 1, homeDirectory: /h, password: {type: locked}, primaryGroup: g, secondaryGroups: [s], sshPublicKeys: [k], sshMode: key-only, startupCommand: /c}]
  additionalFiles: [{destination: /d, content: c, permissions: '0644'}, {destination: /e, source: /s}]
  hostname: h
  modules: [{name: m, loadMode: auto, options: {o: v}}]
  services: {enable: [a], disable: [b]}
  kernelCommandLine: {extraCommandLine: [x]}
  sysexts: [{url: 'file:///x', sha384: HASH, path: /p}]
  confexts: [{url: 'file:///y', sha384: HASH}]
  uefiFallback: optimistic
managementOs: {netplan: {version: 2}, users: [{name: u}]}
health: {checks: [{name: n, runOn: [all], content: x}, {name: s, systemdServices: [u], timeoutSeconds: 1, runOn: [ab-update]}]}
internalParams: {anything: [1]}
`

// ProcessorTime runs fn and returns how long the processor worked for it, which does not
// depend on what else the machine does. fn must not start goroutines.
func ProcessorTime(t *testing.T, fn func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime(t)
	fn()
	return threadTime(t) - before
}

func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_THREAD, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
