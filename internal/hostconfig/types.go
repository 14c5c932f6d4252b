package hostconfig

import "github.com/trident-project/trident/internal/hostconfig/internal/form"

// A field's tags drive the decoder, the writer of the canonical document, the
// JSON Schema and the reference page alike:
//
//	key:"deviceId,required"  the key, which is required
//	key:"uuid,null"          the key, for which null means the same as a missing key
//	get:"always"             the command get prints the default, or null, as upstream's does
//	is:"file"                the path of a file, for which empty differs from missing
//	is:"short"               the value alone, as a string, is the short form of the whole mapping
//	default:"ext4"           the value of a missing key
//	change:"ab-update"       the servicing that a change of this key, or of one below it, needs
//
// The comments of the types and fields of Spec are the text of the reference
// page docs/host-configuration.md: they are written for its readers.

// Spec is the desired state of one host: its disks, its OS image, the settings of that OS,
// and the checks that say whether the host is healthy.
//
// Every section may be left out. A document without image and storage is for a host that
// was installed by other means: Trident then changes only what it can change at run time.
type Spec struct {
	// How Trident itself works on the host.
	Trident Trident `key:"trident" change:"none"`
	// The OS image that the host runs. An update without it serves hosts that no image was installed on.
	Image *Image `key:"image,null" change:"ab-update"`
	// Disks and their content. An update with an image may leave it out: storage stays as it is.
	Storage Storage `key:"storage" change:"none"`
	// Programs that Trident runs at fixed points of a servicing. If a program fails, the servicing fails. A new or changed
	// program needs an update only if its runOn has that kind of update.
	Scripts Scripts `key:"scripts" change:"ab-update"`
	// The settings of the OS.
	OS OS `key:"os" change:"ab-update"`
	// The OS that the installer runs in, during a clean install only.
	ManagementOS ManagementOS `key:"managementOs" change:"none"`
	// The checks after a servicing. If one fails, Trident rolls the host back.
	Health Health `key:"health" change:"none"`
	// Switches for development and tests, any of which may disappear. Trident ignores unknown ones. Trident adds to
	// upstream's: imageBytesPerSecond and imageDataBudget, which limit how fast and how much the fetch of an image may read, in
	// bytes; extensionDataBudget, how many bytes one operation may receive for all extensions together; fetchTimeout, the
	// time limit of each step that fetches, in seconds; and trialTime (systemd.time(7), default 15min), after which a new
	// system that was not kept reboots into the previous one.
	InternalParams map[string]any `key:"internalParams" change:"none"`
}

// Trident has the settings of the agent itself.
type Trident struct {
	// Whether Trident only installs the host: it then keeps no datastore, and cannot service the host afterwards.
	Disable bool `key:"disable" get:"always"`
	// The file of the datastore. Its name must end in .sqlite, and it must be on a volume that an A/B update does not replace.
	DatastorePath string `key:"datastorePath" default:"/var/lib/trident/datastore.sqlite"`
	// The URL to which Trident reports the start and the end of a servicing, and its metrics.
	Phonehome string `key:"phonehome,null" get:"always"`
	// The URL to which Trident sends the log of a servicing.
	Logstream string `key:"logstream,null"`
}

// Image is an OS image in the COSI format.
type Image struct {
	// The URL of the image: http, https, file or oci.
	URL SourceURL `key:"url,required"`
	// SHA-384 of the image's metadata.json, as 96 hexadecimal digits; the metadata has the hashes of all other files. The
	// word ignored accepts any image: another URL then means another image, unless Trident finds the same image behind it.
	SHA384 ImageHash `key:"sha384,required"`
}

// Scripts are programs to run at fixed points of a servicing.
type Scripts struct {
	// On the OS that Trident runs in, before Trident changes anything on the host.
	PreServicing []Script `key:"preServicing"`
	// After Trident has written the image, outside of the new OS; $TARGET_ROOT is the new OS's root folder.
	PostProvision []Script `key:"postProvision"`
	// Inside the new OS (chroot), after Trident has configured it.
	PostConfigure []Script `key:"postConfigure"`
}

// Script is a program, as a file or as text. Its environment has SERVICING_TYPE and
// TARGET_ROOT, and the variables of environmentVariables.
type Script struct {
	// A name for messages.
	Name string `key:"name"`
	// The kinds of servicing that run the script. If the list is empty, the script never runs.
	RunOn []ServicingType `key:"runOn"`
	// The program that interprets the script.
	Interpreter string `key:"interpreter,null" default:"/bin/sh"`
	// The text of the script. Either this or path.
	Content *string `key:"content"`
	// The file of the script, in the OS that Trident runs in. Either this or content.
	Path string `key:"path" is:"file"`
	// Arguments of the script.
	Arguments []string `key:"arguments"`
	// Environment variables of the script.
	EnvironmentVariables map[string]string `key:"environmentVariables"`
}

// ManagementOS is the OS that the installer runs in.
type ManagementOS struct {
	// Its network, as a netplan document of version 2.
	Netplan Netplan `key:"netplan,null"`
	// Its users.
	Users []User `key:"users" get:"always"`
}

// Health has the checks that say whether the host is healthy.
type Health struct {
	// All of these must pass. They run at the same time.
	Checks []HealthCheck `key:"checks"`
}

// HealthCheck is a script or a check of systemd units: exactly one of the two
// is set. A document has one mapping for either: with the key systemdServices, it is a
// check of systemd units.
type HealthCheck struct {
	Script  *Script
	Systemd *SystemdCheck
}

// SystemdCheck is a check of systemd units. It passes when all of them are active.
type SystemdCheck struct {
	// A name for messages.
	Name string `key:"name"`
	// The names of the units, as for systemctl.
	SystemdServices []string `key:"systemdServices,required"`
	// How long to wait for the units, in seconds. 0 means one check without waiting.
	TimeoutSeconds uint64 `key:"timeoutSeconds" get:"always" default:"30"`
	// The kinds of servicing that run the check. If the list is empty, the check never runs.
	RunOn []ServicingType `key:"runOn"`
}

// Netplan is a netplan document, unchanged. Nil means no document.
type Netplan map[string]any

// ServicingType is a kind of servicing, in the list of those that run a script or check.
type ServicingType string

const (
	OnCleanInstall  ServicingType = "clean-install"  // the first installation of a host
	OnABUpdate      ServicingType = "ab-update"      // an update into the other slot, with a reboot
	OnRuntimeUpdate ServicingType = "runtime-update" // an update of the running OS, without a reboot
	OnAll           ServicingType = "all"            // every kind
)

func (ServicingType) Values() form.Values {
	return form.Words(OnCleanInstall, OnABUpdate, OnRuntimeUpdate, OnAll)
}
