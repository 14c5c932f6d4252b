// Command docs writes the manual pages and shell completions of trident, and the
// reference of the Host Configuration with its JSON Schema.
//
// The first are made from the commands themselves when a package is built, the
// second from the types when code is generated, so they cannot say anything else
// than the program does.
//
// Usage: docs FOLDER, or docs host-configuration FOLDER
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli"
	"github.com/trident-project/trident/internal/version"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "host-configuration" {
		return hostConfiguration(args[1])
	}
	if len(args) != 1 {
		return errors.New("usage: docs FOLDER, or docs host-configuration FOLDER")
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		epoch = 0
	}
	root := cli.Command()
	root.DisableAutoGenTag = true
	if err := manuals(root, filepath.Join(args[0], "man1"), time.Unix(epoch, 0).UTC()); err != nil {
		return err
	}
	if err := handWritten("packaging/man", args[0]); err != nil {
		return err
	}
	return completions(root, args[0])
}

// handWritten compresses the pages of from, named by section, into dir/man8.
func handWritten(from, dir string) error {
	pages, err := filepath.Glob(filepath.Join(from, "*.8"))
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "man8")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of manual pages: %w", err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return fmt.Errorf("read manual page: %w", err)
		}
		text = bytes.ReplaceAll(text, []byte("@VERSION@"), []byte(version.String()))
		if err := writeGzip(filepath.Join(dir, filepath.Base(page)+".gz"), text); err != nil {
			return err
		}
	}
	return nil
}

// writeGzip leaves name and time out of the gzip header, so that the same text gives the same bytes.
func writeGzip(name string, text []byte) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write manual page: %w", err)
	}
	return nil
}

func completions(root *cobra.Command, dir string) error {
	for name, generate := range map[string]func(io.Writer) error{
		"trident.bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"trident.zsh":  root.GenZshCompletion,
		"trident.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	} {
		var b bytes.Buffer
		if err := generate(&b); err != nil {
			return fmt.Errorf("make completion %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write completion: %w", err)
		}
	}
	return nil
}
