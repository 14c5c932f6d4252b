package selfservice

import (
	"encoding/json"
	"testing"
	"time"
)

// frozenState is the record of an upgrade as the first release had it, field by field.
// It never changes: that release reads what later ones write, for example when it comes
// back after a rollback.
type frozenState struct {
	Source struct {
		URL        string `json:"url"`
		Path       string `json:"path"`
		Upload     string `json:"upload"`
		UploadSize int64  `json:"upload_size"`
		SHA256     string `json:"sha256"`
	} `json:"source"`
	Trial struct {
		Soak             time.Duration `json:"soak"`
		Deadline         time.Duration `json:"deadline"`
		AllowDowngrade   bool          `json:"allow_downgrade"`
		AllowReadOnlyUsr bool          `json:"allow_read_only_usr"`
	} `json:"trial"`
	Version   string `json:"version"`
	RootHash  string `json:"root_hash"`
	Base      bool   `json:"base"`
	Back      bool   `json:"back"`
	StageOnly bool   `json:"stage_only"`
	From      string `json:"from"`
	Published bool   `json:"published"`
	Armed     bool   `json:"armed"`
	Activated bool   `json:"activated"`
	Previous  struct {
		Version string `json:"version"`
		Link    string `json:"link"`
	} `json:"previous"`
	ArmedAt  time.Time `json:"armed_at"`
	Proofs   int       `json:"proofs"`
	Evidence string    `json:"evidence"`
}

const firstState = `{"source":{"url":"https://example.org/trident.raw","path":"/srv/trident.raw","upload":"key","upload_size":7,"sha256":"ab"},` +
	`"trial":{"soak":10000000000,"deadline":180000000000,"allow_downgrade":true,"allow_read_only_usr":true},` +
	`"version":"2.0.0","root_hash":"cd","base":true,"back":true,"stage_only":true,"from":"1.0.0","published":true,"armed":true,` +
	`"activated":true,"previous":{"version":"1.0.0","link":"../trident/self/1.0.0.raw"},"armed_at":"2026-08-01T00:00:00Z","proofs":3,"evidence":"why"}`

func TestTheFirstReleaseAndThisOneReadEachOthersState(t *testing.T) {
	var want, got frozenState
	if err := json.Unmarshal([]byte(firstState), &want); err != nil {
		t.Fatal(err)
	}
	var r record
	if err := json.Unmarshal([]byte(firstState), &r); err != nil {
		t.Fatal(err)
	}
	if r.Trial.Soak != 10*time.Second || r.Source.URL != want.Source.URL || r.Previous.Link != want.Previous.Link || r.Proofs != 3 {
		t.Errorf("read %+v", r)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &got); err != nil || got != want {
		t.Errorf("the first release reads %+v, %v; want %+v", got, err, want)
	}
}
