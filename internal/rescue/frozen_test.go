package rescue

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// frozenRecord is the record of the first release, field by field. It never changes:
// that release reads what later ones write, for example after a rollback.
type frozenRecord struct {
	Operation  string     `json:"operation"`
	Previous   frozenSide `json:"previous"`
	Target     frozenSide `json:"target"`
	Deadline   int        `json:"deadline_seconds"`
	Restarting bool       `json:"restarting"`
	Witnessed  bool       `json:"witnessed"`
	Returning  bool       `json:"returning"`
	Reason     string     `json:"reason,omitempty"`
	Watches    int        `json:"watches"`
	Verdict    string     `json:"verdict,omitempty"`
}

type frozenSide struct {
	Version string `json:"version"`
	Link    string `json:"link"`
}

// The first release wrote one copy, and without a checksum.
const firstRecord = `{"operation":"20260801T000000Z-abc","previous":{"version":"1.0.0","link":"../trident/self/1.0.0.raw"},` +
	`"target":{"version":"2.0.0","link":"../trident/self/2.0.0.raw"},"deadline_seconds":180,"restarting":true,"witnessed":true,` +
	`"returning":true,"reason":"its service failed","watches":2,"verdict":"returned"}`

func TestTheFirstReleaseAndThisOneReadEachOthersRecord(t *testing.T) {
	var want frozenRecord
	if err := json.Unmarshal([]byte(firstRecord), &want); err != nil {
		t.Fatal(err)
	}
	f := File{Dir: t.TempDir()}
	path := filepath.Join(f.Dir, recordName)
	if err := os.WriteFile(path, []byte(firstRecord), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := f.Read()
	if err != nil || r.Operation != want.Operation || r.Deadline != 180 || r.Target.Link != want.Target.Link || r.Reason != want.Reason || r.Verdict != Returned {
		t.Fatalf("read %+v, %v", r, err)
	}
	if err := f.write(r); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got frozenRecord
	if err := json.Unmarshal(data, &got); err != nil || got != want {
		t.Errorf("the first release reads %+v, %v; want %+v\n%s", got, err, want, data)
	}
}
