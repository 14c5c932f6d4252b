package servicing

import (
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/operation"
)

// record is what an operation on the host knows. Fields are only ever added, and
// none is a map: another version of Trident may have to carry on with it.
type record struct {
	// Asked is the configuration that the host shall have, as it is recorded when
	// it is staged; Old is the one that it has. Both are YAML.
	Asked string `json:"asked"`
	Old   string `json:"old"`
	// Fresh: the host was never provisioned before.
	Fresh bool `json:"fresh"`
	// Back: it is a rollback.
	Back bool `json:"back"`
	// CallerReboots: see UpdateRequest.
	CallerReboots bool `json:"caller_reboots"`
	// Reasons is why there is something, or nothing, to do; each is a sentence.
	Reasons []string `json:"reasons"`
	// Extensions is what changes among them; complete once "check", or "finalize",
	// is done.
	Extensions extension.Change `json:"extensions"`
}

type (
	opRun  = operation.Run[record]
	opStep = operation.Step[record]
)

// asked and old are the configurations of the record.
func (r record) asked() (*hostconfig.Config, error) { return hostconfig.ParseRecorded([]byte(r.Asked)) }
func (r record) old() (*hostconfig.Config, error)   { return hostconfig.ParseRecorded([]byte(r.Old)) }
