package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// qmp is a connection to a guest's QEMU monitor (QEMU's docs/interop/qmp-spec).
// One caller at a time.
type qmp struct {
	conn   net.Conn
	dec    *json.Decoder
	events []string // names, since the last wait
}

type qmpMessage struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
}

// dialQMP returns a connection that is ready for commands.
func dialQMP(ctx context.Context, path string) (*qmp, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to the monitor: %w", err)
	}
	q := &qmp{conn: conn, dec: json.NewDecoder(conn)}
	q.limit(ctx)
	var greeting json.RawMessage
	if err := q.dec.Decode(&greeting); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("read the monitor's greeting: %w", err)
	}
	if err := q.do(ctx, "qmp_capabilities", nil, nil); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return q, nil
}

// limit bounds the next exchange by the context's deadline, or a minute.
func (q *qmp) limit(ctx context.Context) {
	at, ok := ctx.Deadline()
	if !ok {
		at = time.Now().Add(time.Minute)
	}
	_ = q.conn.SetDeadline(at)
}

// do runs a command and decodes its answer into result, unless that is nil.
func (q *qmp) do(ctx context.Context, command string, arguments, result any) error {
	q.limit(ctx)
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return fmt.Errorf("ask the monitor for %s: %w", command, err)
	}
	for {
		m, err := q.read()
		switch {
		case err != nil:
			return fmt.Errorf("read the monitor's answer to %s: %w", command, err)
		case m.Error != nil:
			return fmt.Errorf("monitor command %s: %s", command, m.Error.Desc)
		case m.Return != nil && result != nil:
			return json.Unmarshal(m.Return, result)
		case m.Return != nil:
			return nil
		}
	}
}

// wait returns once the event has arrived, which may be before the call.
func (q *qmp) wait(ctx context.Context, event string) error {
	q.limit(ctx)
	for {
		for i, e := range q.events {
			if e == event {
				q.events = q.events[i+1:]
				return nil
			}
		}
		q.events = nil
		if _, err := q.read(); err != nil {
			return fmt.Errorf("wait for the monitor's event %s: %w", event, err)
		}
	}
}

func (q *qmp) read() (*qmpMessage, error) {
	var m qmpMessage
	if err := q.dec.Decode(&m); err != nil {
		return nil, err
	}
	if m.Event != "" {
		q.events = append(q.events, m.Event)
	}
	return &m, nil
}

func (q *qmp) close() { _ = q.conn.Close() }
