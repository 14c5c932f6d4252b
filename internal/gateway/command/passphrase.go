package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/loginfile"
	"github.com/trident-project/trident/internal/gateway/password"
	"github.com/trident-project/trident/internal/gateway/proxy"
)

func passphraseCommand(file *string) *cobra.Command {
	cmd := &cobra.Command{Use: "passphrase", Short: "Set and remove passphrases, with which persons log in over HTTP", Args: cobra.ArbitraryArgs, RunE: needsSubcommand}
	cmd.AddCommand(passphraseSetCommand(file), passphraseRemoveCommand(file))
	return cmd
}

func passphraseSetCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:   "set [NAME]",
		Short: "Set the passphrase of a person, from the terminal or one line of standard input",
		Long: `Set the passphrase of a person, admin unless NAME is given. The command asks for it at
a terminal, and reads one line of standard input otherwise. Logins with the previous
passphrase end within seconds. The person has the rights of the identity
passphrase:NAME in the settings.`,
		Example: `  trident-gateway passphrase set
  trident-gateway passphrase set ops < passphrase.txt`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := append(args, password.DefaultName)[0]
			text, err := readPassphrase(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return fmt.Errorf("set the passphrase of %.80s: %w", name, err)
			}
			if err := changePassphrases(*file, func(l *password.List) error { return l.Set(name, text, time.Now()) }); err != nil {
				return err
			}
			return hintRights(cmd.OutOrStdout(), *file, password.Entry{Name: name}.Identity())
		},
	}
}

// hintRights says which rights an identity has, or how to give it one.
func hintRights(w io.Writer, file, who string) error {
	c, err := proxy.ReadConfig(file)
	if err != nil {
		return err
	}
	if set := c.Policy().Rights(who); set != 0 {
		_, err = fmt.Fprintf(w, "%s has the rights: %s\n", who, set)
		return err
	}
	_, err = fmt.Fprintf(w, "%s has no right yet. Add to rights in %s:\n  - identity: %q\n    rights: [operate]\n", who, file, who)
	return err
}

func passphraseRemoveCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove the passphrase of a person; the person's logins end within seconds",
		Example: "  trident-gateway passphrase remove ops",
		Args:    exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return changePassphrases(*file, func(l *password.List) error { return l.Remove(args[0]) })
		},
	}
}

// readPassphrase reads a passphrase: twice from a terminal, without showing it, or the only
// line of another file.
func readPassphrase(in io.Reader, prompt io.Writer) (string, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var texts [2]string
		for i, what := range []string{"Passphrase: ", "Again: "} {
			_, _ = io.WriteString(prompt, what)
			text, err := term.ReadPassword(int(f.Fd()))
			_, _ = io.WriteString(prompt, "\n")
			if err != nil {
				return "", err
			}
			texts[i] = string(text)
		}
		if texts[0] != texts[1] {
			return "", errkind.Errorf(errkind.Invalid, "the two passphrases differ")
		}
		return texts[0], nil
	}
	r := bufio.NewReader(io.LimitReader(in, password.MaxPassphrase+2))
	text, err := r.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if _, err := r.ReadByte(); err == nil {
		return "", errkind.Errorf(errkind.Invalid, "standard input is longer than one line of %d bytes", password.MaxPassphrase)
	}
	return strings.TrimSuffix(text, "\n"), nil
}

// changePassphrases changes the file of passphrases.
func changePassphrases(file string, f func(*password.List) error) error {
	c, err := proxy.ReadConfig(file)
	if err != nil {
		return err
	}
	return asRoot(loginfile.Change(c.HTTP.Passphrases, gatewayGroup(), password.Read, f))
}
