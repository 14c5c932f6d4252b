package servicing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

func TestMain(m *testing.M) { hosttest.Main(m) }

func TestFilesAndFoldersHaveTheModesThatTheyShallHave(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		for name, mode := range map[string]fs.FileMode{"key": 0o600, "tool": fs.ModeSetuid | 0o755, "config": 0o640} {
			w.write("srv/"+name, name)
			if err := os.Chmod(filepath.Join(w.root, "srv", name), mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("key", filepath.Join(w.root, "srv/link")); err != nil {
			t.Fatal(err)
		}
		w.set(`os:
  additionalFiles:
  - {destination: /opt/app/conf.d/inline, content: x}
  - {destination: /opt/app/conf.d/key, source: /srv/key}
  - {destination: /opt/app/conf.d/link, source: /srv/link}
  - {destination: /opt/app/bin/tool, source: /srv/tool}
  - {destination: /opt/app/conf.d/config, source: /srv/config, permissions: "0604"}
  netplan: {version: 2}
  sysexts: [{url: "` + w.gallery.app1.url() + `", sha384: ` + w.gallery.app1.sha + `}]
  confexts: [{url: "` + w.gallery.settings.url() + `", sha384: ` + w.gallery.settings.sha + `}]
`)
		for name, want := range map[string]fs.FileMode{
			"opt/app/conf.d/inline": 0o664, "opt/app/conf.d/key": 0o600, "opt/app/conf.d/link": 0o600, "opt/app/bin/tool": 0o755, "opt/app/conf.d/config": 0o604,
			"opt": fs.ModeDir | 0o755, "opt/app": fs.ModeDir | 0o755, "opt/app/bin": fs.ModeDir | 0o755, "opt/app/conf.d": fs.ModeDir | 0o755,
			"var/lib/extensions": fs.ModeDir | 0o755, "var/lib/confexts": fs.ModeDir | 0o755,
		} {
			if info, err := os.Lstat(filepath.Join(w.root, name)); err != nil || info.Mode() != want {
				t.Errorf("%s is %v, want %s: %v", name, info, want, err)
			}
		}
	})
}

// A copy that a release without modes has staged.
func TestAStagedSourceWithoutAModeIsWrittenAsItWasThen(t *testing.T) {
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		const config = "os: {additionalFiles: [{destination: /etc/f, source: /srv/source}]}"
		if op := w.ask(config, true, false); op.Phase != operation.Done {
			t.Fatalf("%+v", op)
		}
		manifest := filepath.Join(w.daemon.service.StagedDir(), "sources.json")
		text, err := os.ReadFile(manifest)
		old := strings.ReplaceAll(string(text), `,"mode":"0644"`, "")
		if err != nil || old == string(text) {
			t.Fatalf("%s: %v", text, err)
		}
		if err := os.WriteFile(manifest, []byte(old), 0o600); err != nil {
			t.Fatal(err)
		}
		if op := w.ask(config, false, true); op.Phase != operation.Done {
			t.Fatalf("%+v", op)
		}
		if info, err := os.Lstat(filepath.Join(w.root, "etc/f")); err != nil || info.Mode() != 0o664 {
			t.Errorf("%v, %v", info, err)
		}
	})
}

// A user of the host in the tests.
const ada = 1000

func TestAUserWhoMovesAFolderLeadsNothingElsewhereAndStopsNoUndo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files to users")
	}
	t.Parallel()
	for _, target := range []string{"/root/.ssh", "../../root/.ssh", ""} {
		onHost(t, func(t *testing.T, w *world) {
			w.write("root/.ssh/authorized_keys", "of root")
			w.write("home/ada/keys/authorized_keys", "of ada")
			w.write("etc/f", "before")
			home := filepath.Join(w.root, "home/ada")
			for _, name := range []string{"", "keys", "keys/authorized_keys"} {
				if err := os.Chown(filepath.Join(home, name), ada, ada); err != nil {
					t.Fatal(err)
				}
			}
			before := w.systemd.Hook
			moved := false
			w.systemd.Hook = func(ctx context.Context, c systemdtest.Call) error {
				if c.Method == "StartTransient" && !moved { // the health check: all is written
					moved = true
					err := os.Rename(filepath.Join(home, "keys"), filepath.Join(home, "keys.old"))
					if target != "" {
						err = errors.Join(err, os.Symlink(target, filepath.Join(home, "keys")), os.Lchown(filepath.Join(home, "keys"), ada, ada))
					}
					if err != nil {
						t.Error(err)
					}
				}
				return before(ctx, c)
			}
			op := w.ask(`{os: {additionalFiles: [
				{destination: /etc/f, content: after}, {destination: /home/ada/keys/authorized_keys, content: of the fleet, permissions: "0600"},
				{destination: /home/ada/keys/new/f, content: x}, {destination: /etc/g, content: x}
			]}, health: {checks: [{name: it, runOn: [all], content: fail}]}}`, true, true)
			if op.Phase != operation.Undone || !moved {
				t.Fatalf("%s: %+v", op.Phase, op.Failure)
			}
			if says := w.says(op.ID); !strings.Contains(says, "/home/ada/keys/authorized_keys stays as it is now: ") {
				t.Errorf("it says\n%s", says)
			}
			if w.text("etc/f") != "before" || w.text("etc/g") != "" {
				t.Errorf("the rest is not restored: %q, %q", w.text("etc/f"), w.text("etc/g"))
			}
			file := filepath.Join(w.root, "root/.ssh/authorized_keys")
			var st unix.Stat_t
			if err := unix.Lstat(file, &st); err != nil || st.Uid != 0 || w.text("root/.ssh/authorized_keys") != "of root" {
				t.Errorf("the keys of root are %q, of user ID %d, %v", w.text("root/.ssh/authorized_keys"), st.Uid, err)
			}
			if names, err := os.ReadDir(filepath.Dir(file)); err != nil || fmt.Sprint(len(names)) != "1" {
				t.Errorf("beside them: %v, %v", names, err)
			}
		})
	}
}

func TestASourceThatAUserHasLedElsewhereIsNotCopied(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files to users")
	}
	t.Parallel()
	onHost(t, func(t *testing.T, w *world) {
		w.write("etc/shadow", "secret")
		w.write("home/ada/own", "own")
		for name, target := range map[string]string{"link": "/etc/shadow", "etc": "/etc"} {
			if err := os.Symlink(target, filepath.Join(w.root, "home/ada", name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"", "own", "link", "etc"} {
			if err := os.Lchown(filepath.Join(w.root, "home/ada", name), ada, ada); err != nil {
				t.Fatal(err)
			}
		}
		for source, want := range map[string]operation.Phase{"own": operation.Done, "link": operation.Undone, "etc/shadow": operation.Undone} {
			op := w.ask("os: {additionalFiles: [{destination: /etc/copy, source: /home/ada/"+source+"}]}", true, true)
			if op.Phase != want || want == operation.Undone && !strings.Contains(op.Failure.Message, "user ID 1000") {
				t.Errorf("%s: %s, %+v", source, op.Phase, op.Failure)
			}
			if w.text("etc/copy") == "secret" {
				t.Errorf("%s: what only root may read was copied", source)
			}
		}
	})
}
