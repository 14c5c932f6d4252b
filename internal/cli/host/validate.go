package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/local"
	"github.com/trident-project/trident/internal/version"
	"github.com/trident-project/trident/proto/client"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
)

type validateOptions struct {
	app    *command.App
	config string
	// remote has the daemon validate, which may have another version.
	remote bool
}

const validateLong = `Validate prints one line for each fault of a Host Configuration: file, line, column,
path of the key, upstream's name of the fault, and the fault. It needs neither the
daemon nor root, and checks the text alone, not this host. CONFIG is by default
` + defaultConfig + `; - is standard input. The exit code is 2 if the Host
Configuration has an error, and 0 if it has warnings alone.`

func newValidateCommand(a *command.App, remote bool, run func(context.Context, *validateOptions) error) *cobra.Command {
	o := &validateOptions{app: a, config: defaultConfig, remote: remote}
	return &cobra.Command{
		Use:   "validate [CONFIG]",
		Short: "Find all faults of a Host Configuration",
		Example: `  trident validate host.yaml
  trident validate - < host.yaml
  trident validate host.yaml --output json`,
		Long: validateLong,
		Args: command.AtMostOne,
		RunE: command.Run(run, o, &o.config),
	}
}

func validate(ctx context.Context, o *validateOptions) error {
	text, err := readConfig(ctx, o.config)
	if err != nil {
		return err
	}
	ask := inMemory
	if o.remote {
		ask = o.app.Ask
	}
	return command.AsUpstream(ask(ctx, "validate Host Configuration", func(c *client.Client) error {
		found, err := findings(ctx, c, text)
		if err != nil {
			return err
		}
		shown := o.app.Show(found, func(w *terminal.Table) {
			for _, f := range found.GetFindings() {
				w.Line("%s", findingText(configName(o.config), f))
			}
		})
		err = errors.Join(verdict(configName(o.config), found), shown)
		if err == nil && o.app.Output.String() == "text" {
			o.app.Say("%s is a valid Host Configuration.", terminal.Line(configName(o.config)))
		}
		return err
	}))
}

// inMemory calls question with a client of services in this process, without a daemon.
func inMemory(ctx context.Context, doing string, question func(*client.Client) error) (err error) {
	s, err := local.Serve(version.String())
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	c, err := client.Dial("memory", client.WithDialer(s.Dial))
	if err == nil {
		err = errors.Join(question(c), c.Close())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, command.Interrupted(ctx, err))
	}
	return nil
}

// findings returns the findings of a daemon, or of this process, about a Host Configuration.
func findings(ctx context.Context, c *client.Client, text []byte) (*hostv1.ValidateConfigResponse, error) {
	config := &client.Config{Text: string(text)}
	if !utf8.Valid(text) { // a message has no place for it
		var err error
		if config, err = c.OpenConfig(ctx, text); err != nil {
			return nil, err
		}
	}
	return c.Host().Validate(ctx, config)
}

// findingText formats a finding in the form of compilers: file:line:column: text.
func findingText(file string, f *hostv1.Finding) string {
	parts := []string{terminal.Line(file)}
	if f.GetLine() > 0 {
		parts[0] += fmt.Sprintf(":%d:%d", f.GetLine(), f.GetColumn())
	}
	if f.GetSeverity() == hostv1.Severity_SEVERITY_WARNING {
		parts = append(parts, "warning")
	}
	if f.GetPath() != "" {
		parts = append(parts, terminal.Line(f.GetPath()))
	}
	if f.GetName() != "" {
		parts = append(parts, terminal.Line(f.GetName()))
	}
	return strings.Join(append(parts, terminal.Line(f.GetMessage())), ": ")
}

// verdict returns the error for findings; nil if they are warnings alone.
func verdict(file string, found *hostv1.ValidateConfigResponse) error {
	if found.GetValid() {
		return nil
	}
	faults, parse := 0, false
	for _, f := range found.GetFindings() {
		if f.GetSeverity() == hostv1.Severity_SEVERITY_ERROR {
			faults++
			parse = parse || f.GetName() == errkind.NameParseHostConfiguration
		}
	}
	name := errkind.NameInvalidHostConfigurationStatic
	if parse {
		name = errkind.NameParseHostConfiguration
	}
	what := fmt.Sprintf("%d faults", faults)
	if faults == 1 {
		what = "a fault"
	}
	return errkind.WithName(errkind.Errorf(errkind.Invalid, "%s has %s", file, what), name)
}

// checkConfig has the daemon check a Host Configuration, and prints the findings to standard
// error.
func checkConfig(ctx context.Context, a *command.App, c *client.Client, file string, text []byte) error {
	found, err := findings(ctx, c, text)
	if err != nil {
		return err
	}
	for _, f := range found.GetFindings() {
		fmt.Fprintln(a.Stderr, findingText(file, f))
	}
	return verdict(file, found)
}
