package change

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/osconfig"
)

// ownPlaces are the folders and files in which Trident keeps what it needs to service a
// host, besides its datastore and the places of Host.Places. Other files of a
// configuration may be beside them.
var ownPlaces = []string{"/run/trident", "/" + Dir, "/var/lib/trident/extensions", "/" + UnsettledMark}

// CheckDestinations returns an error of kind Invalid for a configuration with an additional
// file that would overwrite what Trident needs to undo the servicing, or with one that lies
// below another.
func (h *Host) CheckDestinations(c *hostconfig.Config) error {
	files := c.Spec().OS.AdditionalFiles
	named := map[string]string{} // by place, as the configuration names it
	for _, f := range files {
		named[Absolute(f.Destination)] = f.Destination
	}
	for i, f := range files {
		at := fmt.Sprintf("os.additionalFiles[%d]", i)
		if err := h.checkDestination(at, f.Destination, Absolute(f.Destination), c.Spec().Trident.DatastorePath); err != nil {
			return err
		}
		for dir := path.Dir(Absolute(f.Destination)); dir != "/"; dir = path.Dir(dir) {
			if other, isFile := named[dir]; isFile {
				err := errkind.Errorf(errkind.Invalid, "%s: %q cannot be written: the configuration has a file %q, and a file is not a folder", at, f.Destination, other)
				return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
			}
		}
	}
	return nil
}

// CheckResolved returns an error of kind Invalid for a file that would overwrite what
// Trident needs once the links of the OS below root are resolved. It ignores a file whose
// folder cannot be resolved: [osconfig.Write] refuses that.
func (h *Host) CheckResolved(root string, files []hostconfig.AdditionalFile) error {
	datastore, err := hoststate.Path(h.Root)
	if err != nil {
		return err
	}
	for _, f := range files {
		place, err := osconfig.Resolve(root, Absolute(f.Destination))
		if err != nil {
			continue
		}
		if err := h.checkDestination("os.additionalFiles", f.Destination, place, datastore); err != nil {
			return err
		}
	}
	return nil
}

// checkDestination refuses place, which the configuration calls name, if it is
// Trident's own. datastore is the one of the host beside the usual one, or "".
func (h *Host) checkDestination(at, name, place, datastore string) error {
	own := ""
	for _, o := range slices.Concat(ownPlaces, h.Places) {
		if place == o || strings.HasPrefix(place, o+"/") {
			own = o
		}
	}
	for _, d := range []string{hoststate.DefaultPath, datastore} {
		// The names of SQLite's journal and of the copies begin with that of the datastore.
		if d != "" && strings.HasPrefix(place, Absolute(d)) {
			own = d
		}
	}
	if own == "" {
		return nil
	}
	err := errkind.Errorf(errkind.Invalid, "%s: %q cannot be written: Trident keeps its own files at %s", at, name, own)
	return errkind.WithName(errkind.WithHint(err, "Name another destination."), errkind.NameInvalidHostConfigurationDynamic)
}

// Absolute returns the path of a file of a configuration, as the host sees it.
func Absolute(name string) string { return path.Clean("/" + name) }

// DatastorePath returns the path of the datastore in the OS that a configuration installs.
func DatastorePath(c *hostconfig.Config) (name string, isDefault bool) {
	name = cmp.Or(c.Spec().Trident.DatastorePath, hoststate.DefaultPath)
	return name, name == hoststate.DefaultPath
}
