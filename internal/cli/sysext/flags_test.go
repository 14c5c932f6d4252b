package sysext

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
)

func TestFlagsBecomeOptions(t *testing.T) {
	t.Run("build", func(t *testing.T) {
		got, err := commandtest.Parse(t, newBuildCommand, "--tree", "d", "--arch", "arm64", "--output", "f", "--epoch", "9", "--compress", "auto", "--key", "k", "--cert", "c")
		commandtest.Want(t, &buildOptions{tree: "d", arch: "arm64", image: "f", epoch: 9, epochSet: true, compress: "auto", key: "k", cert: "c"}, got, err)
	})
	t.Run("sign", func(t *testing.T) {
		got, err := commandtest.Parse(t, newSignCommand, "f", "--signature", "s", "--cert", "c")
		commandtest.Want(t, &signOptions{image: "f", signature: "s", cert: "c"}, got, err)
	})
	t.Run("verify", func(t *testing.T) {
		got, err := commandtest.Parse(t, newVerifyCommand, "f", "--trust", "a", "--trust", "b,c")
		commandtest.Want(t, &verifyOptions{image: "f", trust: []string{"a", "b,c"}}, got, err)
	})
}

func TestWrongFlagsAreRefusedBeforeAnythingRuns(t *testing.T) {
	for name, run := range map[string]func() error{
		"no tree": func() error {
			_, err := commandtest.Parse(t, newBuildCommand, "--arch", "arm64", "--output", "f")
			return err
		},
		"key without cert": func() error {
			_, err := commandtest.Parse(t, newBuildCommand, "--tree", "t", "--arch", "arm64", "--output", "f", "--key", "k")
			return err
		},
		"two ways to sign": func() error {
			_, err := commandtest.Parse(t, newSignCommand, "f", "--key", "k", "--signature", "s", "--cert", "c")
			return err
		},
	} {
		if err := run(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestOnlyASmallPlainFileIsReadAsAKey(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(big); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("error %v", err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(secret); err == nil || strings.Contains(err.Error(), "c2Vj") || errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
