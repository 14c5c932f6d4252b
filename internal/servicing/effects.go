package servicing

import (
	"fmt"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/storage"
)

// planned is what is known before a servicing: the effects of its steps follow from it.
type planned struct {
	config *hostconfig.Config
	on     hostconfig.ServicingType
	change diff.Change // at run time

	os       *osRecord // of a whole OS
	examined *examined

	stream *streamRecord // of a whole disk
}

// effects collects those of a step.
type effects []Effect

func (e *effects) add(kind, object, format string, args ...any) {
	*e = append(*e, Effect{kind, object, fmt.Sprintf(format, args...)})
}

// scripts are the effects of a step that runs the scripts of a list.
func scripts(list func(*hostconfig.Scripts) []hostconfig.Script) func(*planned) []Effect {
	return func(p *planned) []Effect {
		var out effects
		for i, h := range hooks(list(&p.config.Spec().Scripts), p.on) {
			out.add("run-script", plainName(h.Name, i), "run the script %s", nameOf(h.Name, i))
		}
		return out
	}
}

func preScripts(s *hostconfig.Scripts) []hostconfig.Script       { return s.PreServicing }
func provisionScripts(s *hostconfig.Scripts) []hostconfig.Script { return s.PostProvision }
func configureScripts(s *hostconfig.Scripts) []hostconfig.Script { return s.PostConfigure }

func checksHealth(p *planned) []Effect {
	var out effects
	for i, c := range healthChecks(p.config.Spec().Health, p.on) {
		name := ""
		switch {
		case c.Script != nil:
			name = c.Script.Name
		case c.Systemd != nil:
			name = c.Systemd.Name
		}
		out.add("check-health", plainName(name, i), "check the health: %s; undo everything if that fails", nameOf(name, i))
	}
	return out
}

// The effects of a runtime update.

func writesFiles(p *planned) []Effect {
	var out effects
	for _, f := range p.change.Files.Write {
		out.add("write-file", f.Destination, "write %s", f.Destination)
	}
	for _, f := range p.change.Files.Remove {
		out.add("remove-file", f.Destination, "remove %s", f.Destination)
	}
	return out
}

func setsUpNetwork(p *planned) []Effect {
	var out effects
	switch {
	case !p.change.Netplan:
	case p.config.Spec().OS.Netplan == nil:
		out.add("apply-netplan", "", "remove the network configuration and apply that")
	default:
		out.add("apply-netplan", "", "write the network configuration and apply it")
	}
	return out
}

func changesExtensions(p *planned) []Effect {
	var out effects
	for _, c := range []struct {
		class  extension.Class
		change diff.ExtensionChange
	}{{extension.Sysext, p.change.Sysexts}, {extension.Confext, p.change.Confexts}} {
		for _, e := range c.change.Added {
			out.add("add-"+string(c.class), extensionName(e), "add the %s %s", c.class, extensionName(e))
		}
		for _, e := range c.change.Replaced {
			out.add("replace-"+string(c.class), extensionName(e.New), "replace the %s %s by %s", c.class, extensionName(e.Old), extensionName(e.New))
		}
		for _, e := range c.change.Removed {
			out.add("remove-"+string(c.class), extensionName(e), "remove the %s %s", c.class, extensionName(e))
		}
	}
	return out
}

// extensionName is where an extension lies or else the last part of its URL,
// without what may be a secret.
func extensionName(e hostconfig.Extension) string {
	if e.Path != "" {
		return e.Path
	}
	url, _, _ := strings.Cut(string(e.URL), "?")
	url, _, _ = strings.Cut(url, "#")
	return path.Base(url)
}

func recordsFallback(p *planned) []Effect {
	var out effects
	if p.change.UEFIFallback {
		out.add("record-uefi-fallback", "", "record os.uefiFallback, which takes effect with the next A/B update")
	}
	return out
}

// The effects of an installation, or an update into the other slot.

func setsUpManagementOS(p *planned) []Effect {
	var out effects
	if !p.os.Install {
		return nil
	}
	m := &p.config.Spec().ManagementOS
	for _, u := range m.Users {
		out.add("set-up-management-user", u.Name, "set up the user %s of the system that installs", u.Name)
	}
	if m.Netplan != nil {
		out.add("apply-management-netplan", "", "set up the network of the system that installs")
	}
	return out
}

func partitions(p *planned) []Effect {
	var out effects
	d := p.examined.plan.Describe()
	if d.For == storage.Install {
		for _, disk := range d.Disks {
			out.add("replace-table", disk.Path, "replace the partition table of %s; what is in no adopted partition is lost", disk.Path)
		}
	} else {
		out.add("remove-boot-files", d.Slot.String(), "remove the boot files and the boot entry of %s", d.Slot)
	}
	for _, f := range d.Formats {
		out.add("make-filesystem", f.Path, "make an empty file system %s on %s (%s)", f.Type, f.Path, f.ID)
	}
	return out
}

