package openrpc

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

func TestSchemasAreThoseOfProtojson(t *testing.T) {
	m := NewMessages("trident.self.v1.Source.upload")
	ref := m.Of((&operationsv1.Event{}).ProtoReflect().Descriptor())
	if ref["$ref"] != "#/components/schemas/trident.operations.v1.Event" {
		t.Error(ref)
	}
	params := m.Params((&selfv1.UpgradeRequest_Start{}).ProtoReflect().Descriptor(), "trial")
	if len(params) != 2 || params[0].Name != "trial" || !params[0].Required || params[1].Name != "source" {
		t.Errorf("%+v", params)
	}
	schemas := m.Components().Schemas
	for name, fields := range map[string]map[string]string{
		"trident.operations.v1.Event": {
			"operationId": `{"type":"string"}`, "sequence": `{"pattern":"^-?[0-9]+$","type":["string","integer"]}`, "log": `{"$ref":"#/components/schemas/trident.operations.v1.LogLine"}`,
			"time": `{"pattern":"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)$","type":"string"}`,
		},
		"trident.operations.v1.LogLine": {"attributes": `{"additionalProperties":{"type":"string"},"type":"object"}`},
		"trident.operations.v1.Metric":  {"value": `{"type":"number"}`},
		"trident.self.v1.Trial": {
			"soak": `{"pattern":"^-?[0-9]+(\\.[0-9]+)?s$","type":"string"}`, "allowDowngrade": `{"type":"boolean"}`,
			"pause": `{"enum":["PAUSE_UNSPECIFIED","PAUSE_BEFORE_ACTIVATE","PAUSE_BEFORE_RESTART"],"type":"string"}`,
		},
		"trident.self.v1.Source": {"upload": "null", "maxBytes": `{"pattern":"^-?[0-9]+$","type":["string","integer"]}`},
	} {
		properties, _ := schemas[name]["properties"].(Schema)
		for field, want := range fields {
			if got, err := json.Marshal(properties[field]); err != nil || string(got) != want {
				t.Errorf("%s.%s: %s, want %s", name, field, got, want)
			}
		}
	}
	for _, name := range []protoreflect.FullName{"google.protobuf.Any", "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.FieldMask"} {
		if _, ok := wellKnown(name); !ok {
			t.Errorf("%s is not known", name)
		}
	}
}
