package cli

import (
	"testing"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
)

func TestOperationFlagsBecomeOptions(t *testing.T) {
	t.Run("list", func(t *testing.T) {
		got, err := commandtest.Parse(t, newOperationListCommand, "--unsettled")
		commandtest.Want(t, &operationListOptions{limit: 50, unsettled: true}, got, err)
	})
	t.Run("watch", func(t *testing.T) {
		got, err := commandtest.Parse(t, newOperationWatchCommand, "op-1", "--after", "7", "--cancel-on-interrupt")
		commandtest.Want(t, &operationWatchOptions{FollowOptions: command.FollowOptions{CancelOnInterrupt: true}, id: "op-1", after: 7}, got, err)
	})
}

func TestOperationWrongFlagsAreRefusedBeforeAnythingRuns(t *testing.T) {
	for name, run := range map[string]func() error{
		"a negative sequence": func() error {
			_, err := commandtest.Parse(t, newOperationWatchCommand, "op", "--after", "-1")
			return err
		},
	} {
		if err := run(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
