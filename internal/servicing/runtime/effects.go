package runtime

import (
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
)

// planned has the facts from which a plan derives the effects of the steps.
type planned struct {
	config *hostconfig.Config
	change diff.Change // from the configuration of the host to config
	// rollbacks, of a reset, is how many rollbacks the host loses.
	rollbacks int
}

// scripts returns the Effects of a step that runs the scripts of a point.
func scripts(point func(*hostconfig.Config, hostconfig.ServicingType) hooks.Point) func(*planned) []change.Effect {
	return func(p *planned) []change.Effect { return point(p.config, hostconfig.OnRuntimeUpdate).Effects() }
}

func checksHealth(p *planned) []change.Effect {
	return hooks.HealthEffects(p.config.Spec().Health, hostconfig.OnRuntimeUpdate)
}

func writesFiles(p *planned) []change.Effect {
	var out change.Effects
	for _, f := range p.change.Files.Write {
		out.Add("write-file", f.Destination, "write %s", f.Destination)
	}
	for _, f := range p.change.Files.Remove {
		out.Add("remove-file", f.Destination, "remove %s", f.Destination)
	}
	return out
}

func setsUpNetwork(p *planned) []change.Effect {
	var out change.Effects
	switch {
	case !p.change.Netplan:
	case p.config.Spec().OS.Netplan == nil:
		out.Add("apply-netplan", "", "remove the network configuration and apply that")
	default:
		out.Add("apply-netplan", "", "write the network configuration and apply it")
	}
	return out
}

func changesExtensions(p *planned) []change.Effect {
	var out change.Effects
	for _, c := range []struct {
		class  extension.Class
		change diff.ExtensionChange
	}{{extension.Sysext, p.change.Sysexts}, {extension.Confext, p.change.Confexts}} {
		for _, e := range c.change.Added {
			out.Add("add-"+string(c.class), change.ExtensionName(e), "add the %s %s", c.class, change.ExtensionName(e))
		}
		for _, e := range c.change.Replaced {
			out.Add("replace-"+string(c.class), change.ExtensionName(e.New), "replace the %s %s by %s", c.class, change.ExtensionName(e.Old), change.ExtensionName(e.New))
		}
		for _, e := range c.change.Removed {
			if e.Path == change.OwnPath { // Trident stays
				continue
			}
			out.Add("remove-"+string(c.class), change.ExtensionName(e), "remove the %s %s", c.class, change.ExtensionName(e))
		}
	}
	return out
}

func recordsFallback(p *planned) []change.Effect {
	var out change.Effects
	if p.change.UEFIFallback {
		out.Add("record-uefi-fallback", "", "record os.uefiFallback, which takes effect with the next A/B update")
	}
	return out
}
