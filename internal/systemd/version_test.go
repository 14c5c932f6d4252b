package systemd

import "testing"

func TestTheNumberOfAReleaseIsFoundInItsName(t *testing.T) {
	for text, want := range map[string]int{
		"252": 252, "257.13-1~deb13u1": 257, "systemd 252 (252.39-1~deb12u1)": 252, "v255.4": 255, "262~rc1": 262,
		"": 0, "devel": 0, "99999999999999999999": 0,
	} {
		if got, err := parseVersion(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
}
