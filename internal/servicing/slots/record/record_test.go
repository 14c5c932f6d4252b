package record

import (
	"testing"

	"github.com/trident-project/trident/internal/hosttest"
)

// earlier is the record of an earlier release.
const earlier = `{"asked":"os:\n  hostname: a\n","old":"os: {}\n","install":false,"back":true,"slot":"volume-b","caller_reboots":true,"reasons":["why"],` +
	`"management_kept":null,"management_begun":true,"seed":"AQI=","paths":[{"id":"esp","path":"/dev/x"}],"disks":null,"index":2,"indexed":true,` +
	`"pin":{"size":1},"sha384":"ab","window":3,"used":4,"parts":null,"partitioned":true,"examined":true,"boot_begun":true,` +
	`"extensions":{"old":null,"new":null},"reboot_from":"x","ended":"y","booted_from":"/dev/a","booted_wanted":"/dev/b"}`

// Earlier and later releases read a record, so its fields keep their names and types.
func TestARecordOfAnEarlierReleaseIsReadAndWrittenUnchanged(t *testing.T) {
	t.Parallel()
	r := hosttest.RoundTrip[Record](t, earlier)
	c, err := r.Config()
	if err != nil || c.Spec().OS.Hostname != "a" || r.Purpose != GoesBack || r.Index != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if other, err := r.Config(); other != c || err != nil {
		t.Errorf("the configuration is parsed again: %v", err)
	}
}
