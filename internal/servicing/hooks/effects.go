package hooks

import (
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/change"
)

// ScriptEffects returns the effects of a step that runs the scripts of a list.
func ScriptEffects(list []hostconfig.Script, on hostconfig.ServicingType) []change.Effect {
	var out change.Effects
	for i, h := range Of(list, on) {
		out.Add("run-script", plainName(h.Name, i), "run the script %s", Name(h.Name, i))
	}
	return out
}

// HealthEffects returns the effects of a step that checks the health of a host.
func HealthEffects(h hostconfig.Health, on hostconfig.ServicingType) []change.Effect {
	var out change.Effects
	for i, c := range healthChecks(h, on) {
		name := ""
		switch {
		case c.Script != nil:
			name = c.Script.Name
		case c.Systemd != nil:
			name = c.Systemd.Name
		}
		out.Add("check-health", plainName(name, i), "check the health: %s; undo everything if that fails", Name(name, i))
	}
	return out
}
