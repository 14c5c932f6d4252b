package selfservice

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/operation/operationtest"
	"github.com/trident-project/trident/internal/rescue"
)

func TestATridentThatCannotBeReplacedSaysWhyAndBeginsNothing(t *testing.T) {
	root := t.TempDir()
	logger := slog.New(slog.DiscardHandler)
	fixed := errkind.Errorf(errkind.Unsupported, "it is in a container")
	runner := operation.New(t.Context(), operation.Config{Journal: operationtest.NewMemory(), Life: operation.Life{Boot: "boot 1"}, Logger: logger})
	s := New(Config{Root: root, Version: "1.0.0", Runner: runner, Logger: logger, Fixed: fixed})
	for name, err := range map[string]error{
		"stage":      errorOf(s.Stage(t.Context(), fetch.Source{URL: "https://example.com/trident.raw"}, false)),
		"upgrade":    errorOf(s.Upgrade(t.Context(), fetch.Source{URL: "https://example.com/trident.raw"}, Trial{})),
		"activate":   errorOf(s.Activate(t.Context(), "", Trial{})),
		"rollback":   errorOf(s.Rollback(t.Context(), Trial{})),
		"a file":     second(s.CheckFile(t.Context(), "/trident.raw", false)),
		"the policy": s.CanActivate(Trial{}),
	} {
		if !errors.Is(err, fixed) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Without the reason, this base would retire the extension.
	link := filepath.Join(root, rescue.Link)
	write(t, filepath.Join(root, rescue.Base), `{"version":"2.0.0"}`, 0o644)
	write(t, filepath.Join(root, rescue.Dir, "1.0.0.raw"), "image", 0o644)
	if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink("../trident/self/1.0.0.raw", link)); err != nil {
		t.Fatal(err)
	}
	if base, newer, err := s.images.BaseIsNewer(); err != nil || !newer || base != "2.0.0" {
		t.Fatalf("the base is %q, newer: %v, %v", base, newer, err)
	}
	if err := s.Retire(t.Context()); err != nil {
		t.Error(err)
	}
	if ops, err := runner.List(t.Context(), 10, false); err != nil || len(ops) != 0 {
		t.Errorf("operations %v, %v", ops, err)
	}
}

func errorOf(_ string, err error) error { return err }

func second(_ string, _ bool, err error) error { return err }
