package servicing

import (
	"fmt"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/selfservice"
)

// ownPlaces are the folders and files in which Trident keeps what it needs to service a
// host, besides its datastore. Other files of a configuration may be beside them.
var ownPlaces = append([]string{
	"/run/trident", "/var/lib/trident/servicing", "/var/lib/trident/extensions", "/" + UnsettledMark, "/" + managementDir,
	unitDir + guardTimer, unitDir + guardService, guardLink,
}, selfservice.Places()...)

// checkDestinations refuses a configuration whose additional files would overwrite what
// Trident needs to undo the servicing, or of which one is to be in a folder that another
// one is to be. Errors are of kind Invalid.
func checkDestinations(c *hostconfig.Config) error {
	files := c.Spec().OS.AdditionalFiles
	named := map[string]string{} // by place, as the configuration names it
	for _, f := range files {
		named[absolute(f.Destination)] = f.Destination
	}
	for i, f := range files {
		at := fmt.Sprintf("os.additionalFiles[%d]", i)
		if err := checkDestination(at, f.Destination, absolute(f.Destination), c.Spec().Trident.DatastorePath); err != nil {
			return err
		}
		for dir := path.Dir(absolute(f.Destination)); dir != "/"; dir = path.Dir(dir) {
			if other, isFile := named[dir]; isFile {
				err := errkind.Errorf(errkind.Invalid, "%s: %q cannot be written: the configuration has a file %q, and a file is not a folder", at, f.Destination, other)
				return errkind.WithName(err, dynamic)
			}
		}
	}
	return nil
}

// checkResolved is checkDestinations for the places to which the links in the OS below
// root lead. A place that cannot be reached is for [osconfig.Write] to refuse.
func (s *Service) checkResolved(root string, files []hostconfig.AdditionalFile) error {
	datastore, err := hoststate.Path(s.Root)
	if err != nil {
		return err
	}
	for _, f := range files {
		place, err := osconfig.Resolve(root, absolute(f.Destination))
		if err != nil {
			continue
		}
		if err := checkDestination("os.additionalFiles", f.Destination, place, datastore); err != nil {
			return err
		}
	}
	return nil
}

// checkDestination refuses place, which the configuration calls name, if it is
// Trident's own. datastore is the one of the host beside the usual one, or "".
func checkDestination(at, name, place, datastore string) error {
	own := ""
	for _, o := range ownPlaces {
		if place == o || strings.HasPrefix(place, o+"/") {
			own = o
		}
	}
	for _, d := range []string{hoststate.DefaultPath, datastore} {
		// The journal of SQLite and the copies are called like the datastore, and more.
		if d != "" && strings.HasPrefix(place, absolute(d)) {
			own = d
		}
	}
	if own == "" {
		return nil
	}
	err := errkind.Errorf(errkind.Invalid, "%s: %q cannot be written: Trident itself keeps what it needs to service this host at %s", at, name, own)
	return errkind.WithName(errkind.WithHint(err, "Name another destination."), dynamic)
}
