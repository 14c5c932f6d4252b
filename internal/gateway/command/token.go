package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/loginfile"
	"github.com/trident-project/trident/internal/gateway/proxy"
	"github.com/trident-project/trident/internal/gateway/token"
)

func tokenCommand(file *string) *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Add, list and revoke bearer tokens", Args: cobra.ArbitraryArgs, RunE: needsSubcommand}
	cmd.AddCommand(tokenAddCommand(file), tokenListCommand(file), tokenRevokeCommand(file))
	return cmd
}

// maxDays is the longest life of a token: a hundred years.
const maxDays = 36500

func tokenAddCommand(file *string) *cobra.Command {
	var names []string
	var days int
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Make a token and print it; nobody can print it again",
		Example: `  trident-gateway token add ci --right operate --days 30
  trident-gateway token add dashboard > dashboard.token`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if days < 1 || days > maxDays {
				return asUsage(cmd, fmt.Errorf("--days is %d, it must be from 1 to %d", days, maxDays))
			}
			var text string
			err := change(*file, func(l *token.List) (err error) {
				text, err = l.Add(args[0], names, time.Now(), time.Duration(days)*24*time.Hour)
				return err
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringSliceVar(&names, "right", []string{"read"}, "what the token permits: read, operate, secret, admin; can be repeated")
	cmd.Flags().IntVar(&days, "days", 90, "how many days the token is valid")
	return cmd
}

func tokenRevokeCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke NAME",
		Short:   "Revoke a token; its open connections end within seconds",
		Example: "  trident-gateway token revoke ci",
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return change(*file, func(l *token.List) error { return l.Revoke(args[0], time.Now()) })
		},
	}
}

// listed is a token in the output for programs. Fields are only added.
type listed struct {
	Name    string    `json:"name"`
	State   string    `json:"state"`
	Rights  []string  `json:"rights"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

func tokenListCommand(file *string) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens, without their secrets",
		Example: "  trident-gateway token list --output json",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := proxy.ReadConfig(*file)
			if err != nil {
				return err
			}
			l, err := token.Read(c.Tokens)
			if err != nil {
				return err
			}
			all := []listed{}
			for _, t := range l.Tokens {
				all = append(all, listed{t.Name, t.State(time.Now()), t.Rights, t.Created, t.Expires})
			}
			switch output {
			case "json":
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			case "text":
			default:
				return asUsage(cmd, fmt.Errorf("--output is text or json, not %q", output))
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TOKEN\tSTATE\tRIGHTS\tEXPIRES")
			for _, t := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Name, t.State, strings.Join(t.Rights, ","), t.Expires.Format(time.RFC3339))
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVar(&output, "output", "text", "text or json")
	return cmd
}

// change changes the file of tokens.
func change(file string, f func(*token.List) error) error {
	c, err := proxy.ReadConfig(file)
	if err != nil {
		return err
	}
	return asRoot(loginfile.Change(c.Tokens, gatewayGroup(), token.Read, f))
}

// asRoot adds the hint to run a command as root to a denied access.
func asRoot(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return errkind.WithHint(errkind.With(errkind.Denied, err), "run it as root")
	}
	return err
}
