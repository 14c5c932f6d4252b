package disks

import (
	"slices"
	"testing"
)

func TestACommandLineIsSplitAsTheKernelDoes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                              nil,
		" quiet  ro\n":                  {"quiet", "ro"},
		`a="b c" d`:                     {"a=b c", "d"},
		`"a=b c" d="e`:                  {"a=b c", "d=e"},
		`rd.overlayfs="/etc,u,w,x y,z"`: {"rd.overlayfs=/etc,u,w,x y,z"},
	} {
		if got := parseCmdline(text); !slices.Equal(got, want) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	c := parseCmdline("roothash=a usrhash=b roothash=c")
	if v, is := c.last("roothash="); v != "c" || !is {
		t.Errorf("roothash is %q, %v: the last one counts", v, is)
	}
	if _, is := c.last("hash="); is {
		t.Error("the end of a name is found as a name")
	}
}

func TestHalfOfARootHashIsAUUID(t *testing.T) {
	t.Parallel()
	if got, want := uuidText("00112233445566778899aabbccddeeff"), "00112233-4455-6677-8899-aabbccddeeff"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
