// Program image-builder is an example for builders of images. It asks the daemon of a
// host like the target to validate Host Configurations, and to verify and probe a new
// version of Trident, before they go into an image. The daemon changes nothing on that host.
//
//	image-builder -socket /run/trident/trident.sock -trident trident.raw host.yaml
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image-builder:", err)
		if hint := client.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, hint)
		}
		stop()
		os.Exit(1)
	}
}

var errFaults = errors.New("the Host Configuration has faults")

func run(ctx context.Context, args []string, out io.Writer, options ...client.Option) error {
	flags := flag.NewFlagSet("image-builder", flag.ContinueOnError)
	socket := flags.String("socket", "/run/trident/trident.sock", "the socket of the host that judges")
	image := flags.String("trident", "", "a new version of Trident, to be verified and probed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	trident, err := client.Dial(*socket, append(options, client.WithName("image-builder", "example"))...)
	if err != nil {
		return err
	}
	defer func() { _ = trident.Close() }()
	for _, name := range flags.Args() {
		if err := judge(ctx, trident, name, out); err != nil {
			return err
		}
	}
	if *image == "" {
		return nil
	}
	return probe(ctx, trident, *image, out)
}

// judge prints all findings as a compiler would, and what an update would do.
func judge(ctx context.Context, trident *client.Client, name string, out io.Writer) error {
	if err := trident.Require(ctx, wire.HostValidation, wire.HostPlan); err != nil {
		return err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	config, err := trident.OpenConfig(ctx, text) // it crosses once, for two questions
	if err != nil {
		return err
	}
	defer func() { _ = config.Close(ctx) }()
	verdict, err := trident.Host().Validate(ctx, config)
	if err != nil {
		return err
	}
	for _, f := range verdict.GetFindings() {
		fmt.Fprintf(out, "%s:%d:%d: %s: %s\n", name, f.GetLine(), f.GetColumn(), f.GetName(), f.GetMessage())
	}
	if !verdict.GetValid() {
		return errFaults
	}
	plan, err := trident.Host().Plan(ctx, config)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n", name, plan.GetKind())
	for _, a := range plan.GetActions() {
		fmt.Fprintf(out, "  %s\n", a.GetMessage())
	}
	return nil
}

// probe has the host verify a new version of Trident and start it once, aside.
func probe(ctx context.Context, trident *client.Client, image string, out io.Writer) error {
	file, err := os.Open(image)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	source := client.Source{Upload: file, Size: info.Size()}
	_, err = trident.Stage(ctx, source, true, func(e *client.Event) {
		if line := e.GetLog(); line != nil {
			fmt.Fprintf(out, "%s: %s\n", e.GetStep(), line.GetMessage())
		}
	})
	switch client.Kind(err) {
	case "", client.KindExists:
		fmt.Fprintf(out, "%s: good\n", image)
		return nil
	case client.KindUntrusted, client.KindCorrupt, client.KindForbidden, client.KindIncompatible:
		return fmt.Errorf("%s must not be shipped: %w", image, err)
	}
	return err
}
