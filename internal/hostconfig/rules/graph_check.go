package rules

import (
	"fmt"
	"path"
	"slices"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// checkGraph checks the storage section by the rules of rules.go, and returns its graph.
func (c *checker) checkGraph() *graph {
	s := &c.spec.Storage
	g := newGraph(s)
	c.checkBasics(s)
	c.checkUnique(g)
	c.checkFilesystems(s)
	for _, n := range g.nodes {
		if n.by != byNobody {
			c.checkTargets(g, n)
			c.checkPartitions(g, n)
		}
	}
	c.checkSharing(g)
	c.checkCircles(g)
	for i := range s.Verity {
		c.checkHashPartition(g, &s.Verity[i], fmt.Sprintf("storage.verity[%d]", i))
	}
	return g
}

// checkBasics checks devices one by one.
func (c *checker) checkBasics(s *hostconfig.Storage) {
	for i := range s.Disks {
		d := &s.Disks[i]
		at := fmt.Sprintf("storage.disks[%d]", i)
		if !path.IsAbs(d.Device) {
			c.addStorageFault(at+".device", "BasicCheckFailed", "is %q; wants an absolute path", form.Shorten(d.Device))
		}
		for j, p := range d.AdoptedPartitions {
			here := fmt.Sprintf("%s.adoptedPartitions[%d]", at, j)
			label := p.MatchLabel != "" || c.config.Gives(here+".matchLabel")
			if label == (p.MatchUUID != "") {
				c.addStorageFault(here, "BasicCheckFailed", "wants exactly one of matchLabel and matchUuid")
			}
		}
	}
}

// checkUnique checks ids over all devices, and some fields over all devices of one kind.
func (c *checker) checkUnique(g *graph) {
	type key struct {
		kind deviceKind
		field
	}
	seen := map[key]*node{}
	for _, n := range g.nodes {
		if n.kind == "" {
			continue
		}
		if n.id == "" {
			c.addStorageFault(n.path+".id", "BasicCheckFailed", "is empty")
		} else if first := g.byID[n.id]; first != n {
			c.addStorageFault(n.path+".id", "DuplicateDeviceId", "%q is the id of %s already", n.id, first.path)
		}
		for _, f := range n.uniq {
			if f.value == "" {
				continue
			}
			k := key{n.kind, f}
			if first := seen[k]; first != nil {
				c.addStorageFault(n.path+"."+f.key, "UniqueFieldConstraintError", "%q is the %s of %s already", f.value, f.key, first)
				continue
			}
			seen[k] = n
		}
	}
}

// checkFilesystems checks file systems and mount points, without their devices.
func (c *checker) checkFilesystems(s *hostconfig.Storage) {
	mounts := map[string]string{}
	esp := ""
	for i := range s.Filesystems {
		f := &s.Filesystems[i]
		at := fmt.Sprintf("storage.filesystems[%d]", i)
		given := f.DeviceID != "" || c.config.Gives(at+".deviceId")
		switch {
		case inMemory(f) && given:
			c.addStorageFault(at+".deviceId", "FilesystemUnexpectedBlockDeviceId", "is %q, and a new %s has no device", f.DeviceID, f.Type)
		case inMemory(f):
		case !given:
			c.addStorageFault(at, "FilesystemMissingBlockDeviceId", "has no deviceId, and only a new tmpfs or overlay needs none")
		case f.DeviceID == "":
			c.addStorageFault(at+".deviceId", "NonExistentReference", "is empty; wants the id of a device")
		}
		if inMemory(f) && f.MountPoint == nil {
			c.addStorageFault(at, "FilesystemMissingMountPoint", "is a new %s without a mountPoint, and would be nowhere", f.Type)
		}
		if f.IsESP() {
			if esp != "" {
				c.addStorageFault(at, "FilesystemEspMultiple", "is an EFI system partition, and so is %s: mark one with overrideEspMount: block", esp)
			} else {
				esp = at
			}
		}
		if f.MountPoint == nil {
			continue
		}
		where := f.MountPoint.Path
		if !path.IsAbs(where) {
			c.addStorageFault(at+".mountPoint.path", "MountPointPathNotAbsolute", "is %q; wants an absolute path", form.Shorten(where))
			continue
		}
		if first, ok := mounts[path.Clean(where)]; ok {
			c.addStorageFault(at+".mountPoint.path", "DuplicateMountPoint", "%s is the mount point of %s already", where, first)
			continue
		}
		mounts[path.Clean(where)] = at
	}
}

// checkTargets checks the devices that n refers to directly.
func (c *checker) checkTargets(g *graph, n *node) {
	rule := n.by.rule()
	kinds := map[deviceKind]bool{}
	ids := map[string]bool{}
	for _, r := range n.refs {
		if ids[r.id] {
			c.addStorageFault(r.path, "DuplicateTargetId", "%q is named twice by one %s", r.id, n.by)
			continue
		}
		ids[r.id] = true
		to := g.byID[r.id]
		if to == nil {
			c.addStorageFault(r.path, "NonExistentReference", "there is no device with the id %q", r.id)
			continue
		}
		kinds[to.kind] = true
		c.checkTarget(n, r, to, rule)
	}
	if count := len(n.refs); n.kind != "" && (count < rule.min || rule.max > 0 && count > rule.max) {
		c.addStorageFault(n.path+devicesKey(n), "InvalidTargetCount", "has %d, and %s needs at least %d", count, article(string(n.by)), rule.min)
	} else if n.by == byRAID && count >= rule.min && count < fewestMembers(n.level) {
		c.addStorageFault(n.path+".devices", "InvalidTargets", "has %d, and %s needs at least %d", count, n.level, fewestMembers(n.level))
	}
	if rule.sameKind && len(kinds) > 1 {
		c.addStorageFault(n.path+devicesKey(n), "ReferenceKindMismatch", "refers to devices of several kinds, and all must be of one")
	}
}

func devicesKey(n *node) string {
	if n.by == byRAID {
		return ".devices"
	}
	return ""
}

func (c *checker) checkTarget(n *node, r ref, to *node, rule rule) {
	if !slices.Contains(rule.devices, to.kind) {
		c.addStorageFault(r.path, "InvalidReferenceKind", "%q is %s, and %s may only be on %s", r.id, article(string(to.kind)), article(string(n.by)), orList(articles(rule.devices)))
		if n.by == byEncrypt {
			c.addFault(r.path, "EncryptedVolumeNotPartitionOrRaid", "%q is %s, and only a partition or a RAID array can be encrypted", r.id, article(string(to.kind)))
		}
	}
	if r.role != anyRole {
		if devices, _ := r.role.rule(); !slices.Contains(devices, to.kind) {
			c.addStorageFault(r.path, "InvalidSpecialReferenceKind", "%q is %s, which cannot have the %s of a verity device", r.id, article(string(to.kind)), r.role)
		}
	}
	if to.kind == aRAID && rule.levels != nil && !slices.Contains(rule.levels, to.level) {
		c.addStorageFault(r.path, "InvalidRaidlevel", "%q is a %s, and %s needs %s, which firmware reads as a plain partition",
			r.id, to.level, article(string(n.by)), orList(rule.levels))
	}
}

// checkSharing checks that each device has one user.
func (c *checker) checkSharing(g *graph) {
	users := map[string]*node{}
	for _, n := range g.nodes {
		for _, r := range n.refs {
			first := users[r.id]
			if first == nil {
				users[r.id] = n
			} else if first != n && g.byID[r.id] != nil {
				c.addStorageFault(r.path, "ReferrerForbiddenSharing", "%q is used by %s already (%s)", r.id, first, first.path)
			}
		}
	}
}

// checkCircles adds a fault for each device that, through other devices, refers to itself.
func (c *checker) checkCircles(g *graph) {
	const open, done = 1, 2
	state := map[*node]int{}
	var walk func(n *node)
	walk = func(n *node) {
		state[n] = open
		for _, r := range n.refs {
			switch to := g.byID[r.id]; {
			case to == nil:
			case state[to] == open:
				c.addStorageFault(r.path, "InternalError", "%q rests on itself", r.id)
			case state[to] == 0:
				walk(to)
			}
		}
		state[n] = done
	}
	for _, n := range g.nodes {
		if state[n] == 0 {
			walk(n)
		}
	}
}
