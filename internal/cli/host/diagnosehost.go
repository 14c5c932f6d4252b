package host

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/diagnose"
	"github.com/trident-project/trident/internal/local"
)

// maxLogs is the most files of one kind in a bundle: the newest by name.
const maxLogs = 40

// logs adds the log files of this Trident and of upstream's. The logs of servicings have
// upstream's names in the bundle.
func (o *diagnoseOptions) logs(_ context.Context, b *diagnose.Bundle) error {
	names := []string{"/var/log/trident-full.log", "/var/log/trident-metrics.jsonl", "/etc/fstab", "/etc/trident/trident.conf", "/etc/os-release"}
	inBundle := map[string]string{names[0]: "logs/trident-full.log", names[1]: "logs/trident-metrics.jsonl"}
	state, err := o.stateFolder()
	if err != nil {
		b.Failed("the folder of the datastore", err)
	}
	for _, pattern := range []string{state + "/trident-*.log", state + "/trident-*.jsonl", "/var/lib/trident/self/evidence/*/*"} {
		found, err := filepath.Glob(filepath.Join(o.root, pattern))
		if err != nil {
			return err
		}
		slices.Sort(found)
		for _, f := range found[max(0, len(found)-maxLogs):] {
			name := "/" + strings.TrimPrefix(strings.TrimPrefix(f, o.root), "/")
			names = append(names, name)
			if path.Dir(name) == state {
				inBundle[name] = "logs/historical/" + path.Base(name)
			}
		}
	}
	for _, name := range names {
		text, err := diagnose.Tail(filepath.Join(o.root, name))
		if errors.Is(err, fs.ErrNotExist) && name != "/etc/fstab" {
			continue
		}
		if err != nil {
			b.Failed(name, err)
			continue
		}
		if err := b.Add(cmp.Or(inBundle[name], "files"+name), name, []byte(diagnose.WithoutSecrets(string(text)))); err != nil {
			return err
		}
	}
	return nil
}

// stateFolder returns the folder of the datastore on the host.
func (o *diagnoseOptions) stateFolder() (string, error) {
	at, err := local.DatastorePath(o.root)
	if err != nil {
		return "/var/lib/trident", err
	}
	return path.Dir(at), nil
}

// datastore adds a copy of the datastore, without secrets, to the bundle.
func (o *diagnoseOptions) datastore(ctx context.Context, b *diagnose.Bundle) error {
	dir, err := os.MkdirTemp("", "trident-diagnose-")
	if err != nil {
		b.Failed("datastore", err)
		return nil
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "datastore.sqlite")
	if err := local.CopyDatastore(ctx, o.root, copied, diagnose.DocumentWithoutSecrets); err != nil {
		b.Failed("datastore", err)
		return nil
	}
	text, err := diagnose.Tail(copied)
	if err == nil && len(text) == diagnose.MaxFile {
		err = errors.New("it is too large")
	}
	if err != nil {
		b.Failed("datastore", err)
		return nil
	}
	return b.Add("datastore.sqlite", "datastore", text)
}

// facts adds the output of tools about the host to the report.
func (o *diagnoseOptions) facts(ctx context.Context, b *diagnose.Bundle) error {
	h := &b.Report.HostDescription
	// On a physical machine it fails and prints "none".
	h.VirtType = strings.TrimSpace(o.tool(ctx, nil, "systemd-detect-virt", "--vm"))
	h.IsVirtual = h.VirtType != "" && h.VirtType != "none"
	container := strings.TrimSpace(o.tool(ctx, nil, "systemd-detect-virt", "--container"))
	h.IsContainer = container != "" && container != "none" || os.Getenv("DOCKER_ENVIRONMENT") != ""
	h.PlatformInfo = strings.TrimSpace(o.tool(ctx, b, "uname", "-srvm"))
	h.BlockdevInfo = valueOf([]byte(o.tool(ctx, b, "lsblk", "--json", "--bytes", "--output-all")))
	h.MountInfo = valueOf([]byte(o.tool(ctx, b, "findmnt", "--json")))
	h.TridentService = o.tool(ctx, b, "systemctl", "--no-pager", "show", "tridentd.service", "tridentd.socket", "trident.service",
		"--property=Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,StateChangeTimestamp")
	if failed, err := filepath.Glob(filepath.Join(o.root, "var/lib/trident/trident-health-check-failure-*.log")); err == nil {
		h.HealthCheckStatus = map[string]any{"failures": len(failed)}
	}
	if log, err := diagnose.Tail(filepath.Join(o.root, "var/log/pcrlock.log")); err == nil {
		h.PcrlockLog = diagnose.WithoutSecrets(string(log))
	}
	return nil
}

// tool returns the output of a tool, and notes its failure in the bundle, if b is not nil.
func (o *diagnoseOptions) tool(ctx context.Context, b *diagnose.Bundle, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	out, err := o.tools.Run(ctx, name, args...)
	if err != nil && b != nil {
		b.Failed(name, err)
	}
	return diagnose.WithoutSecrets(strings.ToValidUTF8(string(out), "?"))
}

// journals adds the journal of Trident's units and, if the flags say so, the journal of this
// boot and the denials of SELinux.
func (o *diagnoseOptions) journals(ctx context.Context, b *diagnose.Bundle) error {
	units := []string{"--unit=tridentd.service", "--unit=trident.service", "--unit=trident-install.service", "--unit=trident-network.service"}
	err := o.journalTo(ctx, b, "journal-trident.log", units...)
	if o.journal {
		err = errors.Join(err, o.journalTo(ctx, b, "journal-boot.log", "--boot"))
	}
	if !o.selinux {
		return err
	}
	if text := o.tool(ctx, b, "sestatus"); text != "" {
		err = errors.Join(err, b.Add("sestatus.txt", "sestatus", []byte(text)))
	}
	audit, aerr := diagnose.Tail(filepath.Join(o.root, "/var/log/audit/audit.log"))
	if aerr != nil {
		b.Failed("/var/log/audit/audit.log", aerr)
		return err
	}
	return errors.Join(err, b.Add("files/var/log/audit/audit.log", "/var/log/audit/audit.log", []byte(diagnose.WithoutSecrets(string(audit)))))
}

// journalTo adds the last lines of a journal, fewer of them if they are too large.
func (o *diagnoseOptions) journalTo(ctx context.Context, b *diagnose.Bundle, name string, args ...string) error {
	var err error
	for _, count := range []string{"6000", "1500", "300"} {
		var out []byte
		ctx, cancel := context.WithTimeout(ctx, toolTime)
		out, err = o.tools.Run(ctx, "journalctl", append([]string{"--no-pager", "--quiet", "--output=short-iso-precise", "--lines=" + count}, args...)...)
		cancel()
		if err == nil {
			return b.Add(name, "journalctl", []byte(diagnose.WithoutSecrets(strings.ToValidUTF8(string(out), "?"))))
		}
	}
	b.Failed("journalctl", err)
	return nil
}

// valueOf decodes YAML or JSON; nil for any other text.
func valueOf(text []byte) any {
	value, err := decodeYAML(text)
	if err == nil {
		_, err = json.Marshal(value) // not every YAML is JSON
	}
	if err != nil {
		return nil
	}
	return value
}
