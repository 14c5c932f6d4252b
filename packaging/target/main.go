// Command target checks what a target of the Makefile or a script is to build, and prints
// the architectures in Go's words, separated by spaces.
//
// Usage: target VERSION [ARCHITECTURES]
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/trident-project/trident/internal/arch"
	"github.com/trident-project/trident/internal/version"
)

func main() {
	out, err := target(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "target:", err)
		os.Exit(1)
	}
	fmt.Println(out)
}

func target(args []string) (string, error) {
	if len(args) != 1 && len(args) != 2 {
		return "", errors.New("usage: target VERSION [ARCHITECTURES]")
	}
	// tridentd and trident-rescue compare the version with those of extensions.
	if _, err := version.Parse(args[0]); err != nil {
		return "", fmt.Errorf("VERSION: %w", err)
	}
	if len(args) == 1 {
		return "", nil
	}
	arches, err := arch.ParseList(args[1])
	if err != nil {
		return "", fmt.Errorf("ARCHES: %w", err)
	}
	return strings.Join(arches, " "), nil
}
