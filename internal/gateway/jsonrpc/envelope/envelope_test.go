package envelope_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/gateway/jsonrpc/envelope"
)

// show returns what Parse made of a message, in one line.
func show(data string) string {
	m, fault := envelope.Parse([]byte(data))
	if fault != nil {
		return code(fault)
	}
	var out []string
	for _, r := range m.Requests {
		switch {
		case r.Fault != nil:
			out = append(out, code(r.Fault)+" id="+string(r.ID))
		case r.IsNotification():
			out = append(out, "notify "+r.Method+" "+string(r.Params))
		default:
			out = append(out, "call "+r.Method+" "+string(r.Params)+" id="+string(r.ID))
		}
	}
	text := strings.Join(out, "; ")
	if m.IsBatch {
		text = "batch: " + text
	}
	return text
}

func code(e *envelope.Error) string {
	data, _ := json.Marshal(e.Code)
	return string(data)
}

// The calls are the examples of the specification (section 7), and what strangers send.
func TestMessagesAreRead(t *testing.T) {
	for _, tt := range []struct{ data, want string }{
		{`{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}`, "call subtract [42, 23] id=1"},
		{`{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}`, `call subtract {"subtrahend": 23, "minuend": 42} id=3`},
		{`{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}`, "notify update [1,2,3,4,5]"},
		{`{"jsonrpc": "2.0", "method": "foobar"}`, "notify foobar "},
		{`{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]`, "-32700"},
		{`{"jsonrpc": "2.0", "method": 1, "params": "bar"}`, "-32600 id="},
		{`[
  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
  {"jsonrpc": "2.0", "method"
]`, "-32700"},
		{`[]`, "-32600"},
		{`[1]`, "batch: -32600 id="},
		{`[1,2,3]`, "batch: -32600 id=; -32600 id=; -32600 id="},
		{`[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},{"foo": "boo"}]`,
			`batch: call sum [1,2,4] id="1"; notify notify_hello [7]; -32600 id=`},
		{"", "-32700"},
		{" \n ", "-32700"},
		{`{"jsonrpc":"2.0","method":"a"}{"jsonrpc":"2.0","method":"a"}`, "-32700"},
		{"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\",\"id\":1}", "-32700"},
		{`1`, "-32600 id="},
		{`null`, "-32600 id="},
		{`"call"`, "-32600 id="},
		{`{"jsonrpc":"2.0","method":"a","id":null}`, "call a  id=null"},
		{`{"jsonrpc":"2.0","method":"a","id":1.5}`, "call a  id=1.5"},
		{`{"jsonrpc":"2.0","method":"a","id":1e3}`, "call a  id=1e3"},
		{`{"jsonrpc":"2.0","method":"a","id":-0}`, "call a  id=-0"},
		{`{"jsonrpc":"2.0","method":"a","id":1234567890123456789012345}`, "call a  id=1234567890123456789012345"},
		{`{"jsonrpc":"2.0","method":"a","id":true}`, "-32600 id="},
		{`{"jsonrpc":"2.0","method":"a","id":[1]}`, "-32600 id="},
		{`{"jsonrpc":"2.0","method":"a","id":{}}`, "-32600 id="},
		{`{"jsonrpc":"2.0","method":"a","id":"` + strings.Repeat("x", 300) + `"}`, "-32600 id="},
		{`{"jsonrpc":"1.0","method":"a","id":1}`, "-32600 id=1"},
		{`{"jsonrpc":2.0,"method":"a","id":1}`, "-32600 id=1"},
		{`{"method":"a","id":1}`, "-32600 id=1"},
		{`{"jsonrpc":"2.0","id":1}`, "-32600 id=1"},
		{`{"jsonrpc":"2.0","method":null,"id":1}`, "-32600 id=1"},
		{`{"jsonrpc":"2.0","method":"a","params":"x","id":1}`, "-32600 id=1"},
		{`{"jsonrpc":"2.0","method":"a","params":null,"id":1}`, "-32600 id=1"},
		{`{"jsonrpc":"2.0","method":"a","id":1,"id":2}`, "-32600 id="},
		{`{"jsonrpc":"2.0","method":"a","method":"b","id":1}`, "-32600 id="},
		{`{"jsonrpc":"2.0","method":"a","\u0069d":1,"id":null}`, "-32600 id="},
		{`{"JSONRPC":"2.0","Method":"a","ID":1}`, "-32600 id="},
		{`{"jsonrpc":"2.0","method":"a","id":1,"result":2}`, "call a  id=1"},
		{`{"jsonrpc":"2.0","result":2,"id":1}`, "-32600 id=1"},
		{`{"jsonrpc":"2.0","method":"\u0061","id":"\"[[["}`, `call a  id="\"[[["`},
		{`{"jsonrpc":"2.0","method":"a","params":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`, "notify a " + strings.Repeat("[", 31) + strings.Repeat("]", 31)},
		{`{"jsonrpc":"2.0","method":"a","params":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, "-32600"},
		{strings.Repeat("[", 1<<20), "-32600"},
	} {
		if got := show(tt.data); got != tt.want {
			t.Errorf("%.100s\n got %.200s\nwant %s", tt.data, got, tt.want)
		}
	}
}

func TestAnswersHaveAResultOrAnError(t *testing.T) {
	for _, tt := range []struct {
		got  json.RawMessage
		want string
	}{
		{envelope.Answer(json.RawMessage("1e3"), json.RawMessage(`{"a":1}`), nil), `{"jsonrpc":"2.0","result":{"a":1},"id":1e3}`},
		{envelope.Answer(json.RawMessage("1"), nil, nil), `{"jsonrpc":"2.0","result":null,"id":1}`},
		{envelope.Answer(nil, nil, envelope.Errorf(5, "no <%s>", "x")), `{"jsonrpc":"2.0","error":{"code":5,"message":"no \u003cx\u003e"},"id":null}`},
		{envelope.Answer(nil, nil, &envelope.Error{Code: 1, Data: func() {}}), `{"jsonrpc":"2.0","error":{"code":-32603,"message":"write the answer: json: unsupported type: func()"},"id":null}`},
		{envelope.Batch(nil), ""},
		{envelope.Batch([]json.RawMessage{[]byte("1"), []byte("2")}), "[1,2]"},
		{envelope.Notification("notify.load", json.RawMessage("{}")), `{"jsonrpc":"2.0","method":"notify.load","params":{}}`},
	} {
		if string(tt.got) != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

// Whatever is sent, each answer is JSON, and no request without a fault lacks what a caller
// relies on.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","method":"a","params":{"b":[1]},"id":1}`, `[{"jsonrpc":"2.0","method":"a"},1]`, `[]`, `{"id":"\"","id":1}`, "[[[[", `{"a":"\\"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, fault := envelope.Parse(data)
		if fault != nil {
			if !json.Valid(envelope.Answer(nil, nil, fault)) {
				t.Errorf("the answer to %q is not JSON", data)
			}
			return
		}
		for _, r := range m.Requests {
			if a := envelope.Answer(r.ID, r.Params, r.Fault); !json.Valid(a) {
				t.Errorf("the answer %s to %q is not JSON", a, data)
			}
			if r.Fault == nil && r.Params != nil && r.Params[0] != '[' && r.Params[0] != '{' {
				t.Errorf("%q has the params %s", data, r.Params)
			}
			if r.IsNotification() == (r.ID != nil || r.Fault != nil) {
				t.Errorf("%q is and is not a notification", data)
			}
		}
	})
}
