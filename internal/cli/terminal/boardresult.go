package terminal

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/proto/client"
)

// show keeps a result of the command on the host.
func (h *HostOutput) show(value any, t *Table) error {
	raw, err := encode(value, "")
	if err != nil && h.board.to.Output.String() != "text" {
		return fmt.Errorf("print result: %w", err)
	}
	h.tables, h.values = append(h.tables, t), append(h.values, raw)
	return nil
}

// printEvent prints an event with the name of its host, at once.
func (h *HostOutput) printEvent(e *client.Event) error {
	raw, err := RawMessage(e)
	if err != nil {
		return err
	}
	text, err := encode(struct {
		Host  string          `json:"host"`
		Event json.RawMessage `json:"event"`
	}{h.name, raw}, "")
	if err != nil {
		return err
	}
	h.board.mu.Lock()
	defer h.board.mu.Unlock()
	_, err = h.board.to.Stdout.Write(text)
	return err
}

// hostResult is the form of the result of one host for programs. docs/cli.md documents it.
type hostResult struct {
	Host   string          `json:"host"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *HostFailure    `json:"error,omitempty"`
}

// Print prints the results of all hosts. failures has one entry for each host: nil, or its
// error, which only the formats for programs have.
func (b *Board) Print(failures []*HostFailure) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.to.Output.String() == "text" {
		return b.printText()
	}
	all := make([]hostResult, len(b.hosts))
	for i, h := range b.hosts {
		result, err := h.result()
		if err != nil {
			return fmt.Errorf("print the result of %s: %w", h.name, err)
		}
		all[i] = hostResult{h.name, result, failures[i]}
	}
	return b.to.Show(all, nil)
}

// result returns what the command has printed about the host as JSON; nil for nothing.
func (h *HostOutput) result() (json.RawMessage, error) {
	values := slices.Clone(h.values)
	if h.raw.Len() > 0 {
		var value any
		if err := yaml.Unmarshal(h.raw.Bytes(), &value); err != nil { // JSON is YAML
			value = h.raw.String()
		}
		raw, err := encode(value, "")
		if err != nil {
			return nil, err
		}
		values = append(values, raw)
	}
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
		return values[0], nil
	}
	return encode(values, "")
}

// printText prints the texts of all hosts: tables as one table, fields as a row for each host,
// a line or two as a row, and longer texts below the names of their hosts.
func (b *Board) printText() error {
	out := &Table{screen: b.to.tableScreen()}
	m := merge{out: out, heads: map[string]*merged{}}
	for _, h := range b.hosts {
		m.add(h)
	}
	m.write()
	if err := out.writeTo(b.to.Stdout); err != nil {
		return err
	}
	for _, l := range m.long {
		// The separator of YAML documents, with a comment: the whole is YAML if the texts are.
		if _, err := fmt.Fprintf(b.to.Stdout, "--- # %s\n%s", l.host, l.text); err != nil {
			return err
		}
	}
	return nil
}
