package cli

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/client/clienttest"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

func TestAutoUpdateDoesWhatThePolicySays(t *testing.T) {
	t.Parallel()
	const off, check, stage, activate = selfv1.Auto_AUTO_OFF, selfv1.Auto_AUTO_CHECK, selfv1.Auto_AUTO_STAGE, selfv1.Auto_AUTO_ACTIVATE
	offered, staged := &selfv1.Release{Version: "2.0.0"}, &selfv1.Release{Version: "2.0.0", Staged: true}
	held := []*selfv1.Reason{{Message: "the policy holds Trident"}}
	busy := grpckind.Error(errkind.Errorf(errkind.Busy, "operation op-7 is running"), nil)
	for name, c := range map[string]struct {
		policy, now selfv1.Auto // now: what the policy allows at this time
		offer       *selfv1.Release
		reasons     []*selfv1.Reason
		refuse      error
		call        string // of the operation; "" for none
		says        string
		code        int
	}{
		"off":               {off, off, offered, nil, nil, "", "", 0},
		"nothing new":       {activate, activate, nil, held, nil, "", "no new version is offered: the policy holds Trident", 0},
		"check":             {check, check, offered, nil, nil, "", "version 2.0.0 of Trident is offered", 0},
		"stage":             {stage, stage, offered, nil, nil, "Stage", "", 0},
		"is staged":         {stage, stage, staged, nil, nil, "", "is offered and staged", 0},
		"activate":          {activate, activate, offered, nil, nil, "Upgrade", "", 0},
		"activate a staged": {activate, activate, staged, nil, nil, "Activate", "", 0},
		"outside the window, after it was staged": {activate, check, staged, nil, nil, "", "is offered and staged", 0},
		"busy":    {activate, activate, offered, nil, busy, "Upgrade", "another operation is running: ", 0},
		"refused": {activate, activate, offered, nil, grpckind.Error(errkind.Errorf(errkind.Blocked, "2.0.0 is blocked"), nil), "Upgrade", "2.0.0 is blocked", 5},
	} {
		s := clienttest.New(clienttest.Config{
			Version: "1.0.0", NextVersion: "2.0.0", Refuse: c.refuse,
			Policy:  &selfv1.GetPolicyResponse{Policy: &selfv1.Policy{Auto: c.policy}},
			Updates: &selfv1.CheckUpdatesResponse{Auto: c.now, Offer: c.offer, Reasons: c.reasons},
			Script:  []*operationsv1.Event{clienttest.Step(done, "settle", nil)},
		})
		socket := filepath.Join(t.TempDir(), "s")
		if err := s.Listen(socket); err != nil {
			t.Fatal(err)
		}
		a, _, stderr := commandtest.New()
		code := execute(t.Context(), a, []string{"self", "auto-update", "--socket", socket})
		if code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s: exit code %d:\n%s", name, code, stderr)
		}
		var begun []string
		for _, call := range s.Calls() {
			if call = path.Base(call); slices.Contains([]string{"Stage", "Upgrade", "Activate"}, call) {
				begun = append(begun, call)
			}
		}
		if strings.Join(begun, " ") != c.call {
			t.Errorf("%s: began %q, want %q", name, begun, c.call)
		}
		s.Close()
	}
}

// Without the authority the server is not trusted; with it, the answer is that of the server.
func TestACertificateAuthorityIsTrustedForOneImage(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it logs the refused handshake
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca, none := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "none.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for file, content := range map[string][]byte{ca: text, none: []byte("not a certificate")} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		flags []string
		says  string
	}{
		"without":    {nil, "certificate"},
		"with":       {[]string{"--ca", ca}, "404 Not Found"},
		"missing":    {[]string{"--ca", filepath.Join(dir, "missing")}, "read --ca: "},
		"other file": {[]string{"--ca", none}, "has no certificate in PEM form"},
	} {
		a, _, stderr := commandtest.New()
		code := execute(t.Context(), a, append([]string{"image", "inspect", server.URL + "/image.cosi", "--timeout", "20s"}, c.flags...))
		if code == 0 || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s: exit code %d:\n%s", name, code, stderr)
		}
	}
}
