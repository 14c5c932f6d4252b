package self

import (
	"testing"
	"time"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
)

func TestFlagsBecomeOptions(t *testing.T) {
	t.Run("upgrade", func(t *testing.T) {
		got, err := commandtest.Parse(t, newUpgradeCommand, "x.raw", "--soak", "20s", "--deadline", "2m", "--allow-downgrade",
			"--allow-read-only-usr", "--sha256", "ab", "--cancel-on-interrupt", "--detach", "--on-host")
		commandtest.Want(t, &upgradeOptions{
			FollowOptions: command.FollowOptions{CancelOnInterrupt: true, Detach: true},
			sourceOptions: sourceOptions{source: "x.raw", onHost: true, sha256: "ab"},
			trialOptions:  trialOptions{soak: 20 * time.Second, deadline: 2 * time.Minute, allowDowngrade: true, allowReadOnlyUsr: true},
		}, got, err)
	})
	t.Run("stage", func(t *testing.T) {
		got, err := commandtest.Parse(t, newStageCommand, "http://x/y", "--allow-downgrade")
		commandtest.Want(t, &stageOptions{sourceOptions: sourceOptions{source: "http://x/y"}, allowDowngrade: true}, got, err)
	})
	t.Run("activate", func(t *testing.T) {
		got, err := commandtest.Parse(t, newActivateCommand, "2.0.0", "--detach")
		commandtest.Want(t, &activateOptions{FollowOptions: command.FollowOptions{Detach: true}, version: "2.0.0"}, got, err)
	})
	t.Run("activate the newest", func(t *testing.T) {
		got, err := commandtest.Parse(t, newActivateCommand)
		commandtest.Want(t, &activateOptions{}, got, err)
	})
	t.Run("rollback", func(t *testing.T) {
		got, err := commandtest.Parse(t, newRollbackCommand, "--soak", "1s")
		commandtest.Want(t, &rollbackOptions{trialOptions: trialOptions{soak: time.Second}}, got, err)
	})
	t.Run("history", func(t *testing.T) {
		got, err := commandtest.Parse(t, newHistoryCommand, "--limit", "3")
		commandtest.Want(t, &historyOptions{limit: 3}, got, err)
	})
}

func TestWrongFlagsAreRefusedBeforeAnythingRuns(t *testing.T) {
	for name, run := range map[string]func() error{
		"no source":    func() error { _, err := commandtest.Parse(t, newUpgradeCommand); return err },
		"two versions": func() error { _, err := commandtest.Parse(t, newActivateCommand, "1", "2"); return err },
		"unknown flag": func() error { _, err := commandtest.Parse(t, newRollbackCommand, "--allow-downgrade"); return err },
		"no duration":  func() error { _, err := commandtest.Parse(t, newUpgradeCommand, "x", "--soak", "soon"); return err },
	} {
		if err := run(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
