package local

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
)

const offlineHistory = `[
  {"timestamp": "2026-01-01T00:00:00Z", "config": {"storage": {"disks": [{"partitions": [{"id": "old"}]}]}}},
  {"timestamp": "2026-01-02T00:00:00Z", "config": {"storage": {
    "disks": [{"partitionTableType": "gpt", "partitions": [
      {"id": "esp", "type": "esp", "start": "1M", "size": "64M"},
      {"id": "usr-a", "label": "usr-a", "size": "1G"},
      {"id": "usr-b", "size": "1G"},
      {"id": "root-a", "label": "rootfs-a", "size": "grow"}]}],
    "verity": [{"id": "usr", "name": "usr", "dataDeviceId": "usr-a", "hashDeviceId": "hash"}],
    "filesystems": [
      {"deviceId": "esp", "type": "vfat", "mountPoint": {"path": "/boot/efi", "options": "umask=0077"}},
      {"deviceId": "root-a", "mountPoint": {"path": "/"}},
      {"deviceId": "usr"}]}}},
  {"timestamp": "2026-01-03T00:00:00Z", "config": {"os": {"hostname": "x"}}}
]`

const offlineDevices = `{"blockdevices": [
  {"type": "disk", "maj:min": "8:0", "ptuuid": "other", "children": [{"type": "part", "maj:min": "8:1", "size": 1, "partuuid": "x", "partlabel": "esp", "partn": 1}]},
  {"type": "loop", "maj:min": "7:0", "ptuuid": "disk-uuid", "children": [
    {"type": "part", "maj:min": "259:4", "size": 4294967296, "partuuid": "u4", "partlabel": "rootfs-a", "partn": 4},
    {"type": "part", "maj:min": "259:1", "size": 67108864, "partuuid": "u1", "partlabel": "esp", "partn": 1},
    {"type": "part", "maj:min": "259:2", "size": 1073741824, "partuuid": "u2", "partlabel": "usr-a", "partn": 2},
    {"type": "part", "maj:min": "259:3", "size": 1073741824, "partuuid": "u3", "partlabel": null, "partn": 3}]}
]}`

func offlineInput() imageFacts {
	return imageFacts{
		History: []byte(offlineHistory), Devices: []byte(offlineDevices), RootDevice: "259:4", Disk: "/dev/sda", Version: "1.2.3",
		Lazy: map[string]string{"root-b": "u5"},
	}
}

func TestAnImageGetsTheRecordOfItsPartitions(t *testing.T) {
	t.Parallel()
	got, err := layoutStatus(offlineInput())
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	for id, uuid := range map[string]string{"esp": "u1", "usr-a": "u2", "usr-b": "u3", "root-a": "u4", "root-b": "u5"} {
		paths[id] = "/dev/disk/by-partuuid/" + uuid
	}
	if !maps.Equal(got.PartitionPaths, paths) || got.Phase != (hoststate.Settled{}) || got.ABActiveVolume != hoststate.VolumeA ||
		got.TridentVersion != "1.2.3" || got.DiskUUIDs[diskID] != "disk-uuid" {
		t.Errorf("got %+v", got)
	}
	want := `storage:
  disks:
  - id: disk0
    device: /dev/sda
    partitionTableType: gpt
    partitions:
    - id: esp
      type: esp
      size: 64M
    - id: usr-a
      size: 1G
      label: usr-a
    - id: usr-b
      size: 1G
    - id: root-a
      size: 4G
      label: rootfs-a
    - id: root-b
      size: 4G
  abUpdate:
    volumePairs:
    - id: usr-ab
      volumeAId: usr-a
      volumeBId: usr-b
    - id: root
      volumeAId: root-a
      volumeBId: root-b
  filesystems:
  - deviceId: esp
    mountPoint:
      path: /boot/efi
      options: umask=0077
  - deviceId: root
    mountPoint:
      path: /
  - deviceId: usr
  verity:
  - id: usr
    name: usr
    dataDeviceId: usr-ab
    hashDeviceId: hash
internalParams:
  injectedHostStatus: true
`
	recorded, err := hostconfig.ParseRecorded([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(recorded.YAML()), got.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestAnImageWithoutPairsHasNoActiveVolume(t *testing.T) {
	t.Parallel()
	in := offlineInput()
	in.Lazy, in.RootDevice = nil, "0:23" // an overlay: the number of partitions decides
	in.History = []byte(strings.NewReplacer("usr-a", "usr-1", "usr-b", "usr-2", "root-a", "root-1").Replace(offlineHistory))
	in.Devices = []byte(strings.ReplaceAll(offlineDevices, "usr-a", "usr-1"))
	got, err := layoutStatus(in)
	if err != nil || got.ABActiveVolume != "" || strings.Contains(got.Spec, "abUpdate") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAnImageThatCannotBeUnderstoodIsRefusedByName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*imageFacts)
		want   string
	}{
		"no JSON":               {func(o *imageFacts) { o.History = []byte("x") }, "ParsePrismHistory"},
		"an empty history":      {func(o *imageFacts) { o.History = []byte("[]") }, "ParsePrismHistory"},
		"a partition twice":     {func(o *imageFacts) { o.History = []byte(strings.ReplaceAll(offlineHistory, "usr-b", "usr-a")) }, "ParsePrismHistory"},
		"two disks":             {func(o *imageFacts) { o.History = []byte(`[{"config":{"storage":{"disks":[{},{}]}}}]`) }, "ParsePrismHistory"},
		"no such disk":          {func(o *imageFacts) { o.Devices, o.RootDevice = []byte("{}"), "" }, "ParsePrismHistory"},
		"no such partition":     {func(o *imageFacts) { o.Devices = []byte(strings.ReplaceAll(offlineDevices, `"usr-a"`, `"z"`)) }, "ParsePrismHistory"},
		"a lazy one that is":    {func(o *imageFacts) { o.Lazy = map[string]string{"usr-b": "x"} }, "InvalidLazyPartition"},
		"a lazy one alone":      {func(o *imageFacts) { o.Lazy = map[string]string{"home-b": "x"} }, "InvalidLazyPartition"},
		"a lazy one of no pair": {func(o *imageFacts) { o.Lazy = map[string]string{"home": "x"} }, "InvalidLazyPartition"},
	} {
		in := offlineInput()
		c.change(&in)
		if _, err := layoutStatus(in); errkind.Variant(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnImageWhosePairsAreNotAllNamedIsRefused(t *testing.T) {
	t.Parallel()
	in := offlineInput()
	in.Lazy = nil
	_, err := layoutStatus(in)
	if errkind.Variant(err) != "InvalidLazyPartition" || !strings.Contains(err.Error(), "root-b") || !strings.Contains(errkind.Hint(err), "root-b:PARTUUID") {
		t.Errorf("%v; %s", err, errkind.Hint(err))
	}
}
