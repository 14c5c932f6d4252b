// Package container has tridentd service the host that runs its container.
//
// A container has its own files, network and semaphores. tridentd needs those of the host: it
// changes the host's mounts, runs the host's tools with the host's libraries, and asks the
// host's systemd. So tridentd does not work from inside the container. It joins the namespaces
// of the host's first process and starts itself again there (Enter). The image therefore has
// no tools, and nothing of a host's servicing knows about containers.
package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/trident-project/trident/internal/errkind"
)

// Variable is the environment variable that marks a container of Trident, with any value. It
// is upstream's name.
const Variable = "DOCKER_ENVIRONMENT"

// HostRoot is the folder at which the container sees the root folder of the host.
const HostRoot = "/host"

// dockerMark is the file that Docker makes in every container.
const dockerMark = "/.dockerenv"

// Detect reports whether this process runs in a container and is to service the host that runs
// it: whether Variable is set. As in upstream, a container of Docker without Variable is an
// error (Precondition), because tridentd would service the container's own files.
func Detect() (bool, error) { return detect(dockerMark) }

func detect(mark string) (bool, error) {
	if _, ok := os.LookupEnv(Variable); ok {
		return true, nil
	}
	switch _, err := os.Lstat(mark); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("find out whether this is a container: %w", err)
	}
	return false, errkind.WithHint(
		errkind.Errorf(errkind.Precondition, "start tridentd: it runs in a container (%s exists), and the variable %s is not set", mark, Variable),
		"use the container image of Trident, or set the variable: docker run --env "+Variable+"=true")
}

// Fixed returns the reason why Trident in a container cannot replace itself (Unsupported).
func Fixed() error {
	return errkind.WithHint(errkind.Errorf(errkind.Unsupported, "this Trident runs in a container, whose image has its version"),
		"pull a new image of Trident, and start the container again")
}
