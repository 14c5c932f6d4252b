package client_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	handlesv1 "github.com/trident-project/trident/proto/trident/handles/v1"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

func count(s *clienttest.Server, method string) int {
	return len(slices.DeleteFunc(s.Calls(), func(m string) bool { return m != method }))
}

func TestAConfigurationCrossesOncePerConnection(t *testing.T) {
	s := clienttest.New(clienttest.Config{Script: updateScript(), Plan: &hostv1.PlanUpdateResponse{}})
	c := dial(t, s)
	text := strings.Repeat("# a long one\n", 50_000) // several chunks
	opened, err := c.OpenConfig(t.Context(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	use := func() {
		t.Helper()
		if _, err := c.Host().Validate(t.Context(), opened); err != nil {
			t.Error(err)
		}
		if _, err := c.Host().Plan(t.Context(), opened); err != nil {
			t.Error(err)
		}
		if _, err := c.Host().Update(t.Context(), opened, client.How{}, nil); err != nil {
			t.Error(err)
		}
	}
	use()
	if n := count(s, handlesv1.HandleService_OpenConfig_FullMethodName); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
	s.Restart()
	use()
	if n := count(s, handlesv1.HandleService_OpenConfig_FullMethodName); n != 2 {
		t.Errorf("after a restart it was sent %d times", n)
	}
	if diff := cmp.Diff([]string{text, text}, s.Configs()); diff != "" {
		t.Error("another text arrived")
	}
	if err := opened.Close(t.Context()); err != nil {
		t.Error(err)
	}
	use() // as a text
	if n := count(s, handlesv1.HandleService_OpenConfig_FullMethodName); n != 2 || s.Configs()[2] != text {
		t.Errorf("it was sent %d times", n)
	}
	if err := opened.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAConfigurationThatIsNoTextIsRefused(t *testing.T) {
	c := dial(t, clienttest.New(clienttest.Config{}))
	if _, err := c.OpenConfig(t.Context(), []byte{0xff}); client.Kind(err) != "INVALID" {
		t.Errorf("error %v", err)
	}
}

func TestAnImageIsOpenUntilItsConnectionEnds(t *testing.T) {
	s := clienttest.New(clienttest.Config{Script: updateScript()})
	c := dial(t, s)
	data := bytes.Repeat([]byte("trident"), 100_000)
	image, err := c.OpenImage(t.Context(), handlesv1.ImageKind_IMAGE_KIND_TRIDENT, client.Source{Upload: bytes.NewReader(data), Size: int64(len(data))})
	if err != nil || image.Size != int64(len(data)) {
		t.Fatalf("image %v, %v", image, err)
	}
	if op, err := c.Upgrade(t.Context(), client.Source{Image: image}, nil, nil); err != nil || op.GetPhase() != done {
		t.Errorf("operation %v, %v", op, err)
	}
	s.Restart()
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Upgrade(t.Context(), client.Source{Image: image}, nil, nil); client.Kind(err) != "PRECONDITION" || !strings.Contains(client.Hint(err), "again") {
		t.Errorf("error %v, hint %q", err, client.Hint(err))
	}
	if err := image.Close(t.Context()); err != nil {
		t.Errorf("close what is free: %v", err)
	}
}

func TestAnImageThatCannotBeOpened(t *testing.T) {
	c := dial(t, clienttest.New(clienttest.Config{}))
	broken := client.Source{Upload: io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(errors.New("disk on fire"))), Size: 10}
	const sysext = handlesv1.ImageKind_IMAGE_KIND_SYSEXT
	if _, err := c.OpenImage(t.Context(), sysext, broken); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("a broken reader: %v", err)
	}
	if _, err := c.OpenImage(t.Context(), sysext, client.Source{SHA256: "00"}); client.Kind(err) != "INVALID" {
		t.Errorf("a hash of the wrong kind: %v", err)
	}
	old := dial(t, clienttest.New(clienttest.Config{Upstream: true}))
	if _, err := old.OpenImage(t.Context(), sysext, client.Source{Path: "/x"}); client.Kind(err) != "PRECONDITION" {
		t.Errorf("a daemon without handles: %v", err)
	}
	image, err := c.OpenImage(t.Context(), sysext, client.Source{Path: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := image.Close(t.Context()); client.Kind(err) != "NOT_FOUND" {
		t.Errorf("closed twice: %v", err)
	}
}
