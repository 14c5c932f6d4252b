// A client as others write it: nothing in this module imports Trident, and its
// stubs are generated from the snapshot of the wire alone. It is a module of its
// own, so that no package of Trident can slip in.
module example.com/foreign

go 1.26.0

require (
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