func writesImage(p *planned) []Effect {
	var out effects
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
		out.add("write-partition", target.Path, "write the image's file system for %s to %s (%s)%s", q.Name, target.Path, target.ID, more)
	}
	return out
}

func configures(p *planned) []Effect {
	var out effects
	spec := p.config.Spec()
	o := &spec.OS
	out.add("write-fstab", "/etc/fstab", "write /etc/fstab of the new system")
	if p.os.Install {
		out.add("reset-machine-id", "/etc/machine-id", "have the new system make itself an identity at its first boot")
	} else {
		out.add("carry-identity", "/etc/machine-id", "give the new system the identity of this host")
	}
	for _, u := range o.Users {
		out.add("set-up-user", u.Name, "set up the user %s", u.Name)
	}
	if o.Hostname != "" {
		out.add("set-hostname", o.Hostname, "set the name of the host to %s", o.Hostname)
	}
	for _, m := range o.Modules {
		out.add("set-up-module", m.Name, "set up the kernel module %s", m.Name)
	}
	for _, s := range o.Services.Enable {
		out.add("enable-service", s, "enable %s", s)
	}
	for _, s := range o.Services.Disable {
		out.add("disable-service", s, "disable %s", s)
	}
	if o.SELinux.Mode != "" {
		out.add("set-selinux-mode", string(o.SELinux.Mode), "set the mode of SELinux to %s", o.SELinux.Mode)
	}
	if o.Netplan != nil {
		out.add("write-netplan", "", "write the network configuration")
	}
	for _, f := range o.AdditionalFiles {
		out.add("write-file", f.Destination, "write %s", f.Destination)
	}
	for _, e := range o.Sysexts {
		out.add("add-sysext", extensionName(e), "add the sysext %s", extensionName(e))
	}
	for _, e := range o.Confexts {
		out.add("add-confext", extensionName(e), "add the confext %s", extensionName(e))
	}
	if !p.os.Install {
		out.add("arm-guard", guardTimer, "have the new system return to this one unless it is confirmed in time")
	}
	return out
}

func labelsFiles(*planned) []Effect {
	var out effects
	out.add("label-files", "", "label the files of the new system, if SELinux is on in it")
	return out
}

func stagesBoot(p *planned) []Effect {
	var out effects
	kernel := ""
	if p.examined.boot.Uname != "" {
		kernel = " " + p.examined.boot.Uname
	}
	out.add("stage-boot-files", p.os.Slot.String(), "put the kernel%s and the boot loader of %s on the EFI system partition", kernel, p.os.Slot)
	return out
}

// tries is what Try of package boot does, and for an installation Keep.
func tries(p *planned) []Effect {
	var out effects
	in := p.os.Slot
	if !p.os.Install {
		out.add("boot-once", in.String(), "have the firmware boot %s once, and %s again after that", in, in.Other())
		if fallback(p) == hostconfig.FallbackOptimistic {
			renewsFallback(&out, p)
		}
		return out
	}
	if !p.config.Spec().Trident.Disable {
		out.add("hand-over", "", "give the datastore and the logs to the new system")
	}
	out.add("boot-once", in.String(), "have the firmware boot %s next", in)
	out.add("make-default", in.String(), "make %s what the firmware boots", in)
	renewsFallback(&out, p)
	return out
}

func fallback(p *planned) hostconfig.UEFIFallback { return p.config.Spec().OS.UEFIFallback }

func renewsFallback(out *effects, p *planned) {
	if fallback(p) != hostconfig.FallbackDisabled {
		out.add("renew-fallback", p.os.Slot.String(), "renew the fallback boot files in EFI/BOOT from %s", p.os.Slot)
	}
}

func rebootsHost(*planned) []Effect {
	var out effects
	out.add("reboot", "", "reboot the host")
	return out
}

// settles is what Keep of package boot does.
func settles(p *planned) []Effect {
	var out effects
	if p.os.Install {
		return nil // "try" has done that
	}
	out.add("make-default", p.os.Slot.String(), "make %s what the firmware boots", p.os.Slot)
	if fallback(p) != hostconfig.FallbackOptimistic { // else "try" has done that
		renewsFallback(&out, p)
	}
	return out
}

// The effects of writing a whole disk.

func writesDisk(p *planned) []Effect {
	var out effects
	out.add("wipe-table", p.stream.Disk, "wipe the partition table of %s; all that is on the disk is lost", p.stream.Disk)
	for _, q := range p.stream.Parts {
		out.add("write-partition", q.Name, "write %s of the image to its place on %s", q.Name, p.stream.Disk)
	}
	return out
}

func writesTable(p *planned) []Effect {
	var out effects
	out.add("replace-table", p.stream.Disk, "write the partition table of the image to %s", p.stream.Disk)
	return out
}
