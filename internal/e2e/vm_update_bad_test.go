//go:build vm

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/e2e/osimage"
)

// espFull fills the ESP until one MiB is left.
const espFull = `set -e; n=$(df --output=avail -B1 /boot/efi | tail -1); head -c $((n - 1048576)) /dev/zero >/boot/efi/full; sync`

func TestAnImpossibleUpdateIsRefusedOrUndoneWithOneError(t *testing.T) {
	t.Parallel()
	lap := stopwatch(t)
	g := installedGuest(t)
	old, next := buildSystem(t, osimage.Spec{Version: "1.0.0"}), buildSystem(t, osimage.Spec{Version: "2.0.0"})
	whole, err := os.ReadFile(next.Path)
	if err != nil {
		t.Fatal(err)
	}
	lap("installed machine and image")
	mux := http.NewServeMux()
	content := func(name string, data []byte, tag func() string) {
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", tag())
			http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
		})
	}
	same := func() string { return `"one"` }
	arm, armSHA := forARM(t)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1<<20] ^= 1
	var asked atomic.Int32
	content("good.cosi", whole, same)
	content("arm.cosi", arm, same)
	content("cut.cosi", whole[:len(whole)/2], same)
	content("flipped.cosi", flipped, same)
	content("changes.cosi", whole, func() string { return fmt.Sprintf(`"%d"`, asked.Add(1)/6) }) // once it is open
	g.serveHandler(mux)
	config := func(name string) string { return hostedImage{next, "http://" + imagePort + "/" + name}.config("") }
	swap := func(text, old, new string) string { return strings.Replace(text, old, new, 1) }
	const slotB = "/dev/disk/by-id/virtio-disk0-part3"
	for _, c := range []struct {
		name, config, before, after, want string
	}{
		{"another architecture", swap(config("arm.cosi"), next.SHA384, armSHA), "", "", "the image is for the architecture arm64"},
		{"another hash", swap(config("good.cosi"), next.SHA384, strings.Repeat("a", 96)), "", "", "the SHA-384 of metadata.json is"},
		{"a truncated image", config("cut.cosi"), "", "", "the archive is cut short"},
		{"a sealed command line", swap(config("good.cosi"), "  hostname: lab-installed", "  kernelCommandLine: {extraCommandLine: [debug]}"), "", "", "debug"},
		{"a target that is mounted", config("good.cosi"), "mkfs.ext4 -q -F " + slotB + " && mount " + slotB + " /mnt", "umount /mnt", "mounted at /mnt"},
		{"an image that is not what it says", config("flipped.cosi"), "", "", "read images/partition-2"},
		{"an image that changes", config("changes.cosi"), "", "", "the source changed while it was being read"},
		{"an ESP that is full", config("good.cosi"), espFull, "rm /boot/efi/full", "the ESP is full"},
	} {
		if c.before != "" {
			g.sh(c.before)
		}
		out, errs, code := g.trident("update", g.file(c.config))
		if code != 2 || !strings.Contains(errs, c.want) || strings.Count("\n"+errs, "\ntrident: ") != 1 {
			t.Errorf("%s: %d\n%s\n%s", c.name, code, out, errs)
		}
		t.Logf("%s: %s", c.name, errs[strings.LastIndex(strings.TrimSpace(errs), "\n")+1:])
		g.checkOS(hostedImage{Image: old}, "volume-a")
		if last, _, _ := g.trident("get", "last-error"); !strings.Contains(last, c.want) {
			t.Errorf("%s: the last error is\n%s", c.name, last)
		}
		if c.after != "" {
			g.sh(c.after)
		}
		lap(c.name)
	}
	if said := g.runAcrossReboots(g.BootAgain, "update", g.file(config("good.cosi"))); said.code != 0 {
		t.Fatalf("update: %+v", said)
	}
	g.awaitSettled()
	lap("the next update")
	g.checkOS(hostedImage{Image: next}, "volume-b")
}
