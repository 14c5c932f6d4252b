// The SDK: what a program that uses Trident imports. It is a module of its own, so that
// such a program gets few others (docs/decisions/0021-the-sdk-is-a-module.md).
module github.com/trident-project/trident/proto

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
