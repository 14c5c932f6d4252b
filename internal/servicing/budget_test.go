package servicing

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

// metered serves pictures by their digests, with ranges.
func metered(t *testing.T, pictures ...picture) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, p := range pictures {
			if r.URL.Path == "/"+p.sha {
				w.Header().Set("ETag", `"`+p.sha+`"`)
				http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(p.data))
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// budgeted is a configuration of sysexts with a data budget.
func budgeted(budget int, url string, pictures ...picture) string {
	var list []string
	for _, p := range pictures {
		list = append(list, fmt.Sprintf("{url: '%s/%s', sha384: %s}", url, p.sha, p.sha))
	}
	return fmt.Sprintf("internalParams: {extensionDataBudget: %d}\nos: {sysexts: [%s]}\n", budget, strings.Join(list, ", "))
}

func TestAnUpdateHasOneDataBudgetForAllItsExtensions(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	w := newWorld(t, g)
	w.powerOn()
	t.Cleanup(w.stopDaemon)
	url := metered(t, g.app1, g.tool)
	whole := len(g.app1.data) + len(g.tool.data)
	op := w.ask(budgeted(whole-1, url, g.app1, g.tool), true, true)
	if op.Phase != operation.Undone || op.Failure.Kind != errkind.TooLarge || op.Failure.Name != "PopulateExtensionImages" || !strings.Contains(op.Failure.Message, "the 2 extensions") {
		t.Errorf("a budget of one byte too few: %s, %+v", op.Phase, op.Failure)
	}
	if op := w.ask(budgeted(whole+100, url, g.app1, g.tool), true, true); op.Phase != operation.Done {
		t.Errorf("enough: %s, %+v", op.Phase, op.Failure)
	}
	if op := w.ask(budgeted(1, url, g.app1, g.tool), true, true); op.Phase != operation.Done {
		t.Errorf("the host has all: %s, %+v", op.Phase, op.Failure)
	}
}

func TestAnInstallationHasADataBudgetForItsExtensions(t *testing.T) {
	t.Parallel()
	g, a := newGallery(t), newAlbum(t)
	url := metered(t, g.tool)
	for budget, enough := range map[int]bool{len(g.tool.data) - 1: false, len(g.tool.data) + 100: true} {
		w := newOSWorld(t, a)
		w.powerOn()
		text := "internalParams: {extensionDataBudget: %d}\n" + strings.Replace(v1(a), "os:\n", fmt.Sprintf("os:\n  sysexts: [{url: '%s/%s', sha384: %s}]\n", url, g.tool.sha, g.tool.sha), 1)
		id, err := w.daemon.service.Install(t.Context(), InstallRequest{Config: w.parse(fmt.Sprintf(text, budget)), Stage: true, Finalize: true})
		if err != nil {
			t.Fatal(err)
		}
		switch op := w.waiting(id); {
		case enough && op.Waiting != operation.Reboot:
			t.Errorf("enough: %s, %+v", op.Phase, op.Failure)
		case !enough && (op.Phase != operation.Undone || op.Failure.Kind != errkind.TooLarge || op.Failure.Name != "PopulateExtensionImages"):
			t.Errorf("too little: %s, %+v", op.Phase, op.Failure)
		}
		w.stopDaemon()
	}
}
