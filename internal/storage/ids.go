package storage

import (
	"crypto/hmac"
	"crypto/sha256"
	"runtime"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/gpt"
)

const minSeed = 16

// derive makes a UUID (RFC 9562, version 4 in form) that depends on the seed
// and on what it is for, and on nothing else.
func derive(seed []byte, what ...string) gpt.GUID {
	mac := hmac.New(sha256.New, seed)
	mac.Write([]byte(strings.Join(what, "\x00")))
	var id gpt.GUID
	copy(id[:], mac.Sum(nil))
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// typeID is the UUID of a partition type (UAPI.2, Discoverable Partitions
// Specification).
func typeID(t hostconfig.PartitionType, arch string) (gpt.GUID, error) {
	if arch == "" {
		arch = runtime.GOARCH
	}
	if arch != "amd64" && arch != "arm64" {
		return gpt.GUID{}, errkind.Errorf(errkind.Unsupported, "there are no partition types for architecture %s", arch)
	}
	text := string(t)
	switch t {
	case hostconfig.PartitionESP:
		text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	case hostconfig.PartitionXbootldr:
		text = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
	case hostconfig.PartitionSwap:
		text = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
	case hostconfig.PartitionHome:
		text = "933ac7e1-2eb4-4f13-b844-0e14e2aef915"
	case hostconfig.PartitionSrv:
		text = "3b8f8425-20e0-4f3b-907f-1a25a76f98e8"
	case hostconfig.PartitionVar:
		text = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
	case hostconfig.PartitionTmp:
		text = "7ec6f557-3bc5-4aca-b293-16ef5df639d1"
	case hostconfig.PartitionLinuxGeneric, "":
		text = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	default:
		if id, ok := archType(t, arch == "arm64"); ok {
			text = id
		}
	}
	return gpt.ParseGUID(text)
}

func archType(t hostconfig.PartitionType, arm bool) (string, bool) {
	var ids [2]string
	switch t {
	case hostconfig.PartitionRoot:
		ids = [2]string{"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "b921b045-1df0-41c3-af44-4c6f280d3fae"}
	case hostconfig.PartitionRootVerity:
		ids = [2]string{"2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "df3300ce-d69f-4c92-978c-9bfb0f38d820"}
	case hostconfig.PartitionUsr:
		ids = [2]string{"8484680c-9521-48c6-9c11-b0720656f69e", "b0e01050-ee5f-4390-949a-9101b17104e9"}
	case hostconfig.PartitionUsrVerity:
		ids = [2]string{"77ff5f63-e7b6-4633-acf4-1565b864c0e6", "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e"}
	default:
		return "", false
	}
	if arm {
		return ids[1], true
	}
	return ids[0], true
}
