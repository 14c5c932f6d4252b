package servicing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

// called is what systemd does beyond what the fake does by itself.
func (w *world) called(fake *systemdtest.Fake, c systemdtest.Call) error {
	switch {
	case c.Method == "ReloadOrRestart" && c.Unit == "systemd-sysext.service":
		return w.merge(extension.Sysext)
	case c.Method == "ReloadOrRestart" && c.Unit == "systemd-confext.service":
		return w.merge(extension.Confext)
	case c.Method == "Restart" && c.Unit == "tridentd.service":
		w.changes.Go(w.restart)
	case c.Method == "StartTransient" && c.Transient.Exec[1] == "watch":
		time.AfterFunc(3*time.Second, w.witness)
	case c.Method == "Stop" && c.Unit == "systemd-confext.service":
		return errors.Join(os.RemoveAll(filepath.Join(w.root, "etc/.systemd-confext")), os.RemoveAll(filepath.Join(w.root, "etc/extension-release.d")))
	case c.Method == "StartTransient":
		return w.script(filepath.Join(w.root, c.Transient.Exec[1]))
	}
	return nil
}

// script plays a script: it says its name and fails if its text says so.
func (w *world) script(wrapper string) error {
	text, err := os.ReadFile(wrapper)
	if err != nil {
		return err
	}
	var file, status string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "'"):
			file = strings.Trim(words[1], "'")
		case words[0] == "echo":
			status = strings.Trim(words[len(words)-1], "'")
		}
	}
	body, err := os.ReadFile(filepath.Join(w.root, file))
	if err != nil {
		return err
	}
	w.Mu.Lock()
	w.ran = append(w.ran, strings.TrimSpace(string(body)))
	w.Mu.Unlock()
	if strings.Contains(string(body), "hang") {
		return nil
	}
	code := "0\n"
	if strings.Contains(string(body), "fail") {
		code = "3\n"
	}
	return os.WriteFile(filepath.Join(w.root, status), []byte(code), 0o644)
}

// merge is a refresh of all that links name.
func (w *world) merge(class extension.Class) error {
	dir, release, merged := "var/lib/extensions", "usr/lib/extension-release.d", "usr/.systemd-sysext/extensions"
	if class == extension.Confext {
		dir, release, merged = "var/lib/confexts", "etc/extension-release.d", "etc/.systemd-confext/confexts"
	}
	links, err := filepath.Glob(filepath.Join(w.root, dir, "*.raw"))
	if err != nil {
		return err
	}
	var names []string
	releases := map[string]string{}
	app, own := "", baseVersion
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			return err
		}
		p, ok := w.gallery.by(strings.TrimSuffix(filepath.Base(target), ".raw"))
		if filepath.Base(link) == "trident.raw" {
			p, ok = w.gallery.own(strings.TrimSuffix(filepath.Base(target), ".raw"))
			own = p.version
		}
		if !ok || p.version == "broken" {
			return &systemd.JobError{Verb: "reload or restart", Unit: "systemd-" + string(class) + ".service", Result: "failed", UnitResult: "exit-code"}
		}
		names = append(names, p.name)
		releases[p.name] = p.release
		if p.name == "app" {
			app = p.version
		}
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(w.root, release)), os.RemoveAll(filepath.Join(w.root, filepath.Dir(merged)))); err != nil {
		return err
	}
	for name, text := range releases {
		w.write(filepath.Join(release, "extension-release."+name), text)
	}
	if len(names) > 0 {
		w.write(merged, strings.Join(names, "\n")+"\n")
	}
	if class == extension.Sysext {
		w.write(extension.OwnDaemon, daemonText(own))
		w.startApp(app)
	}
	return nil
}

// baseVersion is the version of Trident that the host has without an extension.
const baseVersion = "1.0.0"

func daemonText(version string) string { return "tridentd " + version }

// version is that of the daemon that is merged.
func (w *world) version() string {
	return strings.TrimPrefix(w.text(extension.OwnDaemon), "tridentd ")
}

// restart is what systemd does when it is asked to restart the daemon.
func (w *world) restart() {
	time.Sleep(time.Millisecond) // the job comes after the answer
	w.stopDaemon()
	w.startDaemon()
}

// witness is the rescuer, which finds that the new version answers.
func (w *world) witness() {
	file := rescue.File{Dir: filepath.Join(w.root, rescue.Dir)}
	if r, err := file.Read(); err == nil {
		_ = file.Update(r.Operation, func(r *rescue.Record) error { r.Witnessed = true; return nil })
	}
}

// startApp is the service that the extension app brings. A sick one dies a moment
// after its start.
func (w *world) startApp(version string) {
	u := systemd.Unit{Active: "active", Sub: "running", Result: "success", Invocation: "of " + version}
	if version == "" {
		u = systemd.Unit{Active: "inactive", Sub: "dead", Result: "success"}
	}
	fake := w.systemd
	fake.Set("app.service", u)
	if version == "sick" {
		time.AfterFunc(3*time.Second, func() {
			if now, err := fake.Unit(context.Background(), "app.service"); err == nil && now == u {
				fake.Set("app.service", systemd.Unit{Active: "failed", Sub: "failed", Result: "signal", Invocation: u.Invocation})
			}
		})
	}
}

// tool is netplan, and a journal without entries. What netplan has set up stays
// unless it is told that it was there.
func (w *world) tool(name string, args []string) ([]byte, error) {
	if filepath.Base(name) == "tridentd" {
		text, err := os.ReadFile(name)
		return fmt.Appendf(nil, `{"version":%q,"ok":true}`, strings.TrimPrefix(string(text), "tridentd ")), err
	}
	if name != "netplan" {
		return nil, nil
	}
	root := w.root
	if i := slices.Index(args, "--root-dir"); i >= 0 {
		root = args[i+1]
	}
	text, err := os.ReadFile(filepath.Join(root, "etc/netplan/99-trident.yaml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if strings.Contains(string(text), "nonsense") {
		return nil, &run.ExitError{Tool: "netplan", Status: "exit status 78", Output: "it does not parse"}
	}
	if args[0] == "apply" {
		before := w.text("run/network")
		if i := slices.Index(args, "--state"); i >= 0 {
			old, err := os.ReadFile(filepath.Join(args[i+1], "etc/netplan/99-trident.yaml"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			before = strings.ReplaceAll(before, string(old), "")
		}
		w.write("run/network", strings.ReplaceAll(before, string(text), "")+string(text))
	}
	return nil, nil
}

// applyNetwork makes the network what its file says, as a boot does.
func (w *world) applyNetwork() { w.write("run/network", w.text("etc/netplan/99-trident.yaml")) }
