package cli

import (
	"testing"
	"time"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
)

func TestSelfFlagsBecomeOptions(t *testing.T) {
	t.Run("upgrade", func(t *testing.T) {
		got, err := commandtest.Parse(t, newSelfUpgradeCommand, "x.raw", "--soak", "20s", "--deadline", "2m", "--allow-downgrade",
			"--allow-read-only-usr", "--sha256", "ab", "--cancel-on-interrupt", "--detach", "--on-host")
		commandtest.Want(t, &selfUpgradeOptions{
			FollowOptions: command.FollowOptions{CancelOnInterrupt: true, Detach: true},
			sourceOptions: sourceOptions{source: "x.raw", onHost: true, sha256: "ab"},
			trialOptions:  trialOptions{soak: 20 * time.Second, deadline: 2 * time.Minute, allowDowngrade: true, allowReadOnlyUsr: true},
		}, got, err)
	})
	t.Run("stage", func(t *testing.T) {
		got, err := commandtest.Parse(t, newSelfStageCommand, "http://x/y", "--allow-downgrade")
		commandtest.Want(t, &selfStageOptions{sourceOptions: sourceOptions{source: "http://x/y"}, allowDowngrade: true}, got, err)
	})
	t.Run("activate", func(t *testing.T) {
		got, err := commandtest.Parse(t, newSelfActivateCommand, "2.0.0", "--detach")
		commandtest.Want(t, &selfActivateOptions{FollowOptions: command.FollowOptions{Detach: true}, version: "2.0.0"}, got, err)
	})
	t.Run("activate the newest", func(t *testing.T) {
		got, err := commandtest.Parse(t, newSelfActivateCommand)
		commandtest.Want(t, &selfActivateOptions{}, got, err)
	})
	t.Run("rollback", func(t *testing.T) {
		got, err := commandtest.Parse(t, newSelfRollbackCommand, "--soak", "1s")
		commandtest.Want(t, &selfRollbackOptions{trialOptions: trialOptions{soak: time.Second}}, got, err)
	})
	t.Run("history", func(t *testing.T) {
		got, err := commandtest.Parse(t, newSelfHistoryCommand, "--limit", "3")
		commandtest.Want(t, &selfHistoryOptions{limit: 3}, got, err)
	})
}

func TestSelfWrongFlagsAreRefusedBeforeAnythingRuns(t *testing.T) {
	for name, run := range map[string]func() error{
		"no source":    func() error { _, err := commandtest.Parse(t, newSelfUpgradeCommand); return err },
		"two versions": func() error { _, err := commandtest.Parse(t, newSelfActivateCommand, "1", "2"); return err },
		"unknown flag": func() error { _, err := commandtest.Parse(t, newSelfRollbackCommand, "--allow-downgrade"); return err },
		"no duration":  func() error { _, err := commandtest.Parse(t, newSelfUpgradeCommand, "x", "--soak", "soon"); return err },
	} {
		if err := run(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
