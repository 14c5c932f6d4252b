//go:build ignore

// Program images makes what the VM ring boots and is not in the cache yet, so that .ci/run
// can do so beside tests that need no VM. Each argument is the name of a recipe of package
// lab: a disk image is made of it, and of installed only the tree of files.
//
//	go run .ci/images.go trixie networked installed
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
)

func main() {
	for _, name := range os.Args[1:] {
		begin := time.Now()
		if err := provide(context.Background(), name); err != nil {
			fmt.Fprintf(os.Stderr, "images: %s: %v\n", name, err)
			os.Exit(1)
		}
		fmt.Printf("%s after %d s\n", name, int(time.Since(begin).Seconds()))
	}
}

func provide(ctx context.Context, name string) error {
	if tree := lab.Installed(); name == tree.Name {
		_, err := lab.TreeOf(ctx, tree)
		return err
	}
	for _, recipe := range []lab.Recipe{lab.Trixie(), lab.Networked(), lab.Forky(), lab.Podman(), lab.Shares()} {
		if recipe.Name == name {
			_, err := lab.Image(ctx, recipe)
			return err
		}
	}
	return fmt.Errorf("not the name of a recipe")
}
