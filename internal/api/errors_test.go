package api

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// call sends one message to a method of any form and returns how it ended.
func (f *fixture) call(t *testing.T, method string, req proto.Message) error {
	t.Helper()
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := f.conn.NewStream(t.Context(), desc, method)
	if err != nil {
		return err
	}
	// A send fails with io.EOF once the server has ended the call; why, is received.
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for err == nil {
		err = stream.RecvMsg(&tridentv1.CommitRequest{}) // what comes is not looked at
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func sentence(err error) string {
	kind, hint, _ := grpckind.FromError(err)
	out := fmt.Sprintf("%s %s\n  %s\n", status.Code(err), kind, status.Convert(err).Message())
	if hint != "" {
		out += "  hint: " + hint + "\n"
	}
	return out
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestErrorSentences(t *testing.T) {
	f := newFixture(t)
	source := func(s *selfv1.Source) *selfv1.UpgradeRequest {
		return &selfv1.UpgradeRequest{Part: &selfv1.UpgradeRequest_Start_{Start: &selfv1.UpgradeRequest_Start{Source: s}}}
	}
	url := &selfv1.Source{From: &selfv1.Source_Url{Url: "http://127.0.0.1:1/trident.raw"}}
	trial := func(tr *selfv1.Trial) *selfv1.UpgradeRequest {
		return &selfv1.UpgradeRequest{Part: &selfv1.UpgradeRequest_Start_{Start: &selfv1.UpgradeRequest_Start{Source: url, Trial: tr}}}
	}
	var out strings.Builder
	for _, c := range []struct {
		name, method string
		req          proto.Message
	}{
		{"an operation that is not there", operationsv1.OperationsService_Get_FullMethodName, &operationsv1.GetRequest{Id: "none"}},
		{"no operation named", operationsv1.OperationsService_Get_FullMethodName, &operationsv1.GetRequest{}},
		{"watch what is not there", operationsv1.OperationsService_Watch_FullMethodName, &operationsv1.WatchRequest{Id: "none"}},
		{"cancel what is not there", operationsv1.OperationsService_Cancel_FullMethodName, &operationsv1.CancelRequest{Id: "none"}},
		{"a negative limit", operationsv1.OperationsService_List_FullMethodName, &operationsv1.ListRequest{Limit: -1}},
		{"a large limit", selfv1.SelfService_History_FullMethodName, &selfv1.HistoryRequest{Limit: 1001}},
		{"no start", selfv1.SelfService_Upgrade_FullMethodName, &selfv1.UpgradeRequest{}},
		{"a chunk first", selfv1.SelfService_Stage_FullMethodName,
			&selfv1.StageRequest{Part: &selfv1.StageRequest_Chunk{Chunk: []byte("x")}}},
		{"no source", selfv1.SelfService_Upgrade_FullMethodName, source(nil)},
		{"an upload of nothing", selfv1.SelfService_Upgrade_FullMethodName, source(&selfv1.Source{From: &selfv1.Source_Upload{}})},
		{"an upload of less than nothing", selfv1.SelfService_Upgrade_FullMethodName,
			source(&selfv1.Source{From: &selfv1.Source_Upload{Upload: &selfv1.Upload{Size: -1}}})},
		{"a relative path", selfv1.SelfService_Upgrade_FullMethodName, source(&selfv1.Source{From: &selfv1.Source_Path{Path: "x.raw"}})},
		{"a URL of no kind that we know", selfv1.SelfService_Upgrade_FullMethodName,
			source(&selfv1.Source{From: &selfv1.Source_Url{Url: "gopher://host/x"}})},
		{"a hash that is none", selfv1.SelfService_Upgrade_FullMethodName,
			source(&selfv1.Source{From: url.GetFrom(), Sha256: "abc"})},
		{"a negative soak", selfv1.SelfService_Upgrade_FullMethodName, trial(&selfv1.Trial{Soak: durationpb.New(-1e9)})},
		{"a deadline before the soak has ended", selfv1.SelfService_Upgrade_FullMethodName,
			trial(&selfv1.Trial{Soak: durationpb.New(60e9), Deadline: durationpb.New(30e9)})},
		{"activate what is not there", selfv1.SelfService_Activate_FullMethodName, &selfv1.ActivateRequest{Version: "9.9.9"}},
		{"activate nothing", selfv1.SelfService_Activate_FullMethodName, &selfv1.ActivateRequest{}},
		{"activate what is no version", selfv1.SelfService_Activate_FullMethodName, &selfv1.ActivateRequest{Version: "../x"}},
		{"nothing to go back to", selfv1.SelfService_Rollback_FullMethodName, &selfv1.RollbackRequest{}},
		{"unblock what is not blocked", selfv1.SelfService_Unblock_FullMethodName, &selfv1.UnblockRequest{Version: "9.9.9"}},
		{"remove what is not there", selfv1.SelfService_Remove_FullMethodName, &selfv1.RemoveRequest{Version: "9.9.9"}},
		{"remove what is no version", selfv1.SelfService_Remove_FullMethodName, &selfv1.RemoveRequest{Version: "../../etc/passwd"}},
	} {
		fmt.Fprintf(&out, "%s: %s", c.name, sentence(f.call(t, c.method, c.req)))
	}
	f.work()
	busy := sentence(f.call(t, selfv1.SelfService_Upgrade_FullMethodName, source(url)))
	id, _ := f.runner.Active()
	fmt.Fprintf(&out, "a second operation: %s", strings.ReplaceAll(busy, id, "ID"))
	golden(t, "testdata/errors.golden", out.String())
}

func TestUpstreamsNamesHaveTheCodesOfTheirCategories(t *testing.T) {
	g := &gate{}
	for name, want := range map[string]codes.Code{
		"LoadHostStatus": codes.FailedPrecondition, "MissingBinary": codes.FailedPrecondition, "NoSuitableDisk": codes.FailedPrecondition,
		"HealthChecksFailed": codes.Unknown, "Datastore": codes.Unknown, "Panic": codes.Internal, "HostNotProvisioned": codes.InvalidArgument,
	} {
		err := errkind.WithName(errkind.Errorf(errkind.Timeout, "broken"), name)
		sent := g.status("/trident.v1.UpdateService/Update", err)
		kind, _, meta := grpckind.FromError(sent)
		if status.Code(sent) != want || kind != errkind.Timeout || meta[grpckind.MetaName] != name {
			t.Errorf("%s became %v of kind %s with the name %q, want %s", name, sent, kind, meta[grpckind.MetaName], want)
		}
		if sent := g.status("/trident.self.v1.SelfService/Status", err); status.Code(sent) != codes.DeadlineExceeded {
			t.Errorf("%s of a service of ours became %v", name, sent)
		}
	}
}
