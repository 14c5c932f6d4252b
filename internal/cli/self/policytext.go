package self

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/when"
	"github.com/trident-project/trident/proto/client"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

func writePolicy(w *terminal.Table, p *client.PolicyOrigin) {
	w.Head("SETTING", "VALUE", "FROM")
	for _, name := range settingNames() {
		from := "default"
		switch {
		case slices.Contains(p.GetSet(), nameToAPI(name)):
			from = "set"
		case slices.Contains(p.GetConfigured(), nameToAPI(name)):
			from = "update.conf"
		}
		w.Row(name, settingText(p.GetPolicy(), name), from)
	}
}

// settingText returns a setting for people.
func settingText(p *client.Policy, name string) string {
	switch name {
	case "feed":
		return cmp.Or(p.GetFeed(), "none")
	case "channel":
		return cmp.Or(p.GetChannel(), "stable")
	case "auto":
		return autoWord(p.GetAuto())
	case "hold":
		return holdText(p.GetHold())
	case "pin":
		return cmp.Or(p.GetPin(), "none")
	case "window":
		return windowText(p.GetWindow())
	case "max-bytes":
		if p.GetMaxBytes() == 0 {
			return "no bound"
		}
		return bytesize.Plain(p.GetMaxBytes())
	case "grace":
		return when.FormatSpan(p.GetGrace().AsDuration())
	case "allow-read-only-usr":
		if p.GetAllowReadOnlyUsr() {
			return "yes"
		}
		return "no"
	}
	return ""
}

func autoWord(a selfv1.Auto) string {
	word, _, _ := strings.Cut(autoText(a), ":")
	return word
}

func holdText(h *selfv1.Hold) string {
	if h == nil {
		return "no"
	}
	text := "for ever"
	if h.GetUntil() != nil {
		text = "until " + terminal.FormatTime(h.GetUntil())
	}
	if h.GetReason() != "" {
		text += ": " + h.GetReason()
	}
	return text
}

func windowText(w *selfv1.Window) string {
	if w == nil {
		return "at any time"
	}
	out := when.Window{Begin: int(w.GetBegin()), End: int(w.GetEnd()), TimeZone: w.GetTimeZone()}
	for _, day := range w.GetDays() {
		out.Days = append(out.Days, time.Weekday(day))
	}
	return out.String()
}

// policyText is the policy in one line, for the status.
func policyText(p *client.Policy) string {
	facts := []string{"auto " + autoWord(p.GetAuto())}
	if p.GetPin() != "" {
		facts = append(facts, "pinned to "+p.GetPin())
	}
	if p.GetHold() != nil {
		facts = append(facts, "held "+holdText(p.GetHold()))
	}
	return strings.Join(facts, ", ")
}
