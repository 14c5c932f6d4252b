package rights_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/gateway/rights"
)

// talos has the calls of machine.MachineService of Talos Linux (api/machine/machine.proto).
const talos = `
ApplyConfiguration Bootstrap CPUFreqStats CPUInfo Containers Copy DiskStats DiskUsage Dmesg EtcdAlarmDisarm
EtcdAlarmList EtcdDefragment EtcdForfeitLeadership EtcdLeaveCluster EtcdMemberList EtcdRecover
EtcdRemoveMemberByID EtcdSnapshot EtcdStatus Events GenerateClientConfiguration GenerateConfiguration Hostname
ImageList ImagePull Kubeconfig List LoadAvg Logs LogsContainers Memory MetaDelete MetaWrite Mounts Netstat
NetworkDeviceStats PacketCapture Processes Read Reboot Reset Restart Rollback ServiceList ServiceRestart
ServiceStart ServiceStop Shutdown Stats SystemStat Upgrade Version
`

var (
	surfaceRow = regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\| (.+) \\| (.+) \\|$")
	ownRow     = regexp.MustCompile("(?m)^\\| `(trident\\.[^`]+)` \\| ([a-z]+) \\| (.+) \\|$")
	fullMethod = regexp.MustCompile("`(trident\\.[a-z0-9.]+\\.[A-Za-z]+/[A-Za-z]+)`")
	statedIn   = regexp.MustCompile("`(Test[A-Za-z0-9]+)` in `([a-z0-9/_]+_test\\.go)`")
)

// docs/api-surface.md lists each call of Talos once, and each of trident.machine.v1. The calls
// and tests that it names exist, and the rights are those of the gateway.
func TestTheSurfaceIsAsItsPageSays(t *testing.T) {
	text, err := os.ReadFile("../../../docs/api-surface.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed, methodsNamed []string
	check := func(name, methods, right, proof string) {
		test := statedIn.FindStringSubmatch(proof)
		if test == nil {
			t.Errorf("%s names no test", name)
			return
		}
		source, err := os.ReadFile("../../../" + test[2])
		if err != nil || !strings.Contains(string(source), "\nfunc "+test[1]+"(") {
			t.Errorf("%s: %s does not have %s: %v", name, test[2], test[1], err)
		}
		for _, m := range fullMethod.FindAllStringSubmatch(methods, -1) {
			methodsNamed = append(methodsNamed, m[1])
			if needs, ok := rights.Of("/" + m[1]); !ok || string(needs) != right {
				t.Errorf("%s: %s needs %q, and the page says %q", name, m[1], needs, right)
			}
		}
	}
	for _, row := range surfaceRow.FindAllStringSubmatch(string(text), -1) {
		name, here, reason := row[1], row[2], row[3]
		listed = append(listed, name)
		switch {
		case here == "later", here == "no":
			if len(reason) < 4 {
				t.Errorf("%s: the page does not say why not", name)
			}
		case !fullMethod.MatchString(here):
			t.Errorf("%s: %q names no call", name, here)
		default:
			_, right, _ := strings.Cut(strings.TrimSuffix(here, ")"), " (")
			check(name, here, right, reason)
		}
	}
	for _, row := range ownRow.FindAllStringSubmatch(string(text), -1) {
		check(row[1], "`"+row[1]+"`", row[2], row[3])
	}
	if want := strings.Fields(talos); !slices.Equal(want, listed) || len(want) != 52 {
		t.Errorf("the page lists %d calls of Talos: %v\nwant %d: %v", len(listed), listed, len(want), want)
	}
	all := methods()
	for _, m := range methodsNamed {
		if !slices.Contains(all, "/"+m) {
			t.Errorf("%s is not a call", m)
		}
	}
	for _, m := range all {
		if strings.HasPrefix(m, "/trident.machine.") && !slices.Contains(methodsNamed, m[1:]) {
			t.Errorf("the page does not have %s", m[1:])
		}
	}
}
