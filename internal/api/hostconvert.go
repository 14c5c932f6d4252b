package api

import (
	"fmt"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/servicing"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

// maxFindings bounds the findings in one answer.
const maxFindings = 1000

func findingsToWire(report hostconfig.Report) []*hostv1.Finding {
	return mapSlice(report[:min(len(report), maxFindings)], func(f hostconfig.Finding) *hostv1.Finding {
		out := &hostv1.Finding{
			Line: int32(f.Line), Column: int32(f.Column), Path: textToWire(f.Path), Severity: hostv1.Severity_SEVERITY_ERROR,
			Name: f.Name, Message: textToWire(f.Message),
		}
		if f.Detail != "" {
			out.Name = f.Detail
		}
		if f.Severity == hostconfig.Warning {
			out.Severity = hostv1.Severity_SEVERITY_WARNING
		}
		return out
	})
}

func planToWire(p *servicing.Plan, findings hostconfig.Report) *hostv1.PlanUpdateResponse {
	out := &hostv1.PlanUpdateResponse{
		Kind: kindToWire(p.Kind), EffectiveConfig: string(p.Effective.YAML()), Warnings: warningsToWire(p, findings),
		Text: textToWire(p.String()), Steps: mapSlice(p.Steps, plannedStepToWire), Storage: storageToWire(p.Storage),
	}
	for _, r := range p.Reasons {
		kind := kindToWire(servicing.Kind(r.Kind.String())) // they have the same words
		out.Reasons = append(out.Reasons, &hostv1.Reason{Path: textToWire(r.Path), Kind: kind, Message: textToWire(r.Text)})
	}
	if p.Kind == servicing.RuntimeUpdate {
		out.Actions = mapSlice(p.Effects(), effectToWire)
	}
	return out
}

func plannedStepToWire(s servicing.PlannedStep) *hostv1.PlannedStep {
	return &hostv1.PlannedStep{Name: s.Name, Actions: mapSlice(s.Effects, effectToWire)}
}

func effectToWire(e servicing.Effect) *hostv1.Action {
	return &hostv1.Action{Kind: e.Kind, Object: textToWire(e.Object), Message: textToWire(e.Text)}
}

// warningsToWire returns the findings of a configuration and the warnings of a plan.
func warningsToWire(p *servicing.Plan, findings hostconfig.Report) []*hostv1.Finding {
	out := findingsToWire(findings)
	for _, text := range p.Warnings {
		out = append(out, &hostv1.Finding{Severity: hostv1.Severity_SEVERITY_WARNING, Message: textToWire(text)})
	}
	return out
}

func hostToWire(s hoststate.Status, chain []hoststate.Link) *hostv1.GetHostResponse {
	out := &hostv1.GetHostResponse{
		ActiveVolume: string(s.ABActiveVolume), LastError: lastErrorToWire(s.LastError), RecordedBy: textToWire(s.TridentVersion),
		RollbackTargets: mapSlice(fitting(chain), targetToWire),
	}
	if s.Phase == nil {
		return out
	}
	out.Phase, out.ServicingState = phaseOfHost(s.Phase), s.Phase.State()
	runs, next := configsOf(s)
	if runs != "" {
		out.Config = specToText(runs)
	}
	if next != "" {
		out.NextConfig = specToText(next)
	}
	if c, err := hostconfig.ParseRecorded([]byte(runs)); err == nil {
		out.Extensions = append(extensionsToWire("sysext", c.Spec().OS.Sysexts), extensionsToWire("confext", c.Spec().OS.Confexts)...)
	}
	return out
}

func phaseOfHost(p hoststate.Phase) hostv1.HostPhase {
	switch p.(type) {
	case hoststate.Fresh:
		return hostv1.HostPhase_HOST_PHASE_FRESH
	case hoststate.Settled:
		return hostv1.HostPhase_HOST_PHASE_SETTLED
	case hoststate.Staged:
		return hostv1.HostPhase_HOST_PHASE_STAGED
	case hoststate.Trying:
		return hostv1.HostPhase_HOST_PHASE_TRYING
	}
	return hostv1.HostPhase_HOST_PHASE_UNSPECIFIED
}

func extensionsToWire(kind string, list []hostconfig.Extension) []*hostv1.ActiveExtension {
	return mapSlice(list, func(e hostconfig.Extension) *hostv1.ActiveExtension {
		return &hostv1.ActiveExtension{Kind: kind, Path: e.Path, Url: string(e.URL), Sha384: string(e.SHA384)}
	})
}

func carriedToWire(e servicing.CarriedExtension) *hostv1.ActiveExtension {
	return &hostv1.ActiveExtension{Kind: e.Class, Path: textToWire(e.Path), Sha384: e.SHA384, Carried: true}
}

func targetToWire(l hoststate.Link) *hostv1.RollbackTarget {
	return &hostv1.RollbackTarget{
		Kind: string(l.Kind), Config: specToText(l.Spec), ActiveVolume: string(l.ABActiveVolume), InstallIndex: int32(l.InstallIndex),
	}
}

// healthToWire returns the faults of the record: of its newest row, of a configuration in
// that row, or of the file that this one replaced.
func healthToWire(s hoststate.Status, unreadable *hoststate.ParseHostStatusError, damaged []hoststate.Damaged) *hostv1.DatastoreHealth {
	var faults []string
	for _, spec := range []string{s.Spec, s.SpecOld} {
		if _, err := hostconfig.ParseRecorded([]byte(spec)); err != nil {
			faults = append(faults, err.Error())
		}
	}
	if unreadable != nil {
		faults = append(faults, unreadable.Error())
	}
	for _, d := range damaged {
		faults = append(faults, fmt.Sprintf("the datastore was damaged and Trident restored its backup at %s; the damaged file is %s", d.Time.UTC().Format("2006-01-02 15:04:05"), d.Path))
	}
	return &hostv1.DatastoreHealth{Sound: len(faults) == 0, Message: textToWire(strings.Join(faults, "\n"))}
}
