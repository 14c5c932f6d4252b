//go:build root || outside

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/rpm"
)

// The versions that are built: what is installed, and what it is upgraded to.
const oldRPM, newRPM = "1.0.0", "1.1.0"

// A repository is the signed packages of both versions, as dnf wants them.
type repository struct {
	dir, key string
	err      error
}

// packages builds the repository once for all tests, anew in every run, in dist.
var packages = sync.OnceValue(func() repository {
	dir, err := filepath.Abs(filepath.Join(root, "dist/test-rpm"))
	if err != nil {
		return repository{err: err}
	}
	r := repository{dir: filepath.Join(dir, "repo"), key: filepath.Join(dir, "key.asc")}
	if r.err = os.RemoveAll(dir); r.err == nil {
		r.err = r.build()
	}
	return r
})

func (r repository) build() error {
	// The agent's socket is in it, so its path must be short.
	home, err := os.MkdirTemp("", "gpg-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(home)
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	gpg := []string{"GNUPGHOME=" + home}
	defer func() { _, _ = output(nil, gpg, "gpgconf", "--kill", "gpg-agent") }()
	if _, err := output(nil, gpg, "gpg", "--batch", "--passphrase", "", "--quick-gen-key", "trident-test", "rsa3072", "sign", "never"); err != nil {
		return err
	}
	if _, err := output(nil, gpg, "gpg", "--armor", "--output", r.key, "--export", "trident-test"); err != nil {
		return err
	}
	for _, version := range []string{oldRPM, newRPM} {
		env := append(gpg, "TRIDENT_RPM_SIGNER=trident-test", "SOURCE_DATE_EPOCH=1700000000")
		out, err := output(&root, env, "go", "run", "./packaging/build", "rpm", "-version", version, "-arch", runtime.GOARCH)
		if err != nil {
			return err
		}
		for _, name := range strings.Fields(out) {
			if _, err := output(&root, nil, "cp", "-t", r.dir, name); err != nil {
				return err
			}
		}
	}
	if err := stub(filepath.Join(r.dir, "systemd-stub.rpm")); err != nil {
		return err
	}
	sign := append(gpg, "TRIDENT_RPM_SIGNER=trident-test")
	if _, err := output(&root, sign, "go", "run", "./packaging/build", "finish", filepath.Join(r.dir, "systemd-stub.rpm")); err != nil {
		return err
	}
	_, err = output(nil, nil, "createrepo_c", r.dir)
	return err
}

// root is the root folder of the project, seen from this package.
var root = "../.."

// stub writes a package that stands for the systemd and the shell of an RPM distribution.
func stub(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "systemd-stub", Arch: "all", Version: "257", Maintainer: "A <a@example.org>", Description: "Stands for systemd.",
		Overridables: nfpm.Overridables{Provides: []string{"systemd = 257", "/bin/sh"}},
	})
	if err := rpm.DefaultRPM.Package(info, file); err != nil {
		return err
	}
	return file.Close()
}

// output runs a program, at most for ten minutes, and returns what it wrote; the
// error holds it too.
func output(dir *string, env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	if dir != nil {
		cmd.Dir = *dir
	}
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out), nil
}

func ready(t *testing.T) repository {
	t.Helper()
	r := packages()
	if r.err != nil {
		t.Fatalf("build packages: %v", r.err)
	}
	return r
}

func exists(tree, name string) bool {
	_, err := os.Lstat(filepath.Join(tree, name))
	return err == nil
}
