package record

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Earlier and later releases read a record, so its fields keep their names and types.
func TestARecordOfAnEarlierReleaseIsReadAndWrittenUnchanged(t *testing.T) {
	t.Parallel()
	const text = `{"asked":"os:\n  hostname: a\n","old":"os: {}\n","install":false,"back":true,"slot":"volume-b","caller_reboots":true,"reasons":["why"],` +
		`"management_kept":null,"management_begun":true,"seed":"AQI=","paths":[{"id":"esp","path":"/dev/x"}],"disks":null,"index":2,"indexed":true,` +
		`"pin":{"size":1},"sha384":"ab","window":3,"used":4,"parts":null,"partitioned":true,"examined":true,"boot_begun":true,` +
		`"extensions":{"old":null,"new":null},"reboot_from":"x","ended":"y","booted_from":"/dev/a","booted_wanted":"/dev/b"}`
	var r Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	for _, nested := range []string{"pin", "extensions"} { // records of other packages
		delete(want, nested)
		delete(got, nested)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-read +written):\n%s", diff)
	}
	c, err := r.Config()
	if err != nil || c.Spec().OS.Hostname != "a" || r.Purpose != GoesBack || r.Index != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if other, err := r.Config(); other != c || err != nil {
		t.Errorf("the configuration is parsed again: %v", err)
	}
}
