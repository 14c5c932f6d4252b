package command

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/nearest"
	"github.com/trident-project/trident/proto/client"
)

// DidYouMean returns a usage error whose hint suggests meant, unless meant is "".
func DidYouMean(cmd *cobra.Command, err error, meant string) error {
	if meant == "" {
		return UsageError(cmd, err)
	}
	return errUsage{errkind.WithHint(errkind.With(errkind.Invalid, err), "did you mean %s? See: %s --help", meant, cmd.CommandPath())}
}

// UnknownCommand returns the error for a word that is not a command of group.
func UnknownCommand(group *cobra.Command, word string) error {
	var words []string
	for _, c := range group.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			words = append(words, c.Name())
		}
	}
	meant := nearest.Word(word, words)
	if meant != "" {
		meant = group.CommandPath() + " " + meant
	}
	return DidYouMean(group, fmt.Errorf("%q is not a command of %s", word, group.CommandPath()), meant)
}

// FlagError returns the error for a flag that does not exist, or for a wrong value.
func FlagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && unknown.GetSpecifiedShortnames() == "" {
		var words []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				words = append(words, f.Name)
			}
		})
		meant := nearest.Word(unknown.GetSpecifiedName(), words)
		if meant != "" {
			meant = "--" + meant
		}
		return DidYouMean(cmd, err, meant)
	}
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return DidYouMean(cmd, valueError(wrong), meantValue(cmd, wrong.GetFlag(), wrong.GetValue()))
	}
	return UsageError(cmd, err)
}

// valueError returns err with the reason in words if the value is not a number or a duration:
// those of the packages strconv and time are for programmers.
func valueError(err *pflag.InvalidValueError) error {
	f, reason := err.GetFlag(), ""
	switch kind := f.Value.Type(); {
	case errors.Is(err, strconv.ErrRange):
		reason = "the number is too large or too small"
	case kind == "duration":
		reason = "it must be a number with a unit, such as 90s, 5m or 1h30m"
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		reason = "it must be a whole number"
	default:
		return err
	}
	return fmt.Errorf("invalid argument %q for \"--%s\" flag: %s", err.GetValue(), f.Name, reason)
}

// AsUsage returns a usage error for an error that cobra returned without calling flagError.
func AsUsage(cmd *cobra.Command, err error) error {
	if err == nil || client.Hint(err) != "" {
		return err
	}
	_, unknown := errors.AsType[*pflag.NotExistError](err)
	_, wrong := errors.AsType[*pflag.InvalidValueError](err)
	_, alone := errors.AsType[*pflag.ValueRequiredError](err)
	switch text := err.Error(); {
	case unknown, wrong, alone:
		return FlagError(cmd, err)
	case strings.HasPrefix(text, "required flag(s) "), strings.HasPrefix(text, "if any flags in the group "),
		strings.HasPrefix(text, "at least one of the flags in the group "):
		return UsageError(cmd, err)
	}
	return err
}

// meantValue returns the valid value of a flag that is nearest to value, or "".
func meantValue(cmd *cobra.Command, f *pflag.Flag, value string) string {
	switch f.Value.Type() {
	case "duration", "TIME":
		if _, err := strconv.ParseUint(value, 10, 32); err == nil {
			return value + "s"
		}
		return ""
	}
	complete, ok := cmd.GetFlagCompletionFunc(f.Name)
	if !ok {
		return ""
	}
	words, _ := complete(cmd, nil, "")
	return nearest.Word(value, words)
}
