package slots

import (
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/storage"
)

// planned is what the effects of the steps depend on.
type planned struct {
	config   *hostconfig.Config
	on       hostconfig.ServicingType
	os       *record
	examined *examined

	stream *diskRecord // only if a whole disk is written
}

// scripts returns the Effects of a step that runs the scripts of a list.
func scripts(list func(*hostconfig.Scripts) []hostconfig.Script) func(*planned) []change.Effect {
	return func(p *planned) []change.Effect { return hooks.ScriptEffects(list(&p.config.Spec().Scripts), p.on) }
}

func preScripts(s *hostconfig.Scripts) []hostconfig.Script       { return s.PreServicing }
func provisionScripts(s *hostconfig.Scripts) []hostconfig.Script { return s.PostProvision }
func configureScripts(s *hostconfig.Scripts) []hostconfig.Script { return s.PostConfigure }

func checksHealth(p *planned) []change.Effect {
	return hooks.HealthEffects(p.config.Spec().Health, p.on)
}

func setsUpManagementOS(p *planned) []change.Effect {
	var out change.Effects
	if p.os.Purpose != installs {
		return nil
	}
	m := &p.config.Spec().ManagementOS
	for _, u := range m.Users {
		out.Add("set-up-management-user", u.Name, "set up the user %s of the live system", u.Name)
	}
	if m.Netplan != nil {
		out.Add("apply-management-netplan", "", "set up the network of the live system")
	}
	return out
}

func partitions(p *planned) []change.Effect {
	var out change.Effects
	d := p.examined.plan.Describe()
	if d.For == storage.Install {
		for _, disk := range d.Disks {
			out.Add("replace-table", disk.Path, "replace the partition table of %s; everything outside of adopted partitions is lost", disk.Path)
		}
	} else {
		out.Add("remove-boot-files", d.Slot.String(), "remove the boot files and the boot entry of %s", d.Slot)
	}
	for _, f := range d.Formats {
		out.Add("make-filesystem", f.Path, "make an empty file system %s on %s (%s)", f.Type, f.Path, f.ID)
	}
	return out
}

func writesImage(p *planned) []change.Effect {
	var out change.Effects
	for _, q := range p.os.Parts {
		if q.ESP {
			continue
		}
		target, err := p.examined.plan.Target(q.Device)
		if err != nil {
			continue
		}
		more := ""
		if !q.ReadOnly && !p.examined.whole[q.File] && len(storage.ResizeTools(q.Type)) > 0 {
			more = ", and make it as large as the partition"
		}
		out.Add("write-partition", target.Path, "write the image's file system for %s to %s (%s)%s", q.Name, target.Path, target.ID, more)
	}
	return out
}

func configures(p *planned) []change.Effect {
	var out change.Effects
	spec := p.config.Spec()
	o := &spec.OS
	out.Add("write-fstab", "/etc/fstab", "write /etc/fstab of the new system")
	if p.os.Purpose == installs {
		out.Add("reset-machine-id", "/etc/machine-id", "have the new system make a machine ID at its first boot")
	} else {
		out.Add("carry-identity", "/etc/machine-id", "give the new system the identity of this host")
	}
	for _, u := range o.Users {
		out.Add("set-up-user", u.Name, "set up the user %s", u.Name)
	}
	if o.Hostname != "" {
		out.Add("set-hostname", o.Hostname, "set the name of the host to %s", o.Hostname)
	}
	for _, m := range o.Modules {
		out.Add("set-up-module", m.Name, "set up the kernel module %s", m.Name)
	}
	for _, s := range o.Services.Enable {
		out.Add("enable-service", s, "enable %s", s)
	}
	for _, s := range o.Services.Disable {
		out.Add("disable-service", s, "disable %s", s)
	}
	if o.SELinux.Mode != "" {
		out.Add("set-selinux-mode", string(o.SELinux.Mode), "set the mode of SELinux to %s", o.SELinux.Mode)
	}
	if o.Netplan != nil {
		out.Add("write-netplan", "", "write the network configuration")
	}
	for _, f := range o.AdditionalFiles {
		out.Add("write-file", f.Destination, "write %s", f.Destination)
	}
	for _, e := range o.Sysexts {
		out.Add("add-sysext", change.ExtensionName(e), "add the sysext %s", change.ExtensionName(e))
	}
	for _, e := range o.Confexts {
		out.Add("add-confext", change.ExtensionName(e), "add the confext %s", change.ExtensionName(e))
	}
	if p.os.Purpose != installs {
		out.Add("arm-guard", guardTimer, "have the new system reboot into this one unless Trident confirms it in time")
	}
	return out
}

func labelsFiles(*planned) []change.Effect {
	var out change.Effects
	out.Add("label-files", "", "label the files of the new system, if SELinux is on in it")
	return out
}

func stagesBoot(p *planned) []change.Effect {
	var out change.Effects
	kernel := ""
	if p.examined.boot.Uname != "" {
		kernel = " " + p.examined.boot.Uname
	}
	out.Add("stage-boot-files", p.os.Slot.String(), "put the kernel%s and the boot loader of %s on the EFI system partition", kernel, p.os.Slot)
	return out
}

// tries returns the effects of "try": those of Try of package boot, and, in an
// installation, of Keep.
func tries(p *planned) []change.Effect {
	var out change.Effects
	in := p.os.Slot
	if p.os.Purpose != installs {
		out.Add("boot-once", in.String(), "have the firmware boot %s once, and %s again after that", in, in.Other())
		if fallback(p) == hostconfig.FallbackOptimistic {
			renewsFallback(&out, p)
		}
		return out
	}
	if !p.config.Spec().Trident.Disable {
		out.Add("hand-over", "", "give the datastore and the logs to the new system")
	}
	out.Add("boot-once", in.String(), "have the firmware boot %s next", in)
	out.Add("make-default", in.String(), "make %s the default boot entry", in)
	renewsFallback(&out, p)
	return out
}

func fallback(p *planned) hostconfig.UEFIFallback { return p.config.Spec().OS.UEFIFallback }

func renewsFallback(out *change.Effects, p *planned) {
	if fallback(p) != hostconfig.FallbackDisabled {
		out.Add("renew-fallback", p.os.Slot.String(), "renew the fallback boot files in EFI/BOOT from %s", p.os.Slot)
	}
}

func rebootsHost(*planned) []change.Effect {
	var out change.Effects
	out.Add("reboot", "", "reboot the host")
	return out
}

// settles returns the effects of Keep of package boot.
func settles(p *planned) []change.Effect {
	var out change.Effects
	if p.os.Purpose == installs {
		return nil // "try" has done that
	}
	out.Add("make-default", p.os.Slot.String(), "make %s the default boot entry", p.os.Slot)
	if fallback(p) != hostconfig.FallbackOptimistic { // else "try" has done that
		renewsFallback(&out, p)
	}
	return out
}

func writesDisk(p *planned) []change.Effect {
	var out change.Effects
	out.Add("wipe-table", p.stream.Disk, "wipe the partition table of %s; everything on the disk is lost", p.stream.Disk)
	for _, q := range p.stream.Parts {
		out.Add("write-partition", q.Name, "write %s of the image to its place on %s", q.Name, p.stream.Disk)
	}
	return out
}

func writesTable(p *planned) []change.Effect {
	var out change.Effects
	out.Add("replace-table", p.stream.Disk, "write the partition table of the image to %s", p.stream.Disk)
	return out
}
