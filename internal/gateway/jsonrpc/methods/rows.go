package methods

import (
	// The table finds the messages by their names.
	_ "github.com/trident-project/trident/proto/trident/machine/v1"
	_ "github.com/trident-project/trident/proto/trident/operations/v1"
	_ "github.com/trident-project/trident/proto/trident/self/v1"
	_ "github.com/trident-project/trident/proto/trident/v1"
	_ "github.com/trident-project/trident/proto/trident/v1preview"
)

// rows has the methods of tridentd. A method of another service needs a line here, and the
// import of its messages above.
func rows() []row {
	const self, operations = "trident.self.v1.SelfService/", "trident.operations.v1.OperationsService/"
	const system, mounts, units = "trident.machine.v1.SystemService/", "trident.machine.v1.MountService/", "trident.machine.v1.UnitService/"
	return []row{
		{name: "version", summary: "The version of tridentd", grpc: "trident.v1.VersionService/Version"},
		{name: "self.status", summary: "The running version of Trident, its origin, and the other versions on the host", grpc: self + "GetStatus"},
		{name: "self.check_updates", summary: "Which version of the update feed the host may take, and why not the others", grpc: self + "CheckUpdates"},
		{name: "self.history", summary: "The operations on Trident itself, newest first", grpc: self + "History"},
		{name: "self.upgrade", summary: "Begin to stage a new version and to activate it on trial", grpc: self + "Upgrade", inside: "start", required: []string{"source"}, begins: true},
		{name: "self.activate", summary: "Begin to activate a version that the host has, on trial; without a version, the newest staged one", grpc: self + "Activate", begins: true},
		{name: "self.rollback", summary: "Begin to return to the previous version, or to the base", grpc: self + "Rollback", begins: true},
		{name: "self.policy", summary: "What the owner of the host has decided about new versions", grpc: self + "GetPolicy"},
		{name: "self.hold", summary: "Take nothing new, until a time or for ever", grpc: self + "SetPolicy", inside: "policy.hold", set: "hold"},
		{name: "self.unhold", summary: "End a hold", grpc: self + "SetPolicy", set: "hold"},
		{name: "self.pin", summary: "Take no other version than this one", grpc: self + "SetPolicy", inside: "policy", set: "pin", required: []string{"pin"}},
		{name: "self.unpin", summary: "Take any version again", grpc: self + "SetPolicy", set: "pin"},
		{name: "operations.list", summary: "The operations of the host, newest first", grpc: operations + "List"},
		{name: "operations.get", summary: "One operation", grpc: operations + "Get", required: []string{"id"}},
		{name: "operations.cancel", summary: "Have an operation stop and undo its steps", grpc: operations + "Cancel", required: []string{"id"}},
		{name: "operations.continue", summary: "Have a paused operation go on", grpc: operations + "Continue", required: []string{"id"}},
		{name: "host.slot", summary: "The slot that the host runs from", grpc: "trident.v1preview.StatusService/GetActiveVolume"},
		{name: "machine.version", summary: "The name, the OS and the kernel of the host", grpc: system + "GetVersion"},
		{name: "machine.uptime", summary: "How long the host has been running, and its boot ID", grpc: system + "GetUptime"},
		{name: "machine.load", summary: "The load averages and the number of tasks", grpc: system + "GetLoad"},
		{name: "machine.memory", summary: "The use of the memory and of swap", grpc: system + "GetMemory"},
		{name: "machine.cpus", summary: "The models and the frequencies of the CPUs", grpc: system + "GetCpus"},
		{name: "machine.stat", summary: "The times of the CPUs and the counters of the kernel", grpc: system + "GetStat"},
		{name: "machine.disks", summary: "The block devices, where they are mounted, and their use", grpc: system + "ListDisks"},
		{name: "machine.network", summary: "The network devices, their addresses and their traffic", grpc: system + "ListNetworkDevices"},
		{name: "machine.units", summary: "The units of systemd", grpc: units + "ListUnits"},
		{name: "machine.services", summary: "The units of systemd, as machine.units", grpc: units + "ListUnits"},
		{name: "machine.unit", summary: "One unit of systemd", grpc: units + "ShowUnit", required: []string{"name"}},
		{name: "mounts.list", summary: "The mounts and the space in their file systems", grpc: system + "ListMounts"},
		{name: "mounts.mount", summary: "Mount a file system: a disk, or a share of another host", grpc: mounts + "Mount", required: []string{"where"}},
		{name: "mounts.unmount", summary: "Unmount a file system", grpc: mounts + "Unmount", required: []string{"where"}},
		{name: "mounts.holders", summary: "Who uses a mounted file system", grpc: mounts + "ListHolders", required: []string{"where"}},
		{name: "shares.list", summary: "The shares of other hosts that are mounted, or mounted at each boot", grpc: mounts + "ListShares"},
	}
}
