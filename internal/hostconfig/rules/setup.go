package rules

import (
	"cmp"
	"fmt"
	"path"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// defaultDatastore is where the state of a host is kept that names no place for it.
const defaultDatastore = "/var/lib/trident/datastore.sqlite"

// SetupFaults finds the values that Check accepts, because upstream's validation accepts
// them, but that no installation and no update into the other slot can carry out. The
// caller refuses these values before it changes a disk. [OSNameFaults] and
// [UserNameFaults] find faulty names of users, units and modules.
func SetupFaults(s *hostconfig.Spec) []NameFault {
	faults := nameFaults(healthNameFaults(&s.Health))
	faults.datastore(s)
	faults.extensions(s)
	faults.files(s)
	return faults
}

// datastore wants the state of the host where it can be written, and where an update
// finds it again.
func (f *nameFaults) datastore(s *hostconfig.Spec) {
	if s.Trident.Disable {
		return
	}
	if _, message := (layout{&s.Storage}).datastoreFault(cmp.Or(s.Trident.DatastorePath, defaultDatastore)); message != "" {
		f.add("trident.datastorePath", "%s", message)
	}
}

func (f *nameFaults) extensions(s *hostconfig.Spec) {
	storage := layout{&s.Storage}
	for _, l := range extensionLists(&s.OS) {
		for at, file := range l.places() {
			on, _ := storage.holder(file)
			inOverlay := on != nil && storage.verityOf(on.DeviceID) != nil && isUnder(file, "/etc")
			if on != nil && !inOverlay && (on.MountPoint.ReadOnly() || storage.verityOf(on.DeviceID) != nil) {
				f.add(at, "is placed at %s, which is on a file system that is mounted read-only at %s", form.Shorten(file), on.MountPoint.Path)
			}
		}
	}
}

// files wants a content for each file, and no file where a file system is mounted.
func (f *nameFaults) files(s *hostconfig.Spec) {
	folders := map[string]string{"/": "it is the root folder"} // why a path is a folder
	for _, on := range s.Storage.Filesystems {
		if on.MountPoint == nil {
			continue
		}
		at := form.CleanPath(on.MountPoint.Path)
		for dir := at; dir != "/"; dir = path.Dir(dir) {
			folders[dir] = "a file system is mounted at " + at
		}
	}
	for i, file := range s.OS.AdditionalFiles {
		at := fmt.Sprintf("os.additionalFiles[%d]", i)
		if file.Content == nil && file.Source == "" {
			f.add(at, "has neither content nor source: there is nothing to write to %s", form.Shorten(file.Destination))
		}
		if why, is := folders[form.CleanPath("/"+file.Destination)]; is {
			f.add(at+".destination", "%q is not a place for a file: %s", form.Shorten(file.Destination), why)
		}
	}
}
