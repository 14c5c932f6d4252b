package daemon

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
)

func TestMetricsAreReadOnASocketOfTheirOwnByRootAlone(t *testing.T) {
	root := shortDir(t)
	path := filepath.Join(root, metricsSocket)
	socket, stop := start(t, testConfig(root))
	if _, err := tridentv1.NewVersionServiceClient(dial(t, socket)).Version(soon(t), &tridentv1.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := client.Get("http://trident/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`trident_rpcs_total{code="OK",method="trident.v1.VersionService.Version"} 1`, `trident_connections 1`,
		`trident_datastore_readable 1`, `trident_datastore_damaged_files 0`, `trident_operation_active 0`, `trident_operation_halted 0`,
	} {
		if !strings.Contains(string(body), "\n"+line+"\n") {
			t.Errorf("no %s in\n%s", line, body)
		}
	}
	stop()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestADaemonWhoseMetricsNobodyCanReadWorks(t *testing.T) {
	root := shortDir(t)
	if err := os.MkdirAll(filepath.Join(root, metricsSocket), 0o700); err != nil {
		t.Fatal(err)
	}
	socket, _ := start(t, testConfig(root))
	if _, err := tridentv1.NewVersionServiceClient(dial(t, socket)).Version(soon(t), &tridentv1.VersionRequest{}); err != nil {
		t.Error(err)
	}
}
