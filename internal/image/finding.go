package image

import (
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
)

// Upstream's names of what can be wrong in metadata, by the version of the
// specification that made the rule.
const (
	NameDuplicateMountPoint  = "V1_0DuplicateMountPoint"
	NameBootloaderRequired   = "V1_1BootloaderRequired"
	NameGrubWithEntries      = "V1_1GrubWithSystemdBootEntries"
	NameNoEntries            = "V1_1SystemdBootMissingEntries"
	NameEmptyEntries         = "V1_1SystemdBootEmptyEntries"
	NamePackagesRequired     = "V1_1OsPackagesRequired"
	NamePackageNoRelease     = "V1_1OsPackageMissingRelease"
	NamePackageNoArch        = "V1_1OsPackageMissingArch"
	NameDiskRequired         = "V1_2DiskInfoRequired"
	NameCompressionRequired  = "V1_2CompressionInfoRequired"
	NameNoRegions            = "V1_2DiskRegionsMissing"
	NameFirstRegion          = "V1_2DiskRegionsInvalidFirstRegion"
	NameMultipleGPT          = "V1_2MultiplePrimaryGptRegions"
	NameNotGPT               = "V1_2DiskPartitionTableNotGpt"
	NameDuplicateNumber      = "V1_2DuplicatePartitionNumber"
	NameNumberZero           = "V1_2PartitionNumberZero"
	NameImageMismatch        = "V1_2ImageFileMetadataMismatch"
	NameImageNoPartition     = "V1_2ImageFileHasNoCorrespondingPartition"
	NameDuplicateFsUUID      = errkind.NameDuplicateFsUuid // upstream finds it later, at the servicing
	nameUnsupportedVersion   = "UnsupportedVersion"
	nameFieldOfLaterVersion  = "FieldOfLaterVersion"
	nameDuplicateImagePath   = "DuplicateImagePath"
	nameUnsuitableMountPoint = "UnsuitableMountPoint"
)

// NameParse is ours, for what is no metadata at all: a field that is missing, or
// of a wrong kind. Upstream has no name for that.
const NameParse = "ParseMetadata"

// Names of what [Metadata.Doubts] finds. Upstream takes such metadata, and refuses to
// install an image without a root file system.
const (
	NameNoRoot = "NoRootFilesystem"
	NameArch   = "Architecture"
)

// Names of what can be wrong in the archive. Upstream has none: it does not look.
const (
	NameLayout = "Layout"
	NameGPT    = "PartitionTable"
)

// Finding is one fault of an image.
type Finding struct {
	Name string `json:"name"`
	Path string `json:"path"` // of the value in metadata.json: images[0].image.path; or of a file in the archive
	Text string `json:"text"`
	// Relaxable: with relaxed validation it is a warning.
	Relaxable bool `json:"relaxable"`
	warning   bool // even without
}

func (f Finding) String() string {
	if f.Path == "" {
		return fmt.Sprintf("%s: it %s", f.Name, f.Text)
	}
	return fmt.Sprintf("%s: %s %s", f.Name, f.Path, f.Text)
}

// MetadataError is the error for metadata that breaks rules. It has all findings.
type MetadataError struct {
	Version  string
	Findings []Finding
}

func (e *MetadataError) Error() string {
	text := "metadata.json"
	if e.Version != "" {
		text += " (version " + e.Version + ")"
	}
	text += " is not valid: " + e.Findings[0].String()
	if more := len(e.Findings) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

// named returns err with upstream's name for a fault of the image as a document or of its
// bytes.
func loadError(err error) error {
	return errkind.WithName(errkind.With(errkind.Invalid, err), errkind.NameLoadCosi)
}

// corrupt returns an error for bytes that differ from what metadata or a digest says.
func corrupt(format string, args ...any) error {
	return errkind.WithName(errkind.Errorf(errkind.Corrupt, format, args...), errkind.NameCorruptOsImage)
}
