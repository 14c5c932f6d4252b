package gpt

import "testing"

func TestEachPartitionTypeHasOneNameAndOneUUID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, row := range typeTable() {
		for arch, want := range map[string]string{"amd64": row.amd64, "arm64": row.arm64} {
			id, ok := TypeByName(row.name, arch)
			if !ok || id.String() != want {
				t.Errorf("%s for %s is %s, want %s", row.name, arch, id, want)
			}
			forArch := arch
			if row.amd64 == row.arm64 {
				forArch = ""
			}
			if name, is := TypeName(id); name != row.name || is != forArch {
				t.Errorf("%s is %q for %q, want %q for %q", id, name, is, row.name, forArch)
			}
		}
		if seen[row.amd64] || seen[row.arm64] {
			t.Errorf("%s has the UUID of another type", row.name)
		}
		seen[row.amd64], seen[row.arm64] = true, true
	}
	if id, ok := TypeByName("root", "riscv64"); ok {
		t.Errorf("root for riscv64 is %s", id)
	}
	if id, ok := TypeByName("boot", "amd64"); ok {
		t.Errorf("boot is %s", id)
	}
	if name, arch := TypeName(GUID{1}); name != "" || arch != "" {
		t.Errorf("an unknown type is %q for %q", name, arch)
	}
}
