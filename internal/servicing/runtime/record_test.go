package runtime

import (
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/hosttest"
)

// Earlier and later releases read a record, so its fields keep their names and types. The
// text is what release 0.1 writes.
func TestARecordOfAnEarlierReleaseIsReadAndWrittenUnchanged(t *testing.T) {
	t.Parallel()
	const text = `{"asked":"os:\n  hostname: a\n","old":"os: {}\n","fresh":false,"back":false,"caller_reboots":true,"reasons":["why"],"unstage":false,` +
		`"extensions":{"old":null,"new":null},"own":"ab","resolved":true,"checked":true,"upgrade":true,"self":{"source":{"url":"https://x/y","path":"",` +
		`"upload":"","upload_size":1,"sha256":"cd","timeout":2},"trial":{"soak":3,"deadline":4,"allow_downgrade":true,"allow_read_only_usr":true},` +
		`"version":"2.0.0","root_hash":"ef","base":true,"back":true,"stage_only":true,"from":"1.0.0","published":true,"armed":true,"activated":true,` +
		`"activated_in":"x","previous":{"version":"1.0.0","link":"l"},"armed_at":"2026-08-01T00:00:00Z","proofs":5,"evidence":"e",` +
		`"began":"2026-08-01T00:00:00Z","note":"n"},"kept":null,"files_begun":true,"network_begun":true,"apply_begun":true,"etc_opened":true}`
	for field, want := range map[string]purpose{"fresh": adopts, "back": goesBack, "unstage": unstages, "": updates} {
		r := hosttest.RoundTrip[record](t, strings.Replace(text, `,"`+field+`":false`, `,"`+field+`":true`, 1))
		if r.Purpose != want || !r.EtcOpened || r.Self.Proofs != 5 {
			t.Errorf("read as %+v", r)
		}
	}
}
