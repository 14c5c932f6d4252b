package envelope

import (
	"bytes"
	"encoding/json"
)

var null = json.RawMessage("null")

// Answer returns the answer to the call with that id: the error fault, or the result if fault is
// nil. A nil id and a nil result are written as null.
func Answer(id, result json.RawMessage, fault *Error) json.RawMessage {
	if id == nil {
		id = null
	}
	var b bytes.Buffer
	b.WriteString(`{"jsonrpc":"2.0",`)
	if fault == nil {
		if len(result) == 0 {
			result = null
		}
		b.WriteString(`"result":`)
		b.Write(result)
	} else {
		b.WriteString(`"error":`)
		b.Write(encode(fault))
	}
	b.WriteString(`,"id":`)
	b.Write(id)
	b.WriteByte('}')
	return b.Bytes()
}

// Notification returns a notification for the other side.
func Notification(method string, params json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	b.WriteString(`{"jsonrpc":"2.0","method":`)
	b.Write(encode(method))
	b.WriteString(`,"params":`)
	b.Write(params)
	b.WriteByte('}')
	return b.Bytes()
}

// Batch joins the answers to the requests of a batch. It returns nil without answers, because a
// batch of notifications is not answered (specification, 6).
func Batch(answers []json.RawMessage) json.RawMessage {
	if len(answers) == 0 {
		return nil
	}
	var b bytes.Buffer
	for i, a := range answers {
		b.WriteByte("[,"[min(i, 1)])
		b.Write(a)
	}
	b.WriteByte(']')
	return b.Bytes()
}

func encode(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		data, _ = json.Marshal(Errorf(InternalError, "write the answer: %v", err))
	}
	return data
}
