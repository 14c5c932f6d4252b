package host

import (
	"testing"
	"time"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
)

func TestUpstreamsFlagsBecomeOptions(t *testing.T) {
	both := allowedOperations{}
	t.Run("update", func(t *testing.T) {
		got, err := commandtest.Parse(t, newUpdateCommand, "x.yaml", "-s", "st", "-e", "er", "--allowed-operations", "stage", "--allowed-operations", "finalize")
		commandtest.Want(t, &updateOptions{configOptions{
			servicingOptions: servicingOptions{statusFile: "st", errorFile: "er"}, config: "x.yaml", given: true,
			allowed: allowedOperations{given: true, stage: true, finalize: true},
		}}, got, err)
	})
	t.Run("update by default", func(t *testing.T) {
		got, err := commandtest.Parse(t, newUpdateCommand)
		commandtest.Want(t, &updateOptions{configOptions{config: "/etc/trident/config.yaml", allowed: both}}, got, err)
	})
	t.Run("only check", func(t *testing.T) {
		got, err := commandtest.Parse(t, newUpdateCommand, "x.yaml", "--plan")
		commandtest.Want(t, &updateOptions{configOptions{config: "x.yaml", given: true, plan: true}}, got, err)
		got, err = commandtest.Parse(t, newUpdateCommand, "--allowed-operations", "")
		commandtest.Want(t, &updateOptions{configOptions{config: defaultConfig, allowed: allowedOperations{given: true}}}, got, err)
		if stage, finalize := got.allowed.may(); stage || finalize {
			t.Errorf("stage %v, finalize %v", stage, finalize)
		}
	})
	t.Run("install", func(t *testing.T) {
		got, err := commandtest.Parse(t, newInstallCommand, "--multiboot", "--allowed-operations=finalize,stage")
		commandtest.Want(t, &installOptions{
			configOptions: configOptions{config: defaultConfig, allowed: allowedOperations{given: true, stage: true, finalize: true}}, multiboot: true,
		}, got, err)
		got, err = commandtest.Parse(t, newInstallCommand, "x.yaml", "--plan", "-e", "er")
		commandtest.Want(t, &installOptions{
			configOptions: configOptions{servicingOptions: servicingOptions{errorFile: "er"}, config: "x.yaml", given: true, plan: true},
		}, got, err)
	})
	t.Run("rollback", func(t *testing.T) {
		got, err := commandtest.Parse(t, newRollbackCommand, "--runtime", "--check")
		commandtest.Want(t, &rollbackOptions{check: true, runtime: true}, got, err)
	})
	t.Run("rebuild-raid", func(t *testing.T) {
		got, err := commandtest.Parse(t, newRebuildRaidCommand, "-c", "hs")
		commandtest.Want(t, &rebuildRaidOptions{config: "hs"}, got, err)
	})
	t.Run("get", func(t *testing.T) {
		got, err := commandtest.Parse(t, newGetCommand, "last-error", "-o", "f")
		commandtest.Want(t, &getOptions{kind: "last-error", outfile: "f"}, got, err)
	})
	t.Run("offline-initialize", func(t *testing.T) {
		got, err := commandtest.Parse(t, newOfflineInitializeCommand, "--lazy-partitions", "root-b:01234567-89AB-cdef-0123-456789abcdef", "--disk", "/dev/vda")
		commandtest.Want(t, &offlineInitializeOptions{
			disk: "/dev/vda", history: "/usr/share/image-customizer/history.json", root: "/",
			lazy: map[string]string{"root-b": "01234567-89ab-cdef-0123-456789abcdef"},
		}, got, err)
	})
	t.Run("daemon", func(t *testing.T) {
		got, err := commandtest.Parse(t, newDaemonCommand, "--inactivity-timeout", "1h 30m", "--socket-path", "/x", "-v", "TRACE")
		commandtest.Want(t, &daemonOptions{args: []string{"--idle-timeout", "1h30m0s", "--log-level", "debug", "--socket", "/x"}}, got, err)
		got, err = commandtest.Parse(t, newDaemonCommand)
		commandtest.Want(t, &daemonOptions{args: []string{"--idle-timeout", "5m0s", "--log-level", "info"}}, got, err)
		got, err = commandtest.Parse(t, newDaemonCommand, "--inactivity-timeout", "1w 1d 1us500ns", "-v", "OFF") // the daemon has no level below error
		commandtest.Want(t, &daemonOptions{args: []string{"--idle-timeout", "192h0m0.0000015s", "--log-level", "error"}}, got, err)
	})
}

func TestInvalidFlagsAreRefusedAsByUpstream(t *testing.T) {
	for name, run := range map[string]func() error{
		"both kinds": func() error { _, err := commandtest.Parse(t, newRollbackCommand, "--ab", "--runtime"); return err },
		"no such operation": func() error {
			_, err := commandtest.Parse(t, newUpdateCommand, "--allowed-operations", "stage,reboot")
			return err
		},
		"a plan that is left alone": func() error {
			_, err := commandtest.Parse(t, newUpdateCommand, "--plan", "--detach")
			return err
		},
		"a plan that is done": func() error {
			_, err := commandtest.Parse(t, newInstallCommand, "--plan", "--allowed-operations", "stage")
			return err
		},
		"two files":    func() error { _, err := commandtest.Parse(t, newUpdateCommand, "a", "b"); return err },
		"no such kind": func() error { _, err := commandtest.Parse(t, newGetCommand, "everything"); return err },
		"no bundle":    func() error { _, err := commandtest.Parse(t, newDiagnoseCommand); return err },
		"two sources": func() error {
			_, err := commandtest.Parse(t, newOfflineInitializeCommand, "hs", "--history-path", "x")
			return err
		},
		"no PARTUUID": func() error {
			_, err := commandtest.Parse(t, newOfflineInitializeCommand, "--lazy-partitions", "a:b")
			return err
		},
		"time of no use": func() error {
			_, err := commandtest.Parse(t, newDaemonCommand, "--inactivity-timeout", "5")
			return err
		},
	} {
		if err := run(); err == nil {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestTimesAreParsedAsByUpstream(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"300s": 5 * time.Minute, "5min": 5 * time.Minute, "1h 30m": 90 * time.Minute, "2days": 48 * time.Hour, "0s": 0, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond,
	} {
		var h humantime
		if err := h.Set(text); err != nil || time.Duration(h) != want {
			t.Errorf("%q is %s, %v", text, h, err)
		}
	}
	for _, text := range []string{"", "5", "x", "1.5h", "-1s", "1h x", "99999999999w"} {
		var h humantime
		if err := h.Set(text); err == nil {
			t.Errorf("%q is %s", text, h)
		}
	}
}

func TestPartitionsOfTheFirstBootAddUp(t *testing.T) {
	lazy := "01234567-89ab-cdef-0123-456789abcdef"
	got, err := commandtest.Parse(t, newOfflineInitializeCommand, "--lazy-partitions", "a-b:"+lazy, "--lazy-partitions=c-b:"+lazy)
	commandtest.Want(t, &offlineInitializeOptions{
		disk: "/dev/sda", history: "/usr/share/image-customizer/history.json", root: "/", lazy: map[string]string{"a-b": lazy, "c-b": lazy},
	}, got, err)
}
