package grubcfg

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

// folder is a /boot with kernels and initrds of the releases 1 and 2.
func folder(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for _, name := range []string{"vmlinuz-1", "vmlinuz-2", "initrd-1", "initrd-2", "ucode.img"} {
		out[name] = &fstest.MapFile{Data: []byte(name)}
	}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// menus is what grub-mkconfig writes in form: functions, a menu entry, a submenu.
const menus = `
if [ -s $prefix/grubenv ]; then
  load_env
fi
function load_video {
  linux /not/this
  insmod all_video
}
set default="0"
menuentry 'Image, with Linux 2' --class os $menuentry_id_option 'simple-1' {
	load_video
	search --no-floppy --fs-uuid --set=root 11111111-2222-3333-4444-555555555555
	echo	'Loading Linux 2 ...'
	linux	/boot/vmlinuz-2 root=UUID=1111 ro console=tty0 dyndbg="file a.c +p" rd.overlayfs=/etc,/up,/work,/dev/x
	initrd	/boot/ucode.img /boot/initrd-2
}
submenu 'Advanced options' {
	menuentry 'Image, with Linux 1' {
		linux	/boot/vmlinuz-1 root=UUID=1111
	}
}
menuentry 'Image, with Linux 2 (recovery mode)' {
	linux	/boot/vmlinuz-2 root=UUID=1111 single
}
`

func TestTheKernelOfAMenuIsFound(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"grub2": menus,
		"no entry, one command": "linux (hd0,gpt2)/vmlinuz-2 root=UUID=1111 ro console=tty0 'dyndbg=file a.c +p' \\\n rd.overlayfs=/etc,/up,/work,/dev/x;" +
			" initrd /ucode.img /initrd-2; boot",
		"variables": "set prefix=/boot\nset a='ro console=tty0'\nif [ x ]; then set n=2; fi\n" +
			"menuentry X {\n linux $prefix/vmlinuz-${n} root=UUID=1111 $a $nobody \"dyndbg=file a.c +p\" rd.overlayfs=/etc,/up,/work,/dev/x\n initrd $prefix/ucode.img /initrd-$n\n}\n",
	} {
		want := Kernel{
			Linux: "vmlinuz-2", Initrds: []string{"ucode.img", "initrd-2"},
			Args: []string{"root=UUID=1111", "ro", "console=tty0", "dyndbg=file a.c +p", "rd.overlayfs=/etc,/up,/work,/dev/x"},
		}
		got, err := Find(folder(map[string]string{"grub2/grub.cfg": text}))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if got.Uname() != "2" {
			t.Errorf("%s: the release is %q", name, got.Uname())
		}
	}
}

