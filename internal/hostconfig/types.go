package hostconfig

// A field's tags drive the decoder, the writer of the canonical document, the
// JSON Schema and the reference page alike:
//
//	key:"deviceId,required"  the key, and that it may not be left out
//	key:"uuid,null"          the key, and that null stands for leaving it out
//	get:"always"             the command get prints the default, or null, as upstream's does
//	is:"file"                a path that may be given and empty
//	default:"ext4"           what a missing key means
//	change:"ab-update"       the servicing that a change needs, for this key and those below it
//
// The comments of the types and fields of Spec are the text of the reference
// page docs/host-configuration.md: they are written for its readers.

// Spec is what one host shall be: its disks, its OS image, what is configured
// in that OS, and how to tell that it is healthy.
//
// Every section may be left out. A document without an image and without
// storage takes a host that was installed by other means into care: only what
// can be changed at run time is serviced.
type Spec struct {
	// How Trident itself works on the host.
	Trident Trident `key:"trident" change:"none"`
	// The OS image that the host runs. An update without it serves hosts that no image was installed on.
	Image *Image `key:"image,null" change:"ab-update"`
	// Disks and what is on them. An update of a host may leave it out when image is given: it stays what it is.
	Storage Storage `key:"storage" change:"none"`
	// Programs to run at fixed points of a servicing. One that fails makes the servicing fail. A new or changed one needs
	// an update only when its runOn has that kind of update.
	Scripts Scripts `key:"scripts" change:"ab-update"`
	// What is configured in the OS.
	OS OS `key:"os" change:"ab-update"`
	// The OS that the installer runs in, during a clean install only.
	ManagementOS ManagementOS `key:"managementOs" change:"none"`
	// How to tell that the host is healthy after a servicing. One that is not goes back to what it was.
	Health Health `key:"health" change:"none"`
	// Switches for development and tests, of which any may disappear. They are read by name where they act; one that
	// is not known does nothing. Beside upstream's there are imageBytesPerSecond and imageDataBudget, in bytes, which bound
	// what the image of one servicing costs, fetchTimeout, the seconds that each step may take that fetches, and trialTime
	// (systemd.time(7), 15min), after which a new system that nobody has confirmed reboots into the one before.
	InternalParams map[string]any `key:"internalParams" change:"none"`
}

// Trident is how the agent works on the host.
type Trident struct {
	// The host is installed and then left alone: nothing about it is kept for later servicing.
	Disable bool `key:"disable" get:"always"`
	// The file that the state of the host is kept in. It must end in .sqlite and lie on a volume that an A/B update leaves alone.
	DatastorePath string `key:"datastorePath" default:"/var/lib/trident/datastore.sqlite"`
	// Where an orchestrator is told of the start and the end of a servicing. It has no effect yet.
	Phonehome string `key:"phonehome,null" get:"always"`
	// Where log lines are sent. It has no effect yet.
	Logstream string `key:"logstream,null"`
}

// Image is an OS image in the COSI format.
type Image struct {
	// Where the image is: an http, https, file or oci URL.
	URL SourceURL `key:"url,required"`
	// SHA-384 of the image's metadata.json, as 96 hexadecimal digits; the metadata has the hashes of all else. The word
	// ignored takes any image, and a change is then seen by its URL, behind which the same
	// image is no change.
	SHA384 ImageHash `key:"sha384,required"`
}

// Scripts are programs to run at fixed points of a servicing.
type Scripts struct {
	// On the OS that does the servicing, before anything on the host is changed.
	PreServicing []Script `key:"preServicing"`
	// After the images are written, outside of the new OS, whose root is in $TARGET_ROOT.
	PostProvision []Script `key:"postProvision"`
	// Inside the new OS (chroot), after it was configured.
	PostConfigure []Script `key:"postConfigure"`
}

// Script is a program, as a file or as text. It sees SERVICING_TYPE and
// TARGET_ROOT beside its own environment variables.
type Script struct {
	// A name for messages.
	Name string `key:"name"`
	// The servicings that it runs on. It never runs when the list is empty.
	RunOn []ServicingType `key:"runOn"`
	// The program that gets the script.
	Interpreter string `key:"interpreter,null" default:"/bin/sh"`
	// The text of the script. Either this or path.
	Content *string `key:"content"`
	// The file of the script, on the OS that does the servicing. Either this or content.
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

// Health is how to tell that the host is healthy.
type Health struct {
	// All of these must pass. They run side by side.
	Checks []HealthCheck `key:"checks"`
}

// HealthCheck is a script or a look at systemd units: exactly one of the two
// is set. In a document both are one mapping, and the key systemdServices
// makes it the second.
type HealthCheck struct {
	Script  *Script
	Systemd *SystemdCheck
}

// SystemdCheck is a look at systemd units. It passes when all of them are active.
type SystemdCheck struct {
	// A name for messages.
	Name string `key:"name"`
	// The units, as systemctl knows them.
	SystemdServices []string `key:"systemdServices,required"`
	// How long to wait for the units, in seconds. 0 looks once.
	TimeoutSeconds uint64 `key:"timeoutSeconds" get:"always" default:"30"`
	// The servicings that the check runs on. It never runs when the list is empty.
	RunOn []ServicingType `key:"runOn"`
}

// Netplan is a netplan document, kept as it is. Nil means that there is none.
type Netplan map[string]any

// ImageHash is the SHA-384 of an image's metadata in lower case, or HashIgnored.
type ImageHash string

// HashIgnored takes any image.
const HashIgnored ImageHash = "ignored"

// Hash is a SHA-384 of a file, as 96 hexadecimal digits in lower case.
type Hash string

// ServicingType is a kind of servicing that scripts and checks can run on.
type ServicingType string

const (
	OnCleanInstall  ServicingType = "clean-install"  // the first installation of a host
	OnABUpdate      ServicingType = "ab-update"      // an update into the other slot, with a reboot
	OnRuntimeUpdate ServicingType = "runtime-update" // an update of the running OS, without a reboot
	OnAll           ServicingType = "all"            // each of them
)
