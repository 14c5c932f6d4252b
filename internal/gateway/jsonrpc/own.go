package jsonrpc

import (
	"context"
	"encoding/json"
	"time"

	"github.com/trident-project/trident/internal/gateway/jsonrpc/envelope"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/load"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/methods"
	"github.com/trident-project/trident/internal/gateway/jsonrpc/openrpc"
	"github.com/trident-project/trident/internal/gateway/rights"
)

// Methods to which other code refers.
const (
	methodAuthenticate = "authenticate"
	methodSubscribe    = "notifications.subscribe"
)

// ownFunc answers a method. Its parameters are an object with members of the table only.
type ownFunc func(ctx context.Context, c *conn, params json.RawMessage) (json.RawMessage, error)

// ownMethod is a method that the gateway itself answers.
type ownMethod struct {
	methods.Method
	answer ownFunc
}

func text() openrpc.Schema { return openrpc.Schema{"type": "string"} }

func object(properties openrpc.Schema) openrpc.Schema {
	return openrpc.Schema{"type": "object", "properties": properties}
}

func sample() openrpc.Schema {
	number := openrpc.Schema{"type": "number"}
	return openrpc.Schema{"time": openrpc.Time(), "load1": number, "load5": number, "load15": number}
}

func minute() openrpc.Schema {
	s, whole := sample(), openrpc.Schema{"type": "integer"}
	s["diskRead"], s["diskWritten"] = whole, whole
	return s
}

func current() openrpc.Schema {
	s, whole := sample(), openrpc.Schema{"type": "integer"}
	s["processors"], s["threads"], s["uptimeSeconds"] = whole, whole, whole
	return s
}

func result(s openrpc.Schema) openrpc.Content { return openrpc.Content{Name: "result", Schema: s} }

// ownMethods has the methods that the gateway itself answers.
func ownMethods() []*ownMethod {
	return []*ownMethod{
		{methods.Method{
			Name: "rpc.discover", Summary: "This document",
			Result: openrpc.Content{Name: "OpenRPC Schema", Schema: openrpc.Schema{"type": "object"}}, // a reference would need the network
		}, discover},
		{methods.Method{
			Name: methodAuthenticate, Summary: "Log in with a passphrase or a token; a WebSocket is then logged in until the login ends",
			Params: []openrpc.Content{
				{Name: "passphrase", Schema: text()},
				{Name: "name", Summary: "The name of the person; admin if absent", Schema: text()},
				{Name: "token", Summary: "In place of the passphrase", Schema: text()},
			},
			Result: result(object(openrpc.Schema{"identity": text(), "rights": text(), "token": text(), "expires": openrpc.Time()})),
		}, authenticate},
		{methods.Method{
			Name: "system_load.current", Summary: "The load of the host now", Right: rights.Read, Result: result(object(current())),
		}, loadNow},
		{methods.Method{
			Name: "system_load.historical", Summary: "The load of the host in each minute of the last 24 hours, and the bytes a second that its disks read and wrote", Right: rights.Read,
			Params: []openrpc.Content{{Name: "since", Summary: "Only samples from this time on", Schema: openrpc.Time()}},
			Result: result(object(openrpc.Schema{"samples": openrpc.Schema{"type": "array", "items": object(minute())}})),
		}, loadHistory},
		{methods.Method{
			Name: methodSubscribe, Summary: "Have the gateway send notify.operation, notify.operations, notify.load or notify.journal over this WebSocket, and notify.end at the end", Right: rights.Read,
			Params: append([]openrpc.Content{
				{Name: "topic", Required: true, Summary: "operation: the events of one operation; operations: each operation that runs, begins or ends; load: each sample of the load; journal: entries as they come in, which needs the right secret", Schema: openrpc.Schema{"type": "string", "enum": []string{topicOperation, topicOperations, topicLoad, topicJournal}}},
				{Name: "id", Summary: "Of the operation", Schema: text()},
				{Name: "afterSequence", Summary: "Only events of the operation after this one", Schema: openrpc.Schema{"type": []string{"integer", "string"}}},
			}, methods.JournalParams()...),
			Result: result(object(openrpc.Schema{"subscription": text()})),
		}, subscribe},
		{methods.Method{
			Name: "notifications.unsubscribe", Summary: "End a subscription of this WebSocket", Right: rights.Read,
			Params: []openrpc.Content{{Name: "subscription", Required: true, Schema: text()}},
			Result: result(object(openrpc.Schema{})),
		}, unsubscribe},
	}
}

// read decodes parameters. Its error has the code InvalidParams.
func read(params json.RawMessage, into any) error {
	if err := json.Unmarshal(params, into); err != nil {
		return envelope.Errorf(envelope.InvalidParams, "read the parameters: %s", methods.Reason(err))
	}
	return nil
}

func discover(_ context.Context, c *conn, _ json.RawMessage) (json.RawMessage, error) {
	return c.describe(), nil
}

func authenticate(ctx context.Context, c *conn, params json.RawMessage) (json.RawMessage, error) {
	var given Credentials
	if err := read(params, &given); err != nil {
		return nil, err
	}
	if (given.Token == "") == (given.Passphrase == "") || given.Token != "" && given.Name != "" {
		return nil, envelope.Errorf(envelope.InvalidParams, "log in: give either token, or passphrase with or without name")
	}
	w, err := c.gate.Authenticate(ctx, given)
	if err != nil {
		return nil, err
	}
	return json.Marshal(w)
}

func loadNow(context.Context, *conn, json.RawMessage) (json.RawMessage, error) {
	now, err := load.Now(time.Now())
	if err != nil {
		return nil, err
	}
	return json.Marshal(now)
}

func loadHistory(_ context.Context, c *conn, params json.RawMessage) (json.RawMessage, error) {
	var given struct{ Since time.Time }
	if err := read(params, &given); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"samples": c.load.Since(given.Since, time.Now())})
}
