package host

import (
	"strings"

	"github.com/trident-project/trident/internal/cli/command"
)

// plain removes gRPC's prefix from the text of an error; kind and hint stay.
func plain(err error) error {
	if err == nil {
		return nil
	}
	if text, ok := strings.CutPrefix(err.Error(), "rpc error: code = "); ok {
		if _, said, ok := strings.Cut(text, " desc = "); ok {
			return command.WithText(said, err)
		}
	}
	return err
}
