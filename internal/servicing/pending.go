package servicing

import (
	"context"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/storage"
)

// InstallRequest asks for an operating system on the disks of this host.
type InstallRequest struct {
	Config          *hostconfig.Config
	Stage, Finalize bool // as in UpdateRequest
	CallerReboots   bool
	// Multiboot: what else can be booted stays.
	Multiboot bool
}

// StreamRequest asks for a disk that is written whole from an image.
type StreamRequest struct {
	URL string
	// SHA384 is of the image's metadata, 96 hexadecimal digits, or Ignored.
	SHA384        string
	CallerReboots bool
}

// Ignored stands for a hash that nobody checks.
const Ignored = "ignored"

// Install begins to bring an operating system to the disks of this host.
func (s *Service) Install(context.Context, InstallRequest) (operationID string, err error) {
	return "", pending("install a host")
}

// FinalizeInstall begins to make bootable what is staged by Install.
func (s *Service) FinalizeInstall(_ context.Context, _ bool) (operationID string, err error) {
	return "", pending("install a host")
}

// StreamDisk begins to write a disk from an image.
func (s *Service) StreamDisk(context.Context, StreamRequest) (operationID string, err error) {
	return "", pending("write a disk")
}

// CheckRoot begins an operation that changes nothing and says whether the volume
// that is booted is the one that is recorded.
func (s *Service) CheckRoot(context.Context) (operationID string, err error) {
	return "", pending("check the root file system")
}

// PlanInstall says what Install would do to the disks, as values and for people.
// It changes nothing.
func (s *Service) PlanInstall(context.Context, *hostconfig.Config) (storage.Description, string, error) {
	return storage.Description{}, "", pending("plan an installation")
}

func pending(do string) error {
	return errkind.Errorf(errkind.Unsupported, "this version of Trident cannot %s yet", do)
}
