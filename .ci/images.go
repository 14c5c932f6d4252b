//go:build ignore

// Program images makes the disk images of the VM tests of run that are not in the cache
// yet, so that this goes on beside tests that need no VM.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
)

func main() {
	for _, recipe := range []lab.Recipe{lab.Trixie(), lab.Networked()} {
		begin := time.Now()
		if _, err := lab.Image(context.Background(), recipe); err != nil {
			fmt.Fprintln(os.Stderr, "images:", err)
			os.Exit(1)
		}
		fmt.Printf("image %s after %d s\n", recipe.Name, int(time.Since(begin).Seconds()))
	}
	begin := time.Now()
	if _, err := lab.TreeOf(context.Background(), lab.Installed()); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
	fmt.Printf("tree of the installed system after %d s\n", int(time.Since(begin).Seconds()))
}
