//go:build vm

package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	v1preview "github.com/trident-project/trident/proto/trident/v1preview"
)

// datastorePath is where Trident keeps what it knows of a host.
const datastorePath = "/var/lib/trident/datastore.sqlite"

// installedImage is the image in upstream's record. Trident does not read the image, and has
// to keep the entry.
const installedImage = "image:\n  url: http://images.example.com/host.cosi\n  sha384: " +
	"38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b\n"

// installedSpec is a Host Configuration of upstream with two slots.
const installedSpec = installedImage + `storage:
  disks:
  - id: os
    device: /dev/disk/by-path/pci-0000:00:1f.2-ata-2.0
    partitionTableType: gpt
    partitions:
    - id: esp
      type: esp
      size: 64M
    - id: root-a
      type: root
      size: 8G
    - id: root-b
      type: root
      size: 8G
    - id: trident
      type: linux-generic
      size: 128M
  abUpdate:
    volumePairs:
    - id: root
      volumeAId: root-a
      volumeBId: root-b
  filesystems:
  - deviceId: esp
    mountPoint:
      path: /boot/efi
      options: umask=0077
  - deviceId: root
    mountPoint: /
  - deviceId: trident
    source: new
    type: ext4
    mountPoint: /var/lib/trident
os:
  hostname: provisioned-elsewhere
`

// installedStatus returns a row of upstream's datastore.
func installedStatus(state, volume string) string {
	return "spec:\n  " + strings.TrimSuffix(strings.ReplaceAll(installedSpec, "\n", "\n  "), "  ") + "servicingState: " + state + `
partitionPaths:
  esp: /dev/disk/by-partuuid/1
  root-a: /dev/disk/by-partuuid/2
  root-b: /dev/disk/by-partuuid/3
  trident: /dev/disk/by-partuuid/4
` + volume + `diskUuids:
  os: f4265b47-09cd-4d5e-aa92-684fb783f817
installIndex: 0
tridentVersion: 0.27.0
`
}

// upstreamDatastore returns the datastore of a host that upstream has installed. The
// misspelt word in the table is upstream's.
func upstreamDatastore(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "datastore.sqlite")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(`CREATE TABLE hoststatus (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp DATETIME DEFALUT CURRENT_TIMESTAMP, contents TEXT NOT NULL)`)
	for _, row := range []string{installedStatus("clean-install-finalized", ""), installedStatus("provisioned", "abActiveVolume: volume-a\n")} {
		if err == nil {
			_, err = db.Exec(`INSERT INTO hoststatus (contents) VALUES (?)`, row)
		}
	}
	data, rerr := os.ReadFile(path)
	if err := errors.Join(err, db.Close(), rerr); err != nil {
		t.Fatal(err)
	}
	return data
}

