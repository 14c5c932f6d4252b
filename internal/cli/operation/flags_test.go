package operation

import (
	"testing"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
)

func TestFlagsBecomeOptions(t *testing.T) {
	t.Run("list", func(t *testing.T) {
		got, err := commandtest.Parse(t, newListCommand, "--unsettled")
		commandtest.Want(t, &listOptions{limit: 50, unsettled: true}, got, err)
	})
	t.Run("watch", func(t *testing.T) {
		got, err := commandtest.Parse(t, newWatchCommand, "op-1", "--after", "7", "--cancel-on-interrupt")
		commandtest.Want(t, &watchOptions{FollowOptions: command.FollowOptions{CancelOnInterrupt: true}, id: "op-1", after: 7}, got, err)
	})
}

func TestWrongFlagsAreRefusedBeforeAnythingRuns(t *testing.T) {
	for name, run := range map[string]func() error{
		"a negative sequence": func() error {
			_, err := commandtest.Parse(t, newWatchCommand, "op", "--after", "-1")
			return err
		},
	} {
		if err := run(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
