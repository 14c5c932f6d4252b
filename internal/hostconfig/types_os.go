package hostconfig

// OS is what is configured in the OS of the host.
type OS struct {
	// The network, as a netplan document of version 2.
	Netplan Netplan `key:"netplan,null" change:"runtime-update"`
	// SELinux.
	SELinux SELinux `key:"selinux" get:"always"`
	// Users that are made, or changed when they exist.
	Users []User `key:"users" get:"always"`
	// Files that are written.
	AdditionalFiles []AdditionalFile `key:"additionalFiles" change:"runtime-update"`
	// The name of the host.
	Hostname string `key:"hostname,null"`
	// Kernel modules.
	Modules []Module `key:"modules"`
	// Systemd units that are enabled or disabled.
	Services Services `key:"services"`
	// The command line of the kernel.
	KernelCommandLine KernelCommandLine `key:"kernelCommandLine"`
	// System extensions (DDI images merged over /usr and /opt).
	Sysexts []Extension `key:"sysexts" change:"runtime-update"`
	// Configuration extensions (DDI images merged over /etc).
	Confexts []Extension `key:"confexts" change:"runtime-update"`
	// What the firmware finds under its default name, \EFI\BOOT, when it has no boot entry.
	UEFIFallback UEFIFallback `key:"uefiFallback" get:"always" default:"conservative" change:"runtime-update"`
}

// SELinux is how SELinux is set up.
type SELinux struct {
	// The mode. Left out, it stays what it is in the image.
	Mode SELinuxMode `key:"mode,null" get:"always"`
}

// User is a user of the OS.
type User struct {
	// The login name.
	Name string `key:"name,required"`
	// The numeric id.
	UID *UserID `key:"uid,null"`
	// The home folder.
	HomeDirectory string `key:"homeDirectory,null"`
	// The password.
	Password Password `key:"password"`
	// The name of the primary group.
	PrimaryGroup string `key:"primaryGroup,null"`
	// The names of further groups.
	SecondaryGroups []string `key:"secondaryGroups"`
	// Public keys that may log in over SSH.
	SSHPublicKeys []string `key:"sshPublicKeys"`
	// Whether the user may log in over SSH.
	SSHMode SSHMode `key:"sshMode" default:"block"`
	// The program that a login starts.
	StartupCommand string `key:"startupCommand,null"`
}

// Password is what the password of a user is.
type Password struct {
	// The kind of password. There is only locked: none lets the user in.
	Type PasswordType `key:"type,required" default:"locked"`
}

// AdditionalFile is a file that is written into the OS.
type AdditionalFile struct {
	// Where it is written.
	Destination string `key:"destination,required"`
	// Its text. Either this or source.
	Content *string `key:"content,null"`
	// The file that is copied, on the OS that does the servicing. Either this or content.
	Source string `key:"source,null" is:"file"`
	// Its permissions as octal digits that start with 0, up to 0777. Left out, they are those of the source, or 0664 for content.
	Permissions string `key:"permissions,null"`
}

// Module is a kernel module.
type Module struct {
	// The name of the module.
	Name string `key:"name,required"`
	// Whether it is loaded at boot.
	LoadMode LoadMode `key:"loadMode" get:"always" default:"inherit"`
	// Options of the module.
	Options map[string]string `key:"options" get:"always"`
}

// Services are systemd units that are enabled or disabled.
type Services struct {
	// Units to enable.
	Enable []string `key:"enable" get:"always"`
	// Units to disable.
	Disable []string `key:"disable" get:"always"`
}

// KernelCommandLine is the command line of the kernel.
type KernelCommandLine struct {
	// Arguments to add.
	ExtraCommandLine []string `key:"extraCommandLine"`
}

// Extension is the image of a system or configuration extension.
type Extension struct {
	// Where the image is: an http, https, file or oci URL.
	URL SourceURL `key:"url,required"`
	// SHA-384 of the image file, as 96 hexadecimal digits.
	SHA384 Hash `key:"sha384,required"`
	// Where the image is placed on the host: a folder that systemd searches, and NAME.raw for the extension-release.NAME
	// in the image. Left out, it is in the usual folder under the right name.
	Path string `key:"path,null"`
}
