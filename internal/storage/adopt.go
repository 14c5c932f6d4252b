package storage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// adoption pairs an adopted partition of the configuration with the partition on the disk.
type adoption struct {
	id    string
	found blockdev.Partition
	entry gpt.Entry
}

func (a adoption) plan() PartitionPlan {
	return PartitionPlan{
		ID: a.id, Action: Adopt, Number: a.entry.Number, Path: a.found.Path, Offset: a.entry.Offset, Size: a.entry.Size,
		Type: typeName(a.entry.Type.String()), UUID: a.entry.ID.String(), Label: a.entry.Name, typeID: a.entry.Type, id: a.entry.ID,
	}
}

// adopt finds the partition on the disk for each adopted partition of the configuration. It
// adds a fault unless exactly one matches.
func (c *planner) adopt(at string, want *hostconfig.Disk, have *blockdev.Disk) []adoption {
	if len(want.AdoptedPartitions) == 0 {
		return nil
	}
	if have.GPT == nil {
		what := "has no GUID partition table"
		if have.Problem != "" {
			what = "has a GUID partition table that is damaged: " + have.Problem
		}
		c.dynamic(errkind.Precondition, at+".adoptedPartitions", "AdoptPartitionsOnNonGptPartitionedDisk",
			"disk %q (%s) %s, so none of its partitions can be adopted", want.ID, have.Path, what)
		return nil
	}
	var out []adoption
	for i, p := range want.AdoptedPartitions {
		path := fmt.Sprintf("%s.adoptedPartitions[%d]", at, i)
		a, err := c.match(want, have, p)
		if err == nil {
			for _, other := range out {
				if other.entry.Number == a.entry.Number {
					err = errkind.Errorf(errkind.Invalid, "%s is adopted as %q already", a.found.Path, other.id)
				}
			}
		}
		if err != nil {
			c.fault(path, errkind.NameCreatePartitions, fmt.Errorf("adopt partition %q: %w", p.ID, err))
			continue
		}
		out = append(out, a)
	}
	return out
}

func (c *planner) match(disk *hostconfig.Disk, have *blockdev.Disk, p hostconfig.AdoptedPartition) (adoption, error) {
	var hits []gpt.Entry
	for _, e := range have.GPT.Entries {
		if p.MatchUUID != "" && e.ID.String() == string(p.MatchUUID) || p.MatchUUID == "" && e.Name == p.MatchLabel && !c.ours(disk, e.ID) {
			hits = append(hits, e)
		}
	}
	by := fmt.Sprintf("the label %q", p.MatchLabel)
	if p.MatchUUID != "" {
		by = fmt.Sprintf("the UUID %s", p.MatchUUID)
	}
	if len(hits) == 0 {
		return adoption{}, errkind.Errorf(errkind.NotFound, "no partition of %s has %s", have.Path, by)
	}
	if len(hits) > 1 {
		names := make([]string, len(hits))
		for i, e := range hits {
			names[i] = "/dev/" + blockdev.PartitionName(have.Name, e.Number)
		}
		return adoption{}, errkind.Errorf(errkind.Precondition, "%s all have %s", strings.Join(names, " and "), by)
	}
	i := slices.IndexFunc(have.Partitions, func(q blockdev.Partition) bool { return q.Number == hits[0].Number })
	if i < 0 {
		return adoption{}, errkind.Errorf(errkind.Precondition, "the kernel does not have partition %d of %s", hits[0].Number, have.Path)
	}
	return adoption{p.ID, have.Partitions[i], hits[0]}, nil
}

// ours reports whether this plan gives the UUID id to a new partition. Such a partition on
// the disk is from the same plan before a power cut. It is never adopted, although it may
// have the label of an adopted partition.
func (c *planner) ours(disk *hostconfig.Disk, id gpt.GUID) bool {
	return slices.ContainsFunc(disk.Partitions, func(p hostconfig.Partition) bool {
		if p.UUID != "" {
			return string(p.UUID) == id.String()
		}
		return derive(c.req.Seed, "partition", disk.ID, p.ID) == id
	})
}

// losses returns what is on a disk and is not in the plan for it.
func losses(have *blockdev.Disk, adopted []adoption) []Loss {
	var out []Loss
	switch {
	case len(adopted) > 0:
	case have.Table == blockdev.TableGPT && have.GPT == nil:
		out = append(out, Loss{What: "damaged table", Path: have.Path, Size: have.Size})
	case have.Table != blockdev.TableNone:
		out = append(out, Loss{What: "table", Path: have.Path, Size: have.Size, UUID: have.TableID, Content: have.Table})
	case have.Content.Type != "":
		out = append(out, Loss{What: "disk", Path: have.Path, Size: have.Size, Label: have.Content.Label, UUID: have.Content.UUID, Content: have.Content.Type})
	}
	if l := have.Leftover; l.Type != "" {
		out = append(out, Loss{What: "signature", Path: have.Path, Size: have.Size, Label: l.Label, UUID: l.UUID, Content: l.Type})
	}
	for _, p := range have.Partitions {
		if !slices.ContainsFunc(adopted, func(a adoption) bool { return a.entry.Number == p.Number }) {
			out = append(out, loss("partition", p))
		}
	}
	return out
}

func loss(what string, p blockdev.Partition) Loss {
	return Loss{What: what, Path: p.Path, Size: p.Size, Label: p.Label, UUID: p.UUID, Content: p.Content.Type}
}
