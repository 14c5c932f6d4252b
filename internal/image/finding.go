package image

import (
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
)

// Upstream's names of faults in metadata. V1_0 and so on is the version of the
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
	NameExtensionRelative    = "V1_3ExtensionDestinationPathNotAbsolute"
	NameExtensionSuffix      = "V1_3ExtensionDestinationPathInvalidFileExtension"
	NameExtensionFolder      = "V1_3ExtensionDestinationPathInvalidDirectory"
	NameDuplicateExtension   = "V1_3DuplicateExtensionDestinationPath"
	NameDuplicateExtFile     = "V1_3DuplicateExtensionImagePath"
	NameExtensionIsRegion    = "V1_3ExtensionImagePathCollidesWithRegionImage"
	NameDuplicateFsUUID      = errkind.NameDuplicateFsUuid // upstream finds it later, during servicing
	nameUnsupportedVersion   = "UnsupportedVersion"
	nameFieldOfLaterVersion  = "FieldOfLaterVersion"
	nameDuplicateImagePath   = "DuplicateImagePath"
	nameUnsuitableMountPoint = "UnsuitableMountPoint"
)

// NameParse is the name of a fault for which upstream has none: a document that is not
// metadata, a missing field, a value of a wrong type.
const NameParse = "ParseMetadata"

// Names of the findings of [Metadata.Doubts]. Upstream accepts such metadata, but refuses
// to install an image without a root file system.
const (
	NameNoRoot = "NoRootFilesystem"
	NameArch   = "Architecture"
)

// Names of faults of the archive, for which upstream does not check.
const (
	NameLayout = "Layout"
	NameGPT    = "PartitionTable"
)

// Finding is one fault of an image.
type Finding struct {
	Name string `json:"name"`
	Path string `json:"path"` // of the value in metadata.json: images[0].image.path; or of a file in the archive
	Text string `json:"text"`
	// Relaxable says that relaxed validation makes the finding a warning.
	Relaxable bool `json:"relaxable"`
	warning   bool // it is always a warning
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

// loadError returns err with the kind Invalid and upstream's name LoadCosi.
func loadError(err error) error {
	return errkind.WithName(errkind.With(errkind.Invalid, err), errkind.NameLoadCosi)
}

// corrupt returns an error for bytes that differ from what metadata or a digest says.
func corrupt(format string, args ...any) error {
	return errkind.WithName(errkind.Errorf(errkind.Corrupt, format, args...), errkind.NameCorruptOsImage)
}
