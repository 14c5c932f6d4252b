package newos

import (
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// ConfigureEffects describes what Configure does.
func ConfigureEffects(p *record.Examined) []change.Effect {
	var out change.Effects
	spec := p.Config.Spec()
	o := &spec.OS
	out.Add("write-fstab", "/etc/fstab", "write /etc/fstab of the new system")
	if p.Record.Purpose == record.Installs {
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
	if p.Record.Purpose != record.Installs {
		out.Add("arm-guard", guardTimer, "have the new system reboot into this one unless Trident confirms it in time")
	}
	return out
}

// LabelEffects describes what Label does.
func LabelEffects(*record.Examined) []change.Effect {
	var out change.Effects
	out.Add("label-files", "", "label the files of the new system, if SELinux is on in it")
	return out
}
