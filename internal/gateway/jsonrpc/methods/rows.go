package methods

import (
	// The table finds the messages by their names.
	_ "github.com/trident-project/trident/proto/trident/operations/v1"
	_ "github.com/trident-project/trident/proto/trident/self/v1"
	_ "github.com/trident-project/trident/proto/trident/v1"
)

// rows has the methods of tridentd. A method of another service needs a line here, and the
// import of its messages above.
func rows() []row {
	const self, operations = "trident.self.v1.SelfService/", "trident.operations.v1.OperationsService/"
	return []row{
		{name: "version", summary: "The version of tridentd", grpc: "trident.v1.VersionService/Version"},
		{name: "self.status", summary: "The running version of Trident, its origin, and the other versions on the host", grpc: self + "GetStatus"},
		{name: "self.check_updates", summary: "Which version of the update feed the host may take, and why not the others", grpc: self + "CheckUpdates"},
		{name: "self.history", summary: "The operations on Trident itself, newest first", grpc: self + "History"},
		{name: "self.upgrade", summary: "Begin to stage a new version and to activate it on trial", grpc: self + "Upgrade", inside: "start", required: []string{"source"}, begins: true},
		{name: "self.rollback", summary: "Begin to return to the previous version, or to the base", grpc: self + "Rollback", begins: true},
		{name: "operations.list", summary: "The operations of the host, newest first", grpc: operations + "List"},
		{name: "operations.get", summary: "One operation", grpc: operations + "Get", required: []string{"id"}},
		{name: "operations.cancel", summary: "Have an operation stop and undo its steps", grpc: operations + "Cancel", required: []string{"id"}},
		{name: "operations.continue", summary: "Have a paused operation go on", grpc: operations + "Continue", required: []string{"id"}},
	}
}
