//go:build outside

package e2e_test

import (
	"strings"
	"testing"
)

// What upstream's tests and users call, and what they look for afterwards, on a host that
// has the packages: each row goes on where the one before ended. What needs another
// slot to boot is held elsewhere: the texts of an A/B update by package servicing, its
// units and files by the VM ring.
func TestUpstreamsUsersFindWhatTheyLookFor(t *testing.T) {
	n := newNetwork(t, hosts...)
	c := bootHost(n)
	c.sh(`cd /root
file() { printf 'os:\n  additionalFiles:\n  - {destination: /etc/here, content: %s}\n' "$1"; }
file one >one.yaml
file two >two.yaml
file three >three.yaml
printf 'os: {unknownKey: 1}\n' >bad.yaml
{ file four; printf 'scripts:\n  postConfigure:\n  - {name: breaks, runOn: [runtime-update], content: exit 3}\n'; } >script.yaml
{ file five; printf 'health:\n  checks:\n  - {name: fails, runOn: [runtime-update], content: exit 4}\n  - {name: unit, runOn: [runtime-update], systemdServices: [nowhere.service], timeoutSeconds: 1}\n'; } >health.yaml
printf 'trident: {phonehome: x.example, logstream: x.example}\n' >streams.yaml`)
	for _, row := range []struct {
		run    string // as somebody types it, or a unit of upstream's does
		code   int
		prints []string // words of standard output and standard error together
		look   string   // a script
		finds  string   // what it prints
	}{
		// Before the host is serviced.
		{"trident get", 2, []string{"not provisioned"}, "", ""},
		{"trident rollback --check", 2, []string{"not provisioned"}, "", ""},
		{"trident validate /root/one.yaml", 0, nil, "", ""},
		{"trident validate /root/bad.yaml", 2, []string{"/root/bad.yaml:1:", "unknownKey"}, "", ""},
		{"trident validate /root/streams.yaml", 0, []string{"warning: trident.phonehome: ", "warning: trident.logstream: "}, "", ""},
		// Updates at run time, and the files they leave.
		{"trident update /root/one.yaml --status /root/status --error /root/error", 0, nil, "cat /etc/here; echo; grep -c servicingState: /root/status", "one\n1"},
		{"trident update /root/one.yaml", 0, []string{"No update servicing required"}, "", ""},
		{"trident update /root/two.yaml --allowed-operations stage", 0, nil, "cat /etc/here; echo; trident get status | grep ^servicingState:", "one\nservicingState: runtime-update-staged"},
		{"trident update /root/two.yaml --allowed-operations finalize", 0, nil, "cat /etc/here; echo; trident get status | grep ^servicingState:", "two\nservicingState: provisioned"},
		{"trident update /root/three.yaml --allowed-operations stage finalize", 0, nil, "cat /etc/here", "three"},
		{"true", 0, nil, "ls /var/log/trident-full.log /var/log/trident-metrics.jsonl /var/lib/trident/datastore.sqlite", "/var/lib/trident/datastore.sqlite\n/var/log/trident-full.log\n/var/log/trident-metrics.jsonl"},
		// What fails, in upstream's words.
		{"trident update /root/script.yaml --error /root/error", 2, []string{"Failed to run post-configure script 'breaks'", "Script 'breaks' failed"}, "cat /etc/here; echo; grep -c '^message:' /root/error", "three\n1"},
		{"true", 0, nil, "grep -c \"Script 'breaks' failed\" /var/log/trident-full.log | sed 's/[1-9].*/some/'", "some"},
		{"trident update /root/health.yaml", 2, []string{"Failed health check(s)", "Script 'fails' failed", "Unit nowhere.service could not be found"}, "cat /etc/here", "three"},
		{"trident get last-error", 0, []string{"Failed health check(s)"}, "", ""},
		// The way back.
		{"trident rollback --check", 0, []string{"runtime"}, "", ""},
		{"trident rollback --ab", 2, nil, "cat /etc/here", "three"},
		{"trident get rollback-chain", 0, []string{"kind: runtime", "content: two", "content: one"}, "", ""},
		{"trident get rollback-target", 0, []string{"two"}, "", ""},
		{"trident rollback --allowed-operations finalize", 2, nil, "cat /etc/here", "three"},
		{"trident rollback --runtime", 0, nil, "cat /etc/here", "two"},
		{"trident get configuration", 0, []string{"/etc/here"}, "", ""},
		{"mkdir -p /etc/trident && cp /root/two.yaml /etc/trident/config.yaml && trident update", 0, []string{"No update servicing required"}, "", ""},
		{"trident validate", 0, []string{"/etc/trident/config.yaml is a valid Host Configuration"}, "", ""},
		{"trident commit", 0, nil, "", ""},
		{"trident --version", 0, []string{"trident " + outsideVersion}, "", ""},
		{"trident rebuild-raid", 2, nil, "", ""},
		// Clients, and callers who are not root.
		{"trident grpc-client --server unix:///run/trident/trident.sock rollback --check", 0, []string{"runtime"}, "", ""},
		{"setpriv --reuid=65534 --regid=65534 --clear-groups trident get status", 2, []string{"root"}, "", ""},
		{"trident -v TRACE get status", 0, []string{"servicingState: provisioned"}, "", ""},
		// The bundle.
		{"trident diagnose --output /root/bundle --journal", 0, nil, "zstd -dc /root/bundle | tar -t | sed 's|^trident-diagnostics/||' | grep -x -e logs/trident-full.log -e logs/trident-metrics.jsonl -e host-status.yaml -e report.json -e datastore.sqlite | sort",
			"datastore.sqlite\nhost-status.yaml\nlogs/trident-full.log\nlogs/trident-metrics.jsonl\nreport.json"},
		{"true", 0, nil, "zstd -dc /root/bundle | tar -t | grep -c '/logs/historical/.' | sed 's/[1-9].*/some/'", "some"},
		// The units.
		{"systemctl start trident.service", 0, nil, "systemctl show -p ActiveState -p SubState -p Result -p RemainAfterExit -p Type trident.service | sort",
			"ActiveState=inactive\nRemainAfterExit=no\nResult=success\nSubState=dead\nType=oneshot"},
		{"true", 0, nil, "a=$(systemctl show -P InvocationID trident.service); systemctl start trident.service; b=$(systemctl show -P InvocationID trident.service); test -n \"$a\" -a \"$a\" != \"$b\" && echo again", "again"},
		{"systemctl is-enabled trident.service tridentd.socket", 0, []string{"enabled\nenabled"}, "", ""},
		{"true", 0, nil, "systemctl show -P SubState tridentd.socket; systemctl show -P ActiveState tridentd.socket", "running\nactive"},
	} {
		name := row.run
		if name == "true" {
			name = row.look
		}
		t.Run(name, func(t *testing.T) {
			c := container{t, c.init}
			out, err := c.try("exec </dev/null; " + row.run + "; echo \"exit code $?\"")
			if err != nil {
				t.Fatal(err)
			}
			t.Log(out)
			for _, words := range append(row.prints, "exit code "+string(rune('0'+row.code))) {
				if !strings.Contains(out, words) {
					t.Errorf("%q is not in what it says", words)
				}
			}
			if row.look != "" {
				c.want(row.look, row.look, row.finds)
			}
		})
	}
}
