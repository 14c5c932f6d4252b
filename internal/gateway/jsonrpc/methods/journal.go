package methods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/trident-project/trident/internal/gateway/jsonrpc/openrpc"
	"github.com/trident-project/trident/internal/gateway/rights"
	machinev1 "github.com/trident-project/trident/proto/trident/machine/v1"
)

const (
	// JournalGRPC is the method of the API that reads the journal.
	JournalGRPC = "/trident.machine.v1.LogService/Journal"
	// maxPage is how many entries of the journal one call returns.
	maxPage     = 1000
	defaultPage = 100
	// maxPageBytes is how many bytes a page of several entries has, and maxEntryBytes how many
	// one entry has.
	maxPageBytes  = 1 << 20
	maxEntryBytes = 2 << 20
)

// A Journal says which entries of the journal a caller asks for.
type Journal struct {
	Unit     string
	Priority *int32
	Since    *time.Time
	Until    *time.Time
	Grep     string
	Boot     string
	Cursor   string // of the entry after which to begin
}

// Request returns the request for the API.
func (j *Journal) Request() *machinev1.JournalRequest {
	r := &machinev1.JournalRequest{MaxPriority: j.Priority, Grep: j.Grep, Boot: j.Boot, AfterCursor: j.Cursor}
	if j.Unit != "" {
		r.Units = []string{j.Unit}
	}
	if j.Since != nil {
		r.Since = timestamppb.New(*j.Since)
	}
	if j.Until != nil {
		r.Until = timestamppb.New(*j.Until)
	}
	return r
}

// JournalParams describes the members of a Journal.
func JournalParams() []openrpc.Content {
	text := openrpc.Schema{"type": "string"}
	return []openrpc.Content{
		{Name: "unit", Summary: "Only entries of this unit; a pattern such as ssh* is allowed", Schema: text},
		{Name: "priority", Summary: "Only entries of this priority or a more urgent one: 0 (emergency) to 7 (debug)", Schema: openrpc.Schema{"type": "integer", "minimum": 0, "maximum": 7}},
		{Name: "since", Summary: "Only entries from this time on", Schema: openrpc.Time()},
		{Name: "until", Summary: "Only entries before this time", Schema: openrpc.Time()},
		{Name: "grep", Summary: "Only entries whose message matches this regular expression", Schema: text},
		{Name: "boot", Summary: "Only entries of this boot: its ID, or an offset such as 0 or -1", Schema: text},
		{Name: "cursor", Summary: "Only entries after the one with this cursor", Schema: text},
	}
}

// journalMethod returns the method machine.journal, which returns a page of the stream of the
// API.
func journalMethod(schemas *openrpc.Messages) (*Method, error) {
	right, ok := rights.Of(JournalGRPC)
	if !ok {
		return nil, fmt.Errorf("the table of package rights lacks %s", JournalGRPC)
	}
	entry := schemas.Of((&machinev1.JournalEntry{}).ProtoReflect().Descriptor())
	return &Method{
		Name: "machine.journal", Summary: "Entries of the journal, the oldest first: the last ones, or those after a time or a cursor", GRPC: JournalGRPC, Right: right, Call: callJournal,
		Params: append(JournalParams(), openrpc.Content{Name: "limit", Summary: "How many entries; 100 if absent", Schema: openrpc.Schema{"type": "integer", "minimum": 1, "maximum": maxPage}}),
		Result: openrpc.Content{Name: "result", Schema: openrpc.Schema{
			"type": "object", "required": []string{"entries", "cursor"},
			"properties": openrpc.Schema{"entries": openrpc.Schema{"type": "array", "items": entry}, "cursor": openrpc.Schema{"type": "string"}},
		}},
	}, nil
}

func callJournal(ctx context.Context, from Caller, params json.RawMessage) (json.RawMessage, error) {
	given := struct {
		Journal
		Limit int
	}{Limit: defaultPage}
	if err := json.Unmarshal(params, &given); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrParams, Reason(err))
	}
	if given.Limit < 1 || given.Limit > maxPage {
		return nil, fmt.Errorf("%w: limit is %d, not 1 to %d", ErrParams, given.Limit, maxPage)
	}
	request := given.Request()
	if given.Cursor == "" && given.Since == nil {
		request.Tail = int32(given.Limit) //nolint:gosec // at most maxPage
	}
	conn, err := from.Upstream()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, JournalGRPC)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	page := NewPage(given.Cursor, given.Limit)
	if err := page.readFrom(stream); err != nil {
		return nil, err
	}
	return json.Marshal(page)
}

// A Page has entries of the journal as JSON, and the cursor of the last one.
type Page struct {
	Entries []json.RawMessage `json:"entries"`
	Cursor  string            `json:"cursor"`

	limit, bytes int
}

// NewPage returns an empty page for at most limit entries after a cursor.
func NewPage(cursor string, limit int) *Page {
	return &Page{Entries: []json.RawMessage{}, Cursor: cursor, limit: limit}
}

// Add adds an entry and returns true, or returns false if the page is full. Of an entry that is
// too large it adds the metadata and the size, without the message.
func (p *Page) Add(e *machinev1.JournalEntry) (bool, error) {
	if len(p.Entries) == p.limit {
		return false, nil
	}
	data, err := Encode(e)
	if err == nil && len(data) > maxEntryBytes {
		data, err = Encode(&machinev1.JournalEntry{
			Cursor: e.GetCursor(), Time: e.GetTime(), BootId: e.GetBootId(), Unit: e.GetUnit(), Priority: e.Priority, OmittedBytes: int64(proto.Size(e)),
		})
	}
	if err != nil {
		return false, err
	}
	if len(p.Entries) > 0 && p.bytes+len(data) > maxPageBytes {
		return false, nil
	}
	p.Entries, p.bytes = append(p.Entries, data), p.bytes+len(data)
	if e.GetCursor() != "" {
		p.Cursor = e.GetCursor()
	}
	return true, nil
}

// readFrom reads entries until the page is full or the stream ends.
func (p *Page) readFrom(stream grpc.ClientStream) error {
	for len(p.Entries) < p.limit {
		var got machinev1.JournalResponse
		if err := stream.RecvMsg(&got); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for _, e := range got.GetEntries() {
			if ok, err := p.Add(e); err != nil || !ok {
				return err
			}
		}
	}
	return nil
}
