package cli

import (
	"os"
	"testing"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/linux/outfile"
)

// head ends when it has its lines: the command then ends, without an error on the terminal.
func TestAClosedPipeAtStandardOutputIsNoMessage(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	a, _, stderr := commandtest.New()
	a.Stdout = outfile.Interruptible(t.Context(), w)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = a.Stdout.Write([]byte("x\n"))
	if err == nil {
		t.Fatal("a write into a closed pipe succeeded")
	}
	printError(a, err)
	if code := exitCode(err); code != exitFailed || stderr.Len() != 0 {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
