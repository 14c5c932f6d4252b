package change

import (
	"fmt"
	"log/slog"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/diff"
	"github.com/trident-project/trident/internal/storage"
)

// NoUpdate begins with upstream's text, which its tests search for.
const NoUpdate = "No update servicing required: the host has what the configuration says"

// Plan is what a servicing would do to a host: an installation, an update in the running
// system or into the other slot, or the writing of a whole disk. Each step describes its
// own effects (Step.Effects).
type Plan struct {
	Kind    Kind
	Reasons []diff.Reason // why it is of this kind
	// Effective is the configuration as it would be recorded; nil for a whole disk.
	Effective *hostconfig.Config
	// Steps are those that change something, in order.
	Steps []PlannedStep
	// Storage describes the new layout of the disks; nil if no partition is written.
	Storage *storage.Description
	// Warnings are those that the servicing would log before it changes a disk.
	Warnings []string
}

// PlannedStep is a step of an operation and its effects.
type PlannedStep struct {
	Name    string
	Effects []Effect
}

// Effect is one thing that a step does.
type Effect struct {
	Kind   string // for programs, such as write-file
	Object string // the path or name of the changed object
	Text   string // for people, in one line
}

// Effects returns the effects of all steps, in order.
func (p *Plan) Effects() []Effect {
	var out []Effect
	for _, s := range p.Steps {
		out = append(out, s.Effects...)
	}
	return out
}

// String returns the plan for people, in several lines.
func (p *Plan) String() string {
	var b strings.Builder
	if p.Storage != nil {
		fmt.Fprintf(&b, "%s\n", p.Storage)
	}
	if p.Kind == None {
		b.WriteString(NoUpdate + ".\n")
	}
	if len(p.Steps) > 0 {
		fmt.Fprintf(&b, "Steps of the servicing %s:\n", p.Kind)
	}
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  %s\n", s.Name)
		for _, e := range s.Effects {
			fmt.Fprintf(&b, "    %s\n", e.Text)
		}
	}
	if len(p.Reasons) > 0 {
		b.WriteString("Why:\n")
	}
	for _, r := range p.Reasons {
		fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(r.Path+" "+r.Text))
	}
	return b.String()
}

// Warn adds text to the warnings if level is Warn or higher.
func (p *Plan) Warn(level slog.Level, text string) {
	if level >= slog.LevelWarn {
		p.Warnings = append(p.Warnings, text)
	}
}

// Kind is the kind of servicing that an operation does.
type Kind string

// The kinds of servicing, in upstream's words.
const (
	None            Kind = "none" // there was nothing to do
	RuntimeUpdate   Kind = "runtime-update"
	ABUpdate        Kind = "ab-update"
	CleanInstall    Kind = "clean-install"
	RuntimeRollback Kind = "manual-rollback-runtime"
	ABRollback      Kind = "manual-rollback-ab"
)

// Effects collects the effects of a step.
type Effects []Effect

// Add adds one effect; format and args make its text.
func (e *Effects) Add(kind, object, format string, args ...any) {
	*e = append(*e, Effect{kind, object, fmt.Sprintf(format, args...)})
}

// ExtensionName returns the path of an extension, or else the last part of its URL without
// query and fragment, which may contain secrets.
func ExtensionName(e hostconfig.Extension) string {
	if e.Path != "" {
		return e.Path
	}
	url, _, _ := strings.Cut(string(e.URL), "?")
	url, _, _ = strings.Cut(url, "#")
	return path.Base(url)
}
