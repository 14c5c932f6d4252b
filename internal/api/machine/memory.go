package machine

import (
	"github.com/trident-project/trident/internal/machine/system"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

// memoryToWire leaves out fields that the kernel does not have.
func memoryToWire(m system.Memory) *machinev1.GetMemoryResponse {
	of := func(name string) *uint64 {
		n, ok := m[name]
		if !ok {
			return nil
		}
		return &n
	}
	return &machinev1.GetMemoryResponse{
		MemTotal:          of("MemTotal"),
		MemFree:           of("MemFree"),
		MemAvailable:      of("MemAvailable"),
		Buffers:           of("Buffers"),
		Cached:            of("Cached"),
		SwapCached:        of("SwapCached"),
		Active:            of("Active"),
		Inactive:          of("Inactive"),
		ActiveAnon:        of("Active(anon)"),
		InactiveAnon:      of("Inactive(anon)"),
		ActiveFile:        of("Active(file)"),
		InactiveFile:      of("Inactive(file)"),
		Unevictable:       of("Unevictable"),
		Mlocked:           of("Mlocked"),
		SwapTotal:         of("SwapTotal"),
		SwapFree:          of("SwapFree"),
		Zswap:             of("Zswap"),
		Zswapped:          of("Zswapped"),
		Dirty:             of("Dirty"),
		Writeback:         of("Writeback"),
		AnonPages:         of("AnonPages"),
		Mapped:            of("Mapped"),
		Shmem:             of("Shmem"),
		KReclaimable:      of("KReclaimable"),
		Slab:              of("Slab"),
		SReclaimable:      of("SReclaimable"),
		SUnreclaim:        of("SUnreclaim"),
		KernelStack:       of("KernelStack"),
		ShadowCallStack:   of("ShadowCallStack"),
		PageTables:        of("PageTables"),
		SecPageTables:     of("SecPageTables"),
		NfsUnstable:       of("NFS_Unstable"),
		Bounce:            of("Bounce"),
		WritebackTmp:      of("WritebackTmp"),
		CommitLimit:       of("CommitLimit"),
		CommittedAs:       of("Committed_AS"),
		VmallocTotal:      of("VmallocTotal"),
		VmallocUsed:       of("VmallocUsed"),
		VmallocChunk:      of("VmallocChunk"),
		Percpu:            of("Percpu"),
		HardwareCorrupted: of("HardwareCorrupted"),
		AnonHugePages:     of("AnonHugePages"),
		ShmemHugePages:    of("ShmemHugePages"),
		ShmemPmdMapped:    of("ShmemPmdMapped"),
		FileHugePages:     of("FileHugePages"),
		FilePmdMapped:     of("FilePmdMapped"),
		CmaTotal:          of("CmaTotal"),
		CmaFree:           of("CmaFree"),
		Unaccepted:        of("Unaccepted"),
		Balloon:           of("Balloon"),
		HugePagesTotal:    of("HugePages_Total"),
		HugePagesFree:     of("HugePages_Free"),
		HugePagesReserved: of("HugePages_Rsvd"),
		HugePagesSurplus:  of("HugePages_Surp"),
		HugePageSize:      of("Hugepagesize"),
		Hugetlb:           of("Hugetlb"),
		DirectMap_4K:      of("DirectMap4k"),
		DirectMap_2M:      of("DirectMap2M"),
		DirectMap_4M:      of("DirectMap4M"),
		DirectMap_1G:      of("DirectMap1G"),
	}
}
