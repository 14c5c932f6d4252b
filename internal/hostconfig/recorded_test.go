package hostconfig

import (
	"encoding/json"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/errkind"
)

// asText is a record of a release that has a string where asRecorded has a Recorded.
type (
	asText     struct{ Asked, Old string }
	asRecorded struct{ Asked, Old Recorded }
)

func TestARecordedIsAStringForOtherReleases(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "os: {hostname: h}\n", "# <a> & \"b\"\nfuture: é\n", "not: [yaml"} {
		before, err := json.Marshal(asText{text, ""})
		if err != nil {
			t.Fatal(err)
		}
		var r asRecorded
		if err := json.Unmarshal(before, &r); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if r.Asked.String() != text || r.Asked.IsZero() != (text == "") || !r.Asked.Equal(NewRecorded(text)) || r.Asked.Equal(NewRecorded(text+" ")) {
			t.Errorf("%q is read as %q", text, r.Asked)
		}
		if after, err := json.Marshal(r); err != nil || string(after) != string(before) {
			t.Errorf("JSON of %q: %s, %v; as a string it was %s", text, after, err, before)
		}
		inYAML, err := yaml.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back asText
		if err := yaml.Unmarshal(inYAML, &back); err != nil || back.Asked != text {
			t.Errorf("YAML of %q: %s, which is read as %q, %v", text, inYAML, back.Asked, err)
		}
	}
}

func TestARecordedIsParsedOnceForAllItsCopies(t *testing.T) {
	t.Parallel()
	r := NewRecorded("os: {hostname: h}")
	first, err := r.Config()
	if err != nil || first.Spec().OS.Hostname != "h" {
		t.Fatalf("got %+v, %v", first, err)
	}
	if second, err := (asRecorded{Asked: r}).Asked.Config(); second != first || err != nil {
		t.Errorf("a copy has the Config %p, %v; wants %p", second, err, first)
	}
	if made, err := first.Recorded().Config(); made != first || err != nil {
		t.Errorf("the Recorded of a Config has the Config %p, %v; wants %p", made, err, first)
	}
	if text := first.Recorded().String(); text != string(first.YAML()) {
		t.Errorf("the Recorded of a Config has the text %q", text)
	}
}

func TestARecordedThatCannotBeReadFailsOnlyWhenItsMeaningIsAskedFor(t *testing.T) {
	t.Parallel()
	var r Recorded
	if err := r.UnmarshalText([]byte("image: []")); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Config(); c != nil || errkind.Of(err) != errkind.Corrupt {
		t.Errorf("got %v, %v", c, err)
	}
	var zero Recorded
	if c, err := zero.Config(); err != nil || string(c.YAML()) != string(Empty().YAML()) {
		t.Errorf("the zero value: got %+v, %v", c, err)
	}
}
