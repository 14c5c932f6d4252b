package sysext

import (
	"testing"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/command/commandtest"
)

func TestNoTextOfAnImageActsOnTheTerminal(t *testing.T) {
	const evil = commandtest.Evil
	image := &inspection{
		File: evil, Architecture: evil, RootHash: evil, Unread: evil, Signature: &signatureInfo{Signer: evil, Fingerprint: evil},
		Partitions: []partition{{Name: evil, ID: evil}}, Releases: []extensionRelease{{evil, map[string]string{evil: evil}}},
	}
	commandtest.Clean(t, 13, func(a *command.App) { _ = a.Show(image, image.write) })
	files := &inspection{Files: []fileInfo{{Path: evil, Mode: evil, Target: evil}}}
	commandtest.Clean(t, 9, func(a *command.App) { _ = a.Show(files, files.write) })
}
