package newos

import (
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

func TestTheNewOSKnowsItsArraysAndVolumes(t *testing.T) {
	t.Parallel()
	const layered = `storage:
  raid: {software: [{id: data-raw, name: data, level: raid1, devices: [one, two]}]}
  encryption: {pcrs: [7], volumes: [{id: data, deviceName: srv, deviceId: data-raw}]}
`
	array := blockdev.Other{Name: "md127", Path: "/dev/md127", Links: []string{"/dev/md/data"}, Is: blockdev.Array, UUID: "01020304-0506-0708-090a-0b0c0d0e0f10"}
	for name, tt := range map[string]struct {
		config  string
		others  []blockdev.Other
		want    map[string]string // a line of each file; "" for the file of the image
		variant string
	}{
		"array and volume": {layered, []blockdev.Other{array}, map[string]string{
			mdadmConf: "ARRAY /dev/md/data UUID=01020304:05060708:090a0b0c:0d0e0f10\n", crypttab: "srv /dev/md/data none luks,tpm2-device=auto\n",
		}, ""},
		"neither":             {"storage: {}\n", nil, map[string]string{mdadmConf: "", crypttab: ""}, ""},
		"an array that stops": {layered, nil, map[string]string{mdadmConf: "", crypttab: ""}, errkind.NameCreateMdadmConf},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := hosttest.TempDir(t)
			for file := range tt.want {
				hosttest.Write(t, filepath.Join(root, file), "of the image\n")
			}
			inv := &blockdev.Inventory{Others: tt.others}
			o := &OS{Host: change.New(change.Host{Root: hosttest.TempDir(t)}), Machine: machine.Machine{Inventory: func() (*blockdev.Inventory, error) { return inv, nil }}}
			r := &record.Run{}
			r.State.Asked = hostconfig.NewRecorded(tt.config)
			c, err := r.State.Config()
			if err != nil {
				t.Fatal(err)
			}
			if err := o.writeLayers(t.Context(), r, c, root); errkind.Variant(err) != tt.variant {
				t.Errorf("got %v", err)
			}
			for file, line := range tt.want {
				text := hosttest.Text(t, filepath.Join(root, file))
				if line == "" && text != "of the image\n" || line != "" && (len(text) <= len(line) || text[len(text)-len(line):] != line) {
					t.Errorf("%s has %q", file, text)
				}
			}
		})
	}
}