// An image of an older Azure Linux names the kernel in a file of its own.
func TestVariablesOfALoadedFileAreRead(t *testing.T) {
	t.Parallel()
	got, err := Find(folder(map[string]string{
		"grub/grub.cfg": "set bootprefix=/boot\nload_env -f $bootprefix/vendor.cfg\nlinux $bootprefix/$vendor_linux $vendor_cmdline\n",
		"vendor.cfg":    "# GRUB Environment Block\nvendor_linux=vmlinuz-1\nvendor_cmdline=quiet lsm=a\\\\b\n",
	}))
	if diff := cmp.Diff(Kernel{Linux: "vmlinuz-1", Args: []string{"quiet", `lsm=a\b`}}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestTheNewestEntryOfTheSpecificationIsFound(t *testing.T) {
	t.Parallel()
	entry := func(n, more string) string {
		return "title Image\nversion " + n + "\nlinux /vmlinuz-" + n + "\ninitrd /initrd-" + n + " $tuned_initrd\noptions " + more + "\n"
	}
	const id = "0123456789abcdef"
	files := map[string]string{
		"grub2/grub.cfg": "load_env\nif [ -z \"${kernelopts}\" ]; then\n  set kernelopts=\"root=UUID=other ro \"\nfi\ninsmod blscfg\nblscfg\n",
		"grub2/grubenv":  "# GRUB Environment Block\nsaved_entry=x\nkernelopts=root=UUID=1111 ro crashkernel=1G\n########",
		"loader/entries/" + id + "-6.9.1-200.conf":     entry("1", "$kernelopts"),
		"loader/entries/" + id + "-6.10.1-1~rc1.conf":  entry("1", "wrong"),
		"loader/entries/" + id + "-6.10.1-1.conf":      entry("2", "$kernelopts $tuned_params rhgb"),
		"loader/entries/" + id + "-0-rescue.conf":      entry("1", "wrong"),
		"loader/entries/" + id + "-6.11.0.debris.orig": "not an entry",
	}
	want := Kernel{Linux: "vmlinuz-2", Initrds: []string{"initrd-2"}, Args: []string{"root=UUID=1111", "ro", "crashkernel=1G", "rhgb"}}
	got, err := Find(folder(files))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	delete(files, "grub2/grub.cfg")
	if got, err = Find(folder(files)); err != nil || !cmp.Equal(want, got) {
		t.Errorf("without grub.cfg: %+v, %v", got, err)
	}
}

func TestImagesWithoutOneKernelAreRefused(t *testing.T) {
	t.Parallel()
	cfg := func(text string) map[string]string { return map[string]string{"grub2/grub.cfg": text} }
	for name, c := range map[string]struct {
		files map[string]string
		kind  errkind.Kind
		says  string
	}{
		"nothing":             {nil, errkind.NotFound, "neither grub2/grub.cfg or grub/grub.cfg nor entries in loader/entries"},
		"no menu":             {cfg("set x=1\n"), errkind.Invalid, "grub2/grub.cfg: it has 0 menu entries with a kernel"},
		"two":                 {cfg(menus + menus), errkind.Invalid, "it has 2 menu entries"},
		"a quote":             {cfg("linux 'a\n\n"), errkind.Invalid, "grub2/grub.cfg: line 1: a ' has no end"},
		"a double quote":      {cfg("x\nlinux \"a"), errkind.Invalid, "line 2: a \" has no end"},
		"an open block":       {cfg("menuentry a {\n"), errkind.Invalid, "a { has no }"},
		"a closed block":      {cfg("\n}\n"), errkind.Invalid, "line 2: } without {"},
		"deep":                {cfg(strings.Repeat("x {\n", 40)), errkind.Invalid, "more than 32 blocks"},
		"no kernel file":      {cfg("linux /boot/vmlinuz-9"), errkind.Invalid, `the kernel: the image has no file "/boot/vmlinuz-9" in /boot`},
		"a way out":           {cfg("linux /../../etc/passwd"), errkind.Invalid, "no file"},
		"no initrd file":      {cfg("linux /vmlinuz-1\ninitrd /initrd-9"), errkind.Invalid, "the initrd: "},
		"no name":             {cfg("linux"), errkind.Invalid, "names no kernel"},
		"two values":          {cfg("set a=1\nset a=2\nlinux /vmlinuz-$a"), errkind.Invalid, `sets the variable a to "1" and to "2"`},
		"a circle":            {cfg("set a=$b\nset b=$a\nlinux $a"), errkind.Invalid, "has itself in its value"},
		"control characters":  {cfg("linux /vmlinuz-1 'a\nb'"), errkind.Invalid, "control characters"},
		"a large one":         {cfg(strings.Repeat("#", 1<<20+1)), errkind.TooLarge, "more than 1048576 bytes"},
		"two commands":        {map[string]string{"loader/entries/a.conf": "linux /vmlinuz-1\noptions a; reboot\n"}, errkind.Invalid, "loader/entries/a.conf: options has a character that ends a command"},
		"an entry of nothing": {map[string]string{"loader/entries/a.conf": "title x\n"}, errkind.Invalid, "does not name one kernel"},
	} {
		_, err := Find(folder(c.files))
		if errkind.Of(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s)", name, err, errkind.Of(err))
		}
	}
}

func TestTheConfigurationHasTheArgumentsOfTheImage(t *testing.T) {
	t.Parallel()
	k := Kernel{
		Linux: "vmlinuz-2", Initrds: []string{"ucode.img", "initrd-2"},
		Args: []string{"root=UUID=1111", "ro", "console=tty0", "dyndbg=file a.c +p", "rd.overlayfs=x", "a='$b;", ""},
	}.With([]string{"root", "rd.overlayfs"}, []string{"root=PARTUUID=2222"})
	got, err := k.Config("aaaa-bbbb", "/boot")
	const want = `# Trident writes this file. Each update of the slot replaces it.
search --no-floppy --fs-uuid --set=root aaaa-bbbb
linux /boot/vmlinuz-2 ro console=tty0 'dyndbg=file a.c +p' 'a='\''$b;' '' root=PARTUUID=2222
initrd /boot/ucode.img /boot/initrd-2
boot
reboot
exit 1
`
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	long := k.With(nil, []string{strings.Repeat("x", 2000), strings.Repeat("y", 100)})
	if _, err := long.Config("a", "/"); errkind.Of(err) != errkind.TooLarge {
		t.Error(err)
	}
}

func TestArgumentsAreSplitAsTheKernelSplitsThem(t *testing.T) {
	t.Parallel()
	want := []string{"quiet", "dyndbg=file a.c +p", "x=y z", ""}
	if diff := cmp.Diff(want, SplitArgs(` quiet  dyndbg="file a.c +p" "x=y z"`+"\t\"\"")); diff != "" {
		t.Error(diff)
	}
}

func TestVersionsAreOrdered(t *testing.T) {
	t.Parallel()
	list := []string{"a-6.9", "a-6.10~rc1", "a-6.10", "a-6.10.1", "a-6.10.1-2", "a-6.10.1-10", "a-6.010.2", "b-1", "b-1.x", "b-1.2"}
	for i, a := range list {
		for j, b := range list {
			if got := compareVersions(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
}

// What is found in any text is written as a script that has the same words again.
func FuzzFind(f *testing.F) {
	f.Add(menus, "kernelopts=ro", "linux /vmlinuz-1\noptions $kernelopts 'a b'\n")
	f.Add("set a=\"$b\"\nblscfg\nlinux /vmlinuz-1 ${a}x\\\n y", "a=b", "")
	f.Add("linux /vmlinuz-1 'x'\\''y' \"$\" {a}", "", "title rescue\n")
	f.Fuzz(func(t *testing.T, config, env, entry string) {
		k, err := Find(folder(map[string]string{"grub2/grub.cfg": config, "grub2/grubenv": env, "loader/entries/a.conf": entry}))
		if err != nil {
			return
		}
		text, err := k.Config("1111", "/boot")
		if err != nil {
			return
		}
		again, err := Find(folder(map[string]string{"grub2/grub.cfg": text}))
		if diff := cmp.Diff(k, again); err != nil && !strings.Contains(err.Error(), "0 menu entries") || err == nil && diff != "" {
			t.Errorf("%v\n%s\n%s", err, diff, text)
		}
	})
}
