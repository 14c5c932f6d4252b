package selfservice

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hosttest"
)

func TestASourceInTheJournalIsTheSameAfterARestart(t *testing.T) {
	t.Parallel()
	want := fetch.Source{
		URL: "https://a.example/x", SHA256: "ab", Timeout: time.Second, MaxBytes: 5, Size: 6,
		Patches: []fetch.Patch{{From: "1.0.0", URL: "https://a.example/p", Size: 7, SHA256: "cd"}},
	}
	text, err := json.Marshal(sourceOf(want))
	if err != nil {
		t.Fatal(err)
	}
	got, err := hosttest.RoundTrip[source](t, string(text)).onHost("/")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
