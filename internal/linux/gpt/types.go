package gpt

// ESP is the type of an EFI system partition (UEFI 2.10, table 5.7).
const ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"

// typeRow is one partition type of the Discoverable Partitions Specification (UAPI.2): its
// name, and its UUID for amd64 and for arm64, by Go's names of architectures.
type typeRow struct{ name, amd64, arm64 string }

// typeTable returns all types; those for all architectures are first.
func typeTable() []typeRow {
	return []typeRow{
		{"esp", ESP, ESP},
		{"xbootldr", "bc13c2ff-59e6-4262-a352-b275fd6f7172", "bc13c2ff-59e6-4262-a352-b275fd6f7172"},
		{"swap", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"},
		{"home", "933ac7e1-2eb4-4f13-b844-0e14e2aef915", "933ac7e1-2eb4-4f13-b844-0e14e2aef915"},
		{"srv", "3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "3b8f8425-20e0-4f3b-907f-1a25a76f98e8"},
		{"var", "4d21b016-b534-45c2-a9fb-5c16e091fd2d", "4d21b016-b534-45c2-a9fb-5c16e091fd2d"},
		{"tmp", "7ec6f557-3bc5-4aca-b293-16ef5df639d1", "7ec6f557-3bc5-4aca-b293-16ef5df639d1"},
		{"user-home", "773f91ef-66d4-49b5-bd83-d683bf40ad16", "773f91ef-66d4-49b5-bd83-d683bf40ad16"},
		{"linux-generic", "0fc63daf-8483-4772-8e79-3d69d8477de4", "0fc63daf-8483-4772-8e79-3d69d8477de4"},
		{"root", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "b921b045-1df0-41c3-af44-4c6f280d3fae"},
		{"root-verity", "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "df3300ce-d69f-4c92-978c-9bfb0f38d820"},
		{"root-verity-sig", "41092b05-9fc8-4523-994f-2def0408b176", "6db69de6-29f4-4758-a7a5-962190f00ce3"},
		{"usr", "8484680c-9521-48c6-9c11-b0720656f69e", "b0e01050-ee5f-4390-949a-9101b17104e9"},
		{"usr-verity", "77ff5f63-e7b6-4633-acf4-1565b864c0e6", "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e"},
		{"usr-verity-sig", "e7bb33fb-06cf-4e81-8273-e543b413e2e2", "c23ce4ff-44bd-4b00-b2d4-b41b3419e02a"},
	}
}

// TypeByName returns the UUID of the type name for an architecture, amd64 or arm64; false
// if there is no such type.
func TypeByName(name, arch string) (GUID, bool) {
	for _, row := range typeTable() {
		if row.name != name {
			continue
		}
		text, ok := map[string]string{"amd64": row.amd64, "arm64": row.arm64}[arch]
		id, err := ParseGUID(text)
		return id, ok && err == nil
	}
	return GUID{}, false
}

// TypeName returns the name of the type id, and the architecture that it is for, "" if it
// is for all; "" and "" if the type is unknown.
func TypeName(id GUID) (name, arch string) {
	text := id.String()
	for _, row := range typeTable() {
		switch {
		case text == row.amd64 && text == row.arm64:
			return row.name, ""
		case text == row.amd64:
			return row.name, "amd64"
		case text == row.arm64:
			return row.name, "arm64"
		}
	}
	return "", ""
}
