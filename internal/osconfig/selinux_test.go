package osconfig

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

func TestThePolicyOfAnOS(t *testing.T) {
	t.Parallel()
	const contexts, config = "contexts/files/file_contexts", "etc/selinux/config"
	targeted := "etc/selinux/targeted/" + contexts
	for name, c := range map[string]struct {
		files   map[string]string
		want    *Policy
		variant string
	}{
		"none":          {},
		"enforcing":     {map[string]string{config: "# SELINUX=disabled\n\nSELINUX=enforcing\n", targeted: "x"}, &Policy{hostconfig.SELinuxEnforcing, "/" + targeted}, ""},
		"permissive":    {map[string]string{config: " SELINUX= Permissive \nSELINUX=enforcing\n", targeted: "x"}, &Policy{hostconfig.SELinuxPermissive, "/" + targeted}, ""},
		"another one":   {map[string]string{config: "SELINUXTYPE=mls\nSELINUX=enforcing", "etc/selinux/mls/" + contexts: "x"}, &Policy{hostconfig.SELinuxEnforcing, "/etc/selinux/mls/" + contexts}, ""},
		"disabled":      {map[string]string{config: "SELINUX=disabled\n", targeted: "x"}, nil, ""},
		"no mode":       {map[string]string{config: "SELINUXTYPE=targeted\n", targeted: "x"}, nil, ""},
		"no contexts":   {map[string]string{config: "SELINUX=enforcing\n"}, nil, ""},
		"not a name":    {map[string]string{config: "SELINUX=enforcing\nSELINUXTYPE=../targeted\n", targeted: "x"}, nil, "GetSelinuxType"},
		"the one above": {map[string]string{config: "SELINUX=enforcing\nSELINUXTYPE=..\n", targeted: "x"}, nil, "GetSelinuxType"},
	} {
		got, err := PolicyOf(tree(t, c.files))
		if diff := cmp.Diff(c.want, got); diff != "" || errkind.Variant(err) != c.variant {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestAFileInheritsTheLabelOfItsFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Inherit(file); err != nil {
		t.Errorf("without a label: %v", err)
	}
	const label = "system_u:object_r:var_lib_t:s0\x00"
	if err := unix.Lsetxattr(dir, labelName, []byte(label), 0); err != nil {
		t.Skipf("no labels can be given here: %v", err)
	}
	got := make([]byte, 100)
	err := Inherit(file)
	n, gerr := unix.Lgetxattr(file, labelName, got)
	if err != nil || gerr != nil || string(got[:max(n, 0)]) != label {
		t.Errorf("%v, %v, %q", err, gerr, got[:max(n, 0)])
	}
}

func TestTheUsersOfARunningOSAreNamedByTheirPlace(t *testing.T) {
	t.Parallel()
	root := tree(t, image)
	for says, u := range map[string]hostconfig.User{
		"managementOs.users[0].name: \"a:b\" is not the name of a user: wants up to 32 letters, digits, dots, hyphens and underscores, and no hyphen first": {Name: "a:b"},
		"set up managementOs.users: user ada: these groups do not exist in the OS: wizards":                                                                 {Name: "ada", SecondaryGroups: []string{"wizards"}},
	} {
		if err := SetupUsers(t.Context(), root, "managementOs.users", []hostconfig.User{u}, inPlace); err == nil || err.Error() != says {
			t.Errorf("%v, want %s", err, says)
		}
	}
	uid := hostconfig.UserID(7)
	twice := []hostconfig.User{{Name: "a", UID: &uid}, {Name: "b", UID: &uid}}
	if err := SetupUsers(t.Context(), root, "managementOs.users", twice, inPlace); err == nil || err.Error() != "managementOs.users[1].uid: 7 is that of managementOs.users[0] already" {
		t.Error(err)
	}
}

func inPlace(_ string, change func() error) error { return change() }
