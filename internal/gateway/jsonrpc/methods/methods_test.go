package methods

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/internal/gateway/jsonrpc/openrpc"
	"github.com/trident-project/trident/internal/gateway/rights"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// Each method has the right of the method of the API that it calls, and a document that
// describes it.
func TestTheTable(t *testing.T) {
	table, err := New(&Method{Name: "own", Right: rights.Read})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range table.Methods {
		if m.Name == "own" {
			continue
		}
		if right, ok := rights.Of(m.GRPC); !ok || m.Right != right || m.Summary == "" || m.Result.Schema == nil {
			t.Errorf("%+v", m)
		}
	}
	if m := table.Find("self.upgrade"); m.Right != rights.Operate || len(m.Params) != 3 || m.Params[2].Name != "requestId" || !m.Params[0].Required || m.Params[0].Name != "source" {
		t.Errorf("%+v", m)
	}
	for name, want := range map[string]string{"self.hold": "until reason", "self.unhold": "", "self.pin": "pin", "self.unpin": "", "machine.journal": "unit priority since until grep boot cursor limit"} {
		var got []string
		for _, p := range table.Find(name).Params {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s has the parameters %v", name, got)
		}
	}
	if table.Find("none") != nil {
		t.Error("there is a method none")
	}
	data, err := json.Marshal(table.Document(openrpc.Info{Title: "t", Version: "1"}))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), `"imageHandle"`) {
		t.Error("the document has imageHandle, which no caller can use")
	}
	if !strings.Contains(string(data), `"upload":{"additionalProperties":false,"properties":{"id":{"type":"string"}},"required":["id"],"type":"object"}`) {
		t.Error("the document does not describe an upload by its ID")
	}
	if _, err := New(&Method{Name: "version"}); err == nil {
		t.Error("two methods have one name")
	}
	for _, r := range []row{
		{name: "x", grpc: "trident.self.v1.SelfService/None"}, {name: "x", grpc: "trident.none.v1.None/None"},
		{name: "x", grpc: "trident.self.v1.SelfService/Upgrade", inside: "none"},
		{name: "x", grpc: "trident.self.v1.SelfService/SetPolicy", inside: "policy.pin"},
	} {
		if _, err := r.method(openrpc.NewMessages()); err == nil {
			t.Errorf("%+v is a method", r)
		}
	}
}

// A call that changes one setting of the policy names it, also if it has no parameters.
func TestACallNamesTheSettingThatItChanges(t *testing.T) {
	for _, r := range rows() {
		if r.set == "" {
			continue
		}
		c := &call{set: r.set, request: func() proto.Message { return &selfv1.SetPolicyRequest{} }}
		in, err := c.read(json.RawMessage("{}"))
		if err != nil || !slices.Equal(in.(*selfv1.SetPolicyRequest).GetSet(), []string{r.set}) {
			t.Errorf("%s sends %v, %v", r.name, in, err)
		}
	}
}
