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

// A Status is what this host runs and will run next. Its YAML form is upstream's
// HostStatus (reference, 4.10).
type Status struct {
	Phase Phase
	// Spec and SpecOld are Host Configurations in YAML: the one that Phase is
	// about, and while it is staged or tried the one before. "" is none. They are
	// laid out anew when they are written: compare them parsed.
	Spec, SpecOld  string
	LastError      *LastError
	PartitionPaths map[string]string // device path by the partition's id
	ABActiveVolume Volume
	DiskUUIDs      map[string]string // by the disk's id
	InstallIndex   int
	ManagementOS   bool   // the host is the installer, not what is installed
	TridentVersion string // of who wrote it

	// Row and Time are where and when it was recorded; Record sets them by itself.
	// Time is zero in upstream's rows.
	Row  int64
	Time time.Time

	unknownFields []*yaml.Node // keys and values that this version does not know
	isOurs        bool         // written by this Trident, whatever its version says
}

// Equal reports whether two statuses say the same, whenever recorded.
func (s Status) Equal(o Status) bool {
	a, aerr := s.YAML()
	b, berr := o.YAML()
	return aerr == nil && berr == nil && string(a) == string(b)
}

// A ParseHostStatusError is the newest row of the status when it cannot be read.
type ParseHostStatusError struct {
	Row int64
	// Previous is the newest row before it that can be read, nil if none can. To go
	// on from there, Record it.
	Previous *Status
	err      error
}

func (e *ParseHostStatusError) Error() string {
	return fmt.Sprintf("parse host status in row %d of the datastore: %v", e.Row, e.err)
}

func (e *ParseHostStatusError) Unwrap() error { return e.err }

// Status returns the newest status; a host without any is Fresh. When it cannot
// be read the error is a ParseHostStatusError of kind Corrupt.
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
			hint := "the row before it (%d, %s) is whole; a copy of the datastore from before is the file with %s added to its name"
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
