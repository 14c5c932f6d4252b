// Package power reboots a host and switches it off, for callers who may be on another machine.
//
// It asks systemd-logind, which counts the programs that inhibit a shutdown. systemd itself
// would ignore them.
package power

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
)

// Operations knows the operation that runs. *operation.Runner is one.
type Operations interface {
	// Irrevocable returns the ID of an operation that is past its point of no return.
	Irrevocable() (id string, ok bool)
}

// Service reboots and switches off the host of Login.
type Service struct {
	Login      systemd.Login
	Operations Operations
}

// Reboot reboots the host. It returns when logind has accepted the request. It fails with
// Precondition, and nothing happens, while an operation is past its point of no return, and
// while a program prevents the shutdown, unless ignoreInhibitors is set.
func (s *Service) Reboot(ctx context.Context, ignoreInhibitors bool) error {
	return s.request(ctx, "reboot the host", ignoreInhibitors, s.Login.Reboot)
}

// PowerOff switches the host off, as Reboot reboots it.
func (s *Service) PowerOff(ctx context.Context, ignoreInhibitors bool) error {
	return s.request(ctx, "switch off the host", ignoreInhibitors, s.Login.PowerOff)
}

func (s *Service) request(ctx context.Context, doing string, ignoreInhibitors bool, call func(context.Context, bool) error) error {
	if id, ok := s.Operations.Irrevocable(); ok {
		return errkind.WithHint(errkind.Errorf(errkind.Precondition, "%s: operation %s is past its point of no return", doing, id),
			"wait for its end: trident operation watch %s", id)
	}
	if !ignoreInhibitors {
		locks, err := s.Login.Inhibitors(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		locks = slices.DeleteFunc(locks, func(i systemd.Inhibitor) bool { return !i.PreventsShutdown() })
		if len(locks) > 0 {
			return errkind.WithHint(errkind.Errorf(errkind.Precondition, "%s: %s", doing, describe(locks)),
				"wait for the programs to end, or ignore them with --force")
		}
	}
	// logind checks once more: a program may have begun to inhibit since.
	if err := call(ctx, ignoreInhibitors); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// maxDescribed is how many inhibitors an error names.
const maxDescribed = 5

func describe(locks []systemd.Inhibitor) string {
	var out []string
	for i, l := range locks {
		if i == maxDescribed {
			out = append(out, fmt.Sprintf("and %d others", len(locks)-i))
			break
		}
		out = append(out, fmt.Sprintf("%.64q (process %d) prevents it: %.128q", l.Who, l.PID, l.Why))
	}
	return strings.Join(out, "; ")
}
