package hoststate

import (
	"context"
	"fmt"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
)

// maxStatus bounds the text of one row, in bytes.
const maxStatus = 4 << 20

// A Status is the status of this host. Its YAML form is upstream's HostStatus.
type Status struct {
	Phase Phase
	// Spec and SpecOld are Host Configurations in YAML: the one of Phase, and while
	// that is staged or tried, the previous one; "" for none. Writing a status
	// reformats them: compare them parsed.
	Spec, SpecOld  string
	LastError      *LastError
	PartitionPaths map[string]string // device path by the partition's id
	ABActiveVolume Volume
	DiskUUIDs      map[string]string // by the disk's id
	InstallIndex   int
	ManagementOS   bool   // the host is the installer, not the installed system
	TridentVersion string // of the writer

	// Row and Time say where and when the status was recorded; Record sets them.
	// Time is zero in upstream's rows.
	Row  int64
	Time time.Time

	unknownFields []*yaml.Node // keys and values that this version does not know
	isOurs        bool         // written by this Trident, not by upstream
}

// Equal reports whether two statuses have the same content, whenever they were
// recorded.
func (s Status) Equal(o Status) bool {
	a, aerr := s.YAML()
	b, berr := o.YAML()
	return aerr == nil && berr == nil && string(a) == string(b)
}

// A ParseHostStatusError means that the newest row of the status cannot be parsed.
type ParseHostStatusError struct {
	Row int64
	// Previous is the newest earlier row that can be parsed, nil if there is none.
	// To go on from that row, Record it.
	Previous *Status
	err      error
}

func (e *ParseHostStatusError) Error() string {
	return fmt.Sprintf("parse host status in row %d of the datastore: %v", e.Row, e.err)
}

func (e *ParseHostStatusError) Unwrap() error { return e.err }

// Status returns the newest status; a host without a status is Fresh. If the
// newest row cannot be parsed, the error is a ParseHostStatusError of kind
// Corrupt.
func (s *Store) Status(ctx context.Context) (Status, error) {
	var bad *ParseHostStatusError
	for r, err := range s.statuses(ctx, true) {
		switch {
		case err != nil:
			return Status{}, fmt.Errorf("read host status: %w", err)
		case r.err == nil && bad == nil:
			return r.Status, nil
		case r.err == nil:
			bad.Previous = &r.Status
			hint := "the previous row (%d, %s) can be read; the backup of the datastore is the file with %s added to the name"
			return Status{}, withStatusName(errkind.WithHint(bad, hint, r.Row, r.Phase.State(), backupSuffix))
		case bad == nil:
			bad = &ParseHostStatusError{Row: r.Row, err: r.err}
		}
	}
	if bad != nil {
		return Status{}, withStatusName(bad)
	}
	return Status{Phase: Fresh{}}, nil
}

func withStatusName(err error) error { return errkind.WithName(err, errkind.NameParseHostStatus) }
