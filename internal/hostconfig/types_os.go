package hostconfig

// OS has the settings of the OS of the host.
type OS struct {
	// The network, as a netplan document of version 2.
	Netplan Netplan `key:"netplan,null" change:"runtime-update"`
	// SELinux.
	SELinux SELinux `key:"selinux" get:"always"`
	// Users. Trident makes those that do not exist and changes the others.
	Users []User `key:"users" get:"always"`
	// Files that Trident writes.
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
	// The boot files in \EFI\BOOT, which the firmware starts when it has no boot entry.
	UEFIFallback UEFIFallback `key:"uefiFallback" get:"always" default:"conservative" change:"runtime-update"`
}

// SELinux has the settings of SELinux.
type SELinux struct {
	// The mode. If it is left out, the mode of the image stays.
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

// Password has the settings of a user's password.
type Password struct {
	// The kind of password. The only kind is locked: no password lets the user in.
	Type PasswordType `key:"type,required" default:"locked"`
}

// AdditionalFile is a file that Trident writes into the OS.
type AdditionalFile struct {
	// The path of the file in the OS.
	Destination string `key:"destination,required"`
	// The text of the file. Either this or source.
	Content *string `key:"content,null"`
	// The file to copy, in the OS that Trident runs in. Either this or content.
	Source string `key:"source,null" is:"file"`
	// The permissions as octal digits that start with 0, up to 0777. The default is the permissions of source, or 0664 for content.
	Permissions string `key:"permissions,null"`
}

// Module is a kernel module.
type Module struct {
	// The name of the module.
	Name string `key:"name,required"`
	// When the module is loaded.
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
	// The URL of the image: http, https, file or oci.
	URL SourceURL `key:"url,required"`
	// SHA-384 of the image file, as 96 hexadecimal digits.
	SHA384 Hash `key:"sha384,required"`
	// The path of the image on the host: a folder that systemd searches, and NAME.raw for the extension-release.NAME
	// in the image (NAME_VERSION.raw, too, with systemd 255 or later). The default is NAME.raw in /var/lib/extensions or
	// /var/lib/confexts.
	Path string `key:"path,null"`
}
