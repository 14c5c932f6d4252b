package runtime

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Earlier and later releases read a record, so its fields keep their names and types. The
// text is what release 0.1 writes.
func TestARecordOfAnEarlierReleaseIsReadAndWrittenUnchanged(t *testing.T) {
	t.Parallel()
	const text = `{"asked":"os:\n  hostname: a\n","old":"os: {}\n","fresh":true,"back":true,"caller_reboots":true,"reasons":["why"],"unstage":true,` +
		`"extensions":{"old":null,"new":null},"own":"ab","resolved":true,"checked":true,"upgrade":true,"self":{"source":{"url":"https://x/y","path":"",` +
		`"upload":"","upload_size":1,"sha256":"cd","timeout":2},"trial":{"soak":3,"deadline":4,"allow_downgrade":true,"allow_read_only_usr":true},` +
		`"version":"2.0.0","root_hash":"ef","base":true,"back":true,"stage_only":true,"from":"1.0.0","published":true,"armed":true,"activated":true,` +
		`"activated_in":"x","previous":{"version":"1.0.0","link":"l"},"armed_at":"2026-08-01T00:00:00Z","proofs":5,"evidence":"e",` +
		`"began":"2026-08-01T00:00:00Z","note":"n"},"kept":null,"files_begun":true,"network_begun":true,"apply_begun":true,"etc_opened":true}`
	var r record
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
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-read +written):\n%s", diff)
	}
	if !r.Unstage || !r.Back || !r.Fresh || !r.EtcOpened || r.Self.Proofs != 5 {
		t.Errorf("read as %+v", r)
	}
}
