package errkind

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/sourcetest"
)

func TestANameLeavesTextKindAndHintAlone(t *testing.T) {
	inner := WithHint(Errorf(Timeout, "run it: %w", errors.New("too slow")), "wait")
	err := fmt.Errorf("outer: %w", WithName(inner, "RunPostConfigureScript"))
	if err.Error() != "outer: run it: too slow" || Of(err) != Timeout || Hint(err) != "wait" {
		t.Errorf("%v, %s, %q", err, Of(err), Hint(err))
	}
	if got, want := NameOf(err), (Name{Servicing, "RunPostConfigureScript"}); got != want || Variant(err) != want.Variant {
		t.Errorf("name %v, variant %q", got, Variant(err))
	}
	if got := NameOf(WithName(err, "ManualRollback")); got.Variant != "ManualRollback" {
		t.Errorf("the outermost name does not count: %v", got)
	}
	if WithName(nil, "X") != nil || WithField(nil, "x") != nil {
		t.Error("nil became an error")
	}
}

func TestANameHasItsCategory(t *testing.T) {
	for variant, want := range map[string]Category{
		"RunPostConfigureScript": Servicing, "ParseHostConfiguration": InvalidInput, "PopulateExtensionImages": InternalFault,
		"HealthChecksFailed": HealthChecks, "LoadHostStatus": Initialization, "MissingBinary": ExecutionEnvironment,
		"NoSuitableDisk": UnsupportedConfiguration, "GetBlockDevicePath": Servicing, "SomethingOfOurs": Servicing,
	} {
		if got := NameFrom(variant, Internal); got.Category != want || got.Variant != variant {
			t.Errorf("%s is %v, want %s", variant, got, want)
		}
	}
}

// As many as the reference counts in each category.
func TestTheTableHasEveryName(t *testing.T) {
	want := map[Category]int{
		InternalFault: 21, InvalidInput: 42, ExecutionEnvironment: 3, HealthChecks: 2, Initialization: 8, UnsupportedConfiguration: 3,
		Servicing: 100,
	}
	for _, c := range categories() {
		seen := map[string]bool{}
		for _, v := range strings.Fields(c.variants) {
			if seen[v] {
				t.Errorf("%s has %s twice", c.category, v)
			}
			seen[v] = true
		}
		if len(seen) != want[c.category] {
			t.Errorf("%s has %d names, want %d", c.category, len(seen), want[c.category])
		}
	}
}

func TestSubkindsAreKebabCase(t *testing.T) {
	for variant, want := range map[string]string{
		"Datastore": "datastore", "InvalidHostConfigurationStatic": "invalid-host-configuration-static",
		"DeployESPImages": "deploy-esp-images", "GenerateTpm2AccessPolicy": "generate-tpm2-access-policy",
		"AbUpdateRebootCheck": "ab-update-reboot-check", "SetUpUefiFallback": "set-up-uefi-fallback", "": "unknown",
	} {
		if got := (Name{Servicing, variant}).Subkind(); got != want {
			t.Errorf("%s is %s, want %s", variant, got, want)
		}
	}
}

func TestEveryKindHasACategoryWithoutAName(t *testing.T) {
	for _, kind := range sourcetest.Constants(t, "proto/errkind/errkind.go") {
		k := Kind(kind)
		n := NameOf(Errorf(k, "x"))
		if n.Category == "" || Variant(Errorf(k, "x")) != "" {
			t.Errorf("%s is %v", k, n)
		}
		if n.Variant != "" && nameOf(n.Variant) != n {
			t.Errorf("%s is %v, and that variant is %v", k, n, nameOf(n.Variant))
		}
	}
}

func TestAnErrorKnowsWhereItGotItsNameOrKind(t *testing.T) {
	const here = "internal/errkind/name_test.go"
	made := Errorf(Invalid, "x")
	file, line := Location(fmt.Errorf("y: %w", made))
	if file != here || line == 0 {
		t.Errorf("an error with a kind is from %s:%d", file, line)
	}
	named := WithName(made, "LoadCosi")
	if file, after := Location(named); file != here || after <= line {
		t.Errorf("an error with a name is from %s:%d, the kind is from line %d", file, after, line)
	}
	if file, line := Location(errors.New("x")); file != "" || line != 0 {
		t.Errorf("an error of somebody else is from %s:%d", file, line)
	}
}

func TestAFieldIsKept(t *testing.T) {
	err := fmt.Errorf("read: %w", WithField(Errorf(Invalid, "missing"), "stage.config"))
	if Field(err) != "stage.config" || err.Error() != "read: missing" || Field(errors.New("x")) != "" {
		t.Errorf("field %q of %v", Field(err), err)
	}
}