// provisionedElsewhere writes to the guest the records of a host that upstream has
// installed.
func (g *guest) provisionedElsewhere() {
	g.t.Helper()
	g.sh("systemctl stop tridentd.service && rm -f " + datastorePath + "*")
	if err := g.Put(g.t.Context(), datastorePath, bytes.NewReader(upstreamDatastore(g.t)), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// provisioned returns the configuration in the host status.
func (c plainClient) provisioned() string {
	c.t.Helper()
	resp, err := v1preview.NewStatusServiceClient(c.conn).GetProvisionedConfig(c.ctx(), &v1preview.GetConfigRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.GetConfig().GetConfig()
}

// checkOnVolumeA checks the active volume and the number of possible rollbacks.
func (c plainClient) checkOnVolumeA(back int) {
	c.t.Helper()
	volume, err := v1preview.NewStatusServiceClient(c.conn).GetActiveVolume(c.ctx(), &v1preview.GetActiveVolumeRequest{})
	if err != nil || volume.GetActiveVolume() != v1preview.ABVolumeState_VOLUME_A {
		c.t.Errorf("the active volume is %v, %v", volume, err)
	}
	chain, err := v1preview.NewRollbackServiceClient(c.conn).GetRollbackChain(c.ctx(), &v1preview.GetRollbackChainRequest{})
	if err != nil || len(chain.GetRollbackChain()) != back {
		c.t.Errorf("the host can be rolled back to %v, %v; want %d ways", chain, err, back)
	}
}

// asInstalled checks that the configuration is what upstream has installed.
func (c plainClient) asInstalled() {
	c.t.Helper()
	got := c.provisioned()
	for _, want := range []string{"images.example.com/host.cosi", "volumeBId: root-b", "hostname: provisioned-elsewhere"} {
		if !strings.Contains(got, want) {
			c.t.Errorf("the host is said to have no %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "sysexts") {
		c.t.Errorf("the host is said to have extensions:\n%s", got)
	}
}

func TestAHostProvisionedByUpstreamIsTakenOver(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.provisionedElsewhere()
	c := g.upstreamClient()
	const provisioned = v1preview.ServicingState_PROVISIONED
	c.checkHost("", "", provisioned)
	c.checkOnVolumeA(0)
	c.asInstalled()

	// The image as it is, and storage not mentioned.
	added := installedImage + strings.Replace(hostConfig([]extensionOf{g.tool("one")}, nil, healthyUnit("dbus.service")),
		"os:\n", "os:\n hostname: provisioned-elsewhere\n", 1)
	c.checkSucceeded(c.update(added), tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE)
	c.checkHost("one", "", provisioned)
	c.checkOnVolumeA(1)
	if after := c.provisioned(); !strings.Contains(after, "volumeBId: root-b") || !strings.Contains(after, "-one.raw") {
		t.Errorf("the host is said to have\n%s", after)
	}

	c.checkSucceeded(c.rollback(), tridentv1.ServicingKind_SERVICING_KIND_MANUAL_ROLLBACK_RUNTIME)
	c.checkHost("", "", provisioned)
	c.checkOnVolumeA(0)
	c.asInstalled()
	g.checkReadableByUpstream()
}

// checkReadableByUpstream checks the last row of the datastore, which upstream reads.
func (g *guest) checkReadableByUpstream() {
	g.t.Helper()
	g.sh("systemctl stop tridentd.service")
	path := filepath.Join(g.t.TempDir(), "datastore.sqlite")
	data, err := g.Run(g.t.Context(), "cat "+datastorePath, nil)
	if err == nil {
		err = os.WriteFile(path, []byte(data), 0o600)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer db.Close()
	var last string
	if err := db.QueryRow(`SELECT contents FROM hoststatus ORDER BY id DESC LIMIT 1`).Scan(&last); err != nil {
		g.t.Fatal(err)
	}
	for _, want := range []string{"\nservicingState: provisioned\n", "\nabActiveVolume: volume-a\n", "url: http://images.example.com/host.cosi\n"} {
		if !strings.Contains(last, want) {
			g.t.Errorf("the last row lacks %q:\n%s", want, last)
		}
	}
}

// begun begins an update and returns its operation without waiting for the end.
func (c plainClient) begun(config string) (operation string) {
	c.t.Helper()
	stream, err := tridentv1.NewUpdateServiceClient(c.conn).Update(c.ctx(), &tridentv1.UpdateRequest{
		Stage:    &tridentv1.StageUpdateRequest{Config: &tridentv1.HostConfiguration{Config: config}},
		Finalize: &tridentv1.FinalizeUpdateRequest{},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	header, err := stream.Header()
	if err != nil || len(header.Get("trident-operation-id")) != 1 {
		c.t.Fatalf("header %v, %v", header, err)
	}
	return header.Get("trident-operation-id")[0]
}

// cutIn updates and cuts the power at the event with which the operation enters a step.
func (c plainClient) cutIn(config string, phase operationsv1.Phase, step string) (operation string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 6*time.Minute)
	defer cancel()
	operation = c.begun(config)
	cut := false
	_, err := c.api.Watch(ctx, operation, 0, func(e *client.Event) {
		if cut || e.GetChange() == nil || e.Phase != phase || e.Step != step {
			return
		}
		cut = true
		if err := c.PowerCut(); err != nil {
			c.t.Error(err)
		}
		cancel()
	})
	if detached := new(client.DetachedError); !cut || !errors.As(err, &detached) {
		c.t.Fatalf("the power was not cut in %s of %s: %v", step, operation, err)
	}
	return operation
}

func TestARuntimeUpdateSurvivesPowerCutsAtEveryStep(t *testing.T) {
	t.Parallel()
	const (
		doing, undoing = operationsv1.Phase_PHASE_DOING, operationsv1.Phase_PHASE_UNDOING
		provisioned    = v1preview.ServicingState_PROVISIONED
	)
	g := start(t)
	tools := map[string]extensionOf{"one": g.tool("one"), "two": g.tool("two")}
	settings := g.settings()
	g.sh("sync") // these are not Trident's to keep
	config := func(tool string, health string) string {
		if tool == "two" {
			return hostConfig([]extensionOf{tools["two"]}, []extensionOf{settings}, health)
		}
		return hostConfig([]extensionOf{tools["one"]}, nil, health)
	}
	has := map[string]string{"one": "", "two": brightness}
	g.upstreamClient().checkSucceeded(g.upstreamClient().update(config("one", "")), tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE)

	// One host for all cuts, so that each update begins with the state after the cut before.
	now, other := "one", "two"
	for _, cut := range []struct {
		phase operationsv1.Phase
		step  string
	}{
		{doing, "fetch"}, {doing, "keep"}, {doing, "extensions"}, {doing, "health"}, {doing, "settle"},
		{undoing, "extensions"}, {undoing, "begin"},
	} {
		ok := t.Run(fmt.Sprintf("%s %s", cut.phase, cut.step), func(t *testing.T) {
			g := g.inSubtest(t)
			health, ends := healthyUnit("dbus.service"), operationsv1.Phase_PHASE_DONE
			if cut.phase == undoing {
				health, ends = healthyUnit("there-is-none.service"), operationsv1.Phase_PHASE_UNDONE
			}
			op := g.settledAtBoot(g.upstreamClient().cutIn(config(other, health), cut.phase, cut.step))
			if op.Phase != ends {
				t.Errorf("ended %v, want %s", op, ends)
			}
			if ends == operationsv1.Phase_PHASE_DONE {
				now, other = other, now
			}
			g.upstreamClient().checkHost(now, has[now], provisioned)
			out, errs, code := g.trident("get", "status")
			if code != 0 || !strings.Contains(out, "-"+now+".raw") || strings.Contains(out, "-"+other+".raw") ||
				strings.Contains(out, "lastError:\n") != (ends == operationsv1.Phase_PHASE_UNDONE) {
				t.Errorf("trident get status: %d, %s\n%s", code, errs, out)
			}
			if left := g.sh("ls -A /var/lib/trident/servicing 2>/dev/null || true"); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
		if !ok {
			return
		}
	}
}
