package loader

import (
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// StageEffects describes what Stage does.
func StageEffects(p *record.Examined) []change.Effect {
	var out change.Effects
	kernel := ""
	if p.Uname != "" {
		kernel = " " + p.Uname
	}
	out.Add("stage-boot-files", p.Record.Slot.String(), "put the kernel%s and the boot loader of %s on the EFI system partition", kernel, p.Record.Slot)
	return out
}

// TryEffects describes what Try does, and, in an installation, the step of it that hands
// over the datastore.
func TryEffects(p *record.Examined) []change.Effect {
	var out change.Effects
	in := p.Record.Slot
	if p.Record.Purpose != record.Installs {
		out.Add("boot-once", in.String(), "have the firmware boot %s once, and %s again after that", in, in.Other())
		if fallback(p) == hostconfig.FallbackOptimistic {
			renewsFallback(&out, p)
		}
		return out
	}
	if !p.Config.Spec().Trident.Disable {
		out.Add("hand-over", "", "give the datastore and the logs to the new system")
	}
	out.Add("boot-once", in.String(), "have the firmware boot %s next", in)
	out.Add("make-default", in.String(), "make %s the default boot entry", in)
	renewsFallback(&out, p)
	return out
}

// KeepEffects describes what Keep of package boot does.
func KeepEffects(p *record.Examined) []change.Effect {
	var out change.Effects
	if p.Record.Purpose == record.Installs {
		return nil // "try" has done that
	}
	out.Add("make-default", p.Record.Slot.String(), "make %s the default boot entry", p.Record.Slot)
	if fallback(p) != hostconfig.FallbackOptimistic { // else "try" has done that
		renewsFallback(&out, p)
	}
	return out
}

func fallback(p *record.Examined) hostconfig.UEFIFallback { return p.Config.Spec().OS.UEFIFallback }

func renewsFallback(out *change.Effects, p *record.Examined) {
	if fallback(p) != hostconfig.FallbackDisabled {
		out.Add("renew-fallback", p.Record.Slot.String(), "renew the fallback boot files in EFI/BOOT from %s", p.Record.Slot)
	}
}
