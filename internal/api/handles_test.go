package api

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/handles"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	"github.com/trident-project/trident/proto/wire"
)

const (
	sysext  = handlesv1.ImageKind_IMAGE_KIND_SYSEXT
	trident = handlesv1.ImageKind_IMAGE_KIND_TRIDENT
)

func sum384(text string) string {
	sum := sha512.Sum384([]byte(text))
	return hex.EncodeToString(sum[:])
}

type imageStart = handlesv1.OpenImageRequest_Start

func uploaded(kind handlesv1.ImageKind, size int) *imageStart {
	return &imageStart{Kind: kind, From: &handlesv1.OpenImageRequest_Start_Size{Size: int64(size)}}
}

func tryImage(t *testing.T, conn *grpc.ClientConn, start *imageStart, chunks ...string) (*handlesv1.OpenImageResponse, error) {
	t.Helper()
	stream, err := handlesv1.NewHandleServiceClient(conn).OpenImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&handlesv1.OpenImageRequest{Part: &handlesv1.OpenImageRequest_Start_{Start: start}})
	for _, c := range chunks {
		if err == nil { // once the server has ended the call, sending fails with io.EOF
			err = stream.Send(&handlesv1.OpenImageRequest{Part: &handlesv1.OpenImageRequest_Chunk{Chunk: []byte(c)}})
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return stream.CloseAndRecv()
}

func openImage(t *testing.T, conn *grpc.ClientConn, kind handlesv1.ImageKind, text string) *handlesv1.OpenImageResponse {
	t.Helper()
	resp, err := tryImage(t, conn, uploaded(kind, len(text)), text)
	if err != nil || resp.GetImageHandle() <= 0 || resp.GetSize() != int64(len(text)) || resp.GetSha384() != sum384(text) {
		t.Fatalf("open an image: %v, %v", resp, err)
	}
	return resp
}

func tryConfig(t *testing.T, conn *grpc.ClientConn, start *handlesv1.OpenConfigRequest_Start, chunks ...string) (int64, error) {
	t.Helper()
	stream, err := handlesv1.NewHandleServiceClient(conn).OpenConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&handlesv1.OpenConfigRequest{Part: &handlesv1.OpenConfigRequest_Start_{Start: start}})
	for _, c := range chunks {
		if err == nil {
			err = stream.Send(&handlesv1.OpenConfigRequest{Part: &handlesv1.OpenConfigRequest_Chunk{Chunk: []byte(c)}})
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	resp, err := stream.CloseAndRecv()
	return resp.GetConfigHandle(), err
}

func openConfig(t *testing.T, conn *grpc.ClientConn, text string) int64 {
	t.Helper()
	id, err := tryConfig(t, conn, &handlesv1.OpenConfigRequest_Start{Size: int64(len(text)), Sha384: sum384(text)}, text)
	if err != nil || id <= 0 {
		t.Fatalf("open a config: %d, %v", id, err)
	}
	return id
}

// tryStage begins to stage what a handle holds and returns how that began.
func tryStage(t *testing.T, f *fixture, conn *grpc.ClientConn, id int64) (string, error) {
	t.Helper()
	stream, err := selfv1.NewSelfServiceClient(conn).Stage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&selfv1.StageRequest{Part: &selfv1.StageRequest_Start_{Start: &selfv1.StageRequest_Start{
		Source: &selfv1.Source{From: &selfv1.Source_ImageHandle{ImageHandle: id}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	header, err := stream.Header()
	if err != nil || len(header.Get(wire.HeaderOperation)) == 0 {
		_, err = stream.Recv()
		return "", err
	}
	return header.Get(wire.HeaderOperation)[0], nil
}

func stageHandle(t *testing.T, f *fixture, id int64) string {
	t.Helper()
	op, err := tryStage(t, f, f.conn, id)
	if err != nil {
		t.Fatal(err)
	}
	return op
}

func closeHandle(t *testing.T, conn *grpc.ClientConn, id int64) error {
	t.Helper()
	_, err := handlesv1.NewHandleServiceClient(conn).Close(t.Context(), &handlesv1.CloseRequest{Handle: id})
	return err
}

func TestAnImageIsStagedAfterItsHandleIsClosed(t *testing.T) {
	f := newFixture(t)
	image := openImage(t, f.conn, trident, strings.Repeat("no image ", 300<<10/9))
	op := stageHandle(t, f, image.GetImageHandle())
	if err := closeHandle(t, f.conn, image.GetImageHandle()); err != nil {
		t.Error(err)
	}
	// It arrives whole, and is then found to be no image.
	if got := failureOf(t, f, op); !strings.HasPrefix(got.Message, "verify: ") {
		t.Errorf("failure %+v", got)
	}
}

func TestUnusableHandlesAreRefused(t *testing.T) {
	f := newFixture(t)
	other := dial(t, f.socket)
	mine := openImage(t, f.conn, trident, "x").GetImageHandle()
	theirs := openImage(t, other, trident, "x").GetImageHandle()
	wrong := openImage(t, f.conn, sysext, "x").GetImageHandle()
	config := openConfig(t, f.conn, "x: y")
	closed := openImage(t, f.conn, trident, "x").GetImageHandle()
	if err := closeHandle(t, f.conn, closed); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		id   int64
		code codes.Code
		want string
	}{
		{"another connection's", theirs, codes.NotFound, "it belongs to another connection"},
		{"another image's", wrong, codes.InvalidArgument, "it names a sysext image, and the call needs a Trident image"},
		{"a config's", config, codes.InvalidArgument, "it names a Host Configuration, and the call needs a Trident image"},
		{"a closed one", closed, codes.NotFound, "it is closed"},
		{"one that never was", mine - 1 + 1<<53, codes.NotFound, "this daemon has not opened it"},
		{"none", 0, codes.InvalidArgument, "a handle is a number greater than 0"},
	} {
		_, err := tryStage(t, f, f.conn, c.id)
		if status.Code(err) != c.code || !strings.HasSuffix(status.Convert(err).Message(), c.want) {
			t.Errorf("%s: %v, want %s … %s", c.name, err, c.code, c.want)
		}
	}
	if err := closeHandle(t, f.conn, theirs); status.Code(err) != codes.NotFound {
		t.Errorf("closed another connection's handle: %v", err)
	}
	if err := closeHandle(t, f.conn, closed); status.Code(err) != codes.NotFound {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := tryStage(t, f, other, theirs); err != nil {
		t.Errorf("its own connection cannot use it: %v", err)
	}
}

func TestTheEndOfAConnectionFreesItsHandles(t *testing.T) {
	f := newFixture(t)
	other := dial(t, f.socket)
	for range 3 {
		openImage(t, other, sysext, "x")
	}
	openConfig(t, other, "x: y")
	mine := openConfig(t, f.conn, "x: y")
	f.handles.wait(t, 5)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	f.handles.wait(t, 1)
	if err := closeHandle(t, f.conn, mine); err != nil {
		t.Error(err)
	}
	names, err := os.ReadDir(filepath.Join(f.root, "var/lib/trident/handles"))
	if err != nil || len(names) != 0 {
		t.Errorf("the folder has %v, %v", names, err)
	}
}

func TestAnImageIsOpenedFromEverySource(t *testing.T) {
	f := newFixture(t)
	const text = "the image"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x", time.Unix(1e9, 0), bytes.NewReader([]byte(text)))
	}))
	t.Cleanup(server.Close)
	if err := os.WriteFile(filepath.Join(f.root, "x.raw"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]*imageStart{
		"url":    {Kind: sysext, From: &handlesv1.OpenImageRequest_Start_Url{Url: server.URL + "/x.raw"}, Sha384: sum384(text)},
		"path":   {Kind: sysext, From: &handlesv1.OpenImageRequest_Start_Path{Path: "/x.raw"}, Sha384: strings.ToUpper(sum384(text))},
		"no sum": {Kind: sysext, From: &handlesv1.OpenImageRequest_Start_Path{Path: "/../x.raw"}},
	} {
		resp, err := tryImage(t, f.conn, start)
		if err != nil || resp.GetSha384() != sum384(text) || resp.GetSize() != int64(len(text)) {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
		start.Sha384 = sum384("another")
		if _, err := tryImage(t, f.conn, start); status.Code(err) != codes.DataLoss {
			t.Errorf("%s with another sum: %v", name, err)
		}
	}
	f.handles.wait(t, 3)
}

func TestInvalidOpenRequestsAreRefused(t *testing.T) {
	f := newFixture(t)
	for name, start := range map[string]*imageStart{
		"nowhere":      {Kind: sysext},
		"no kind":      {From: &handlesv1.OpenImageRequest_Start_Path{Path: "/x"}},
		"a relative":   {Kind: sysext, From: &handlesv1.OpenImageRequest_Start_Path{Path: "x"}},
		"a folder":     {Kind: sysext, From: &handlesv1.OpenImageRequest_Start_Path{Path: "/"}},
		"a gopher":     {Kind: sysext, From: &handlesv1.OpenImageRequest_Start_Url{Url: "gopher://x/y"}},
		"a registry":   {Kind: sysext, From: &handlesv1.OpenImageRequest_Start_Url{Url: "oci://127.0.0.1:1/x"}},
		"half a sum":   {Kind: sysext, From: &handlesv1.OpenImageRequest_Start_Path{Path: "/x"}, Sha384: "abc"},
		"none":         uploaded(sysext, 0),
		"a vast one":   uploaded(sysext, handles.MaxImage+1),
		"no such kind": {Kind: 99, From: &handlesv1.OpenImageRequest_Start_Path{Path: "/x"}},
	} {
		if _, err := tryImage(t, f.conn, start); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tryImage(t, f.conn, uploaded(sysext, 6), "abc"); status.Code(err) != codes.Unavailable {
		t.Errorf("half an upload: %v", err)
	}
	if _, err := tryImage(t, f.conn, uploaded(sysext, 2), "abc"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a chunk too much: %v", err)
	}
	if _, err := tryConfig(t, f.conn, &handlesv1.OpenConfigRequest_Start{Size: handles.MaxConfig + 1}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a vast config: %v", err)
	}
	if _, err := tryConfig(t, f.conn, nil); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no start: %v", err)
	}
	if _, err := tryConfig(t, f.conn, &handlesv1.OpenConfigRequest_Start{Size: 3, Sha384: sum384("x")}, "abc"); status.Code(err) != codes.DataLoss {
		t.Errorf("another sum: %v", err)
	}
	f.handles.wait(t, 0)
}
