package hooks

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/hostconfig"
)

func TestTheWrapperPassesArgumentsAndEnvironmentOn(t *testing.T) {
	content := "x"
	j := job{file: "/a b", on: hostconfig.OnRuntimeUpdate, script: hostconfig.Script{Interpreter: "bash", Content: &content, Arguments: []string{"it's", "$HOME"}, EnvironmentVariables: map[string]string{"B": "`x`", "A": "1"}}}
	want := "export TARGET_ROOT=/ SERVICING_TYPE=runtime-update\nexport A='1'\nexport B='`x`'\n'bash' '/a b' 'it'\\''s' '$HOME'\necho $? > '/s.new' && mv '/s.new' '/s'\n"
	if diff := cmp.Diff(want, j.wrapper("/s")); diff != "" {
		t.Error(diff)
	}
}

func TestAUnitHasItsTypeInItsName(t *testing.T) {
	for name, want := range map[string]string{"a": "a.service", "a.service": "a.service", "a.b": "a.b.service", " x.timer": "x.timer", "a@b.c": "a@b.c.service"} {
		if got := unitName(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}
