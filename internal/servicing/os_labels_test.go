package servicing

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
)

const withSetfiles = "os:\n  additionalFiles: [{destination: /usr/sbin/setfiles, content: works, permissions: '0755'}, {destination: /etc/of.conf, content: of v7}]\n"

// selinuxOf is an installation of an OS with SELinux, which has no setfiles.
func selinuxOf(a *album, os string) string {
	text := hostOf(a.selinux, "")
	return text[:strings.Index(text, "os:\n")] + os + text[strings.Index(text, "scripts:\n"):]
}

func TestFilesAreLabelledForTheNewSystem(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	const all = "exec '/usr/sbin/setfiles' -m '/etc/selinux/strict/contexts/files/file_contexts' '/' '/var/lib/trident'\n"
	for name, c := range map[string]struct {
		os             string
		variant        string // of the failure, if there is one
		says           string
		labels, atBoot bool
	}{
		"enforcing":                     {os: withSetfiles, labels: true},
		"permissive":                    {os: withSetfiles + "  selinux: {mode: permissive}\n", labels: true},
		"disabled":                      {os: withSetfiles + "  selinux: {mode: disabled}\n"},
		"a setfiles that fails":         {os: strings.Replace(withSetfiles, "works", "fails", 1), variant: "CommandFailed", says: "label the files of the new system for SELinux: exit status 3"},
		"enforcing without setfiles":    {os: "os: {}\n", variant: "MissingBinary", says: "it has no setfiles"},
		"permissive without setfiles":   {os: "os: {selinux: {mode: permissive}}\n", atBoot: true},
		"enforcing beside an extension": {os: "os: {sysexts: [{url: 'file:///srv/x.raw', sha384: " + strings.Repeat("ab", 48) + "}], selinux: {mode: enforcing}}\n", variant: errkind.NameInvalidHostConfigurationDynamic, says: "ExtensionImagesAndSelinuxUnsupported"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newOSWorld(t, a)
				w.powerOn()
				kind, start := installing(func(a *album) string { return selinuxOf(a, c.os) }, true, true)(w)
				op := w.run(kind, start, "")
				switch {
				case c.variant != "":
					if op.Phase != operation.Undone || op.Failure.Name != c.variant || !strings.Contains(op.Failure.Message, c.says) {
						t.Errorf("%s: %+v", op.Phase, op.Failure)
					}
				case op.Phase != operation.Done:
					t.Errorf("%s: %+v", op.Phase, op.Failure)
				default:
					if got, want := w.text("etc/labelled"), map[bool]string{true: all}[c.labels]; got != want {
						t.Errorf("labelled with %q, want %q", got, want)
					}
					if got := w.has(".autorelabel"); got != c.atBoot {
						t.Errorf("to be labelled at boot: %v", got)
					}
				}
				w.rest()
			})
		})
	}
}
