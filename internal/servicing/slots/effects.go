package slots

import (
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// scripts returns the Effects of a step that runs the scripts of a list.
func scripts(list func(*hostconfig.Scripts) []hostconfig.Script) func(*record.Examined) []change.Effect {
	return func(p *record.Examined) []change.Effect {
		return hooks.ScriptEffects(list(&p.Config.Spec().Scripts), p.Record.Purpose.On())
	}
}

func preScripts(s *hostconfig.Scripts) []hostconfig.Script { return s.PreServicing }

func provisionScripts(s *hostconfig.Scripts) []hostconfig.Script { return s.PostProvision }

func configureScripts(s *hostconfig.Scripts) []hostconfig.Script { return s.PostConfigure }

func checksHealth(p *record.Examined) []change.Effect {
	return hooks.HealthEffects(p.Config.Spec().Health, p.Record.Purpose.On())
}
