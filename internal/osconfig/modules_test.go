package osconfig

import (
	"testing"

	"github.com/trident-project/trident/internal/hostconfig"
)

func TestFilesOfModulesAreChangedLineByLine(t *testing.T) {
	t.Parallel()
	opts := map[string]string{"a": "1", "b": "x y"}
	for _, test := range []struct {
		name      string
		change    func(string, hostconfig.Module) string
		mode      hostconfig.LoadMode
		was, want string
	}{
		{"always is added", loadText, hostconfig.LoadAlways, "# c\nother", "# c\nother\nmy_mod\n"},
		{"always is there", loadText, hostconfig.LoadAlways, "  my-mod  \n", "  my-mod  \n"},
		{"disabled goes", loadText, hostconfig.LoadDisable, "my-mod\nother\n", "other\n"},
		{"auto stays", loadText, hostconfig.LoadAuto, "my_mod\n", "my_mod\n"},
		{"inherit stays", disabledText, hostconfig.LoadInherit, "blacklist my_mod\n", "blacklist my_mod\n"},
		{"none is inherit", disabledText, "", "blacklist my_mod\n", "blacklist my_mod\n"},
		{"auto is no longer disabled", disabledText, hostconfig.LoadAuto, "blacklist my-mod\ninstall my_mod /bin/true\ninstall my_mod /sbin/special\n", "install my_mod /sbin/special\n"},
		{"disabled is added", disabledText, hostconfig.LoadDisable, "blacklist other", "blacklist other\nblacklist my_mod\ninstall my_mod /bin/false\n"},
		{"disabled half is completed", disabledText, hostconfig.LoadDisable, "blacklist my_mod\n#\n", "#\nblacklist my_mod\ninstall my_mod /bin/false\n"},
		{"disabled is there", disabledText, hostconfig.LoadDisable, "install my_mod /bin/false\nblacklist my_mod\n", "install my_mod /bin/false\nblacklist my_mod\n"},
		{"options are added", optionsText, "", "", "options my_mod a=1 b=\"x y\"\n"},
		{"options are there", optionsText, "", "# c\noptions my_mod a=1 b=\"x y\"\n", "# c\noptions my_mod a=1 b=\"x y\"\n"},
		{"options are replaced", optionsText, "", "options my-mod a=2 c=\"3  4\"\noptions my_mod b=5\noptions m a=2\n", "options my-mod c=\"3  4\"\noptions m a=2\noptions my_mod a=1 b=\"x y\"\n"},
	} {
		m := hostconfig.Module{Name: "my_mod", LoadMode: test.mode, Options: opts}
		got := test.change(test.was, m)
		if got != test.want {
			t.Errorf("%s: got %q", test.name, got)
		}
		if again := test.change(got, m); again != got {
			t.Errorf("%s, again: got %q", test.name, again)
		}
	}
}

func TestTheModeOfSELinuxIsOneLine(t *testing.T) {
	t.Parallel()
	for was, want := range map[string]string{
		"SELINUXTYPE=targeted":                                 "SELINUXTYPE=targeted\nSELINUX=permissive\n",
		"# SELINUX=x\n SELINUX=enforcing # c\nSELINUXTYPE=a\n": "# SELINUX=x\nSELINUX=permissive\nSELINUXTYPE=a\n",
		"SELINUX=permissive":                                   "SELINUX=permissive\n",
	} {
		if got := selinuxText(was, hostconfig.SELinuxPermissive); got != want {
			t.Errorf("%q became %q", was, got)
		}
	}
}
