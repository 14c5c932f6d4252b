package power

import (
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/systemd"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

type operation string

func (o operation) Irrevocable() (string, bool) { return string(o), o != "" }

func TestTheHostIsRebootedAndSwitchedOff(t *testing.T) {
	delay := systemd.Inhibitor{What: []string{"shutdown"}, Mode: "delay", Who: "NetworkManager"}
	sleep := systemd.Inhibitor{What: []string{"sleep", "idle"}, Mode: "block", Who: "a player"}
	login := &systemdtest.Login{Locks: []systemd.Inhibitor{delay, sleep}}
	s := &Service{Login: login, Operations: operation("")}
	if err := s.Reboot(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := s.PowerOff(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(login.Requests, []string{"reboot", "power off"}) {
		t.Errorf("requests %q", login.Requests)
	}
}

func TestAProgramThatPreventsItIsNamedAndCanBeIgnored(t *testing.T) {
	login := &systemdtest.Login{}
	for range 7 {
		login.Locks = append(login.Locks, systemd.Inhibitor{What: []string{"sleep", "shutdown"}, Mode: "block", Who: "backup\n", Why: "it runs", PID: 42})
	}
	s := &Service{Login: login, Operations: operation("")}
	err := s.Reboot(t.Context(), false)
	if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), `reboot the host: "backup\n" (process 42) prevents it: "it runs"`) ||
		!strings.Contains(err.Error(), "and 2 others") || !strings.Contains(errkind.Hint(err), "--force") {
		t.Errorf("%v (%s)", err, errkind.Hint(err))
	}
	if len(login.Requests) > 0 {
		t.Errorf("requests %q", login.Requests)
	}
	if err := s.PowerOff(t.Context(), true); err != nil || !slices.Equal(login.Requests, []string{"power off"}) {
		t.Errorf("%v, requests %q", err, login.Requests)
	}
}

func TestAnOperationPastItsPointOfNoReturnIsNotInterrupted(t *testing.T) {
	login := &systemdtest.Login{}
	s := &Service{Login: login, Operations: operation("op-1")}
	for _, ignore := range []bool{false, true} {
		err := s.Reboot(t.Context(), ignore)
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "operation op-1 is past its point of no return") || !strings.Contains(errkind.Hint(err), "watch op-1") {
			t.Errorf("%v (%s)", err, errkind.Hint(err))
		}
	}
	if len(login.Requests) > 0 {
		t.Errorf("requests %q", login.Requests)
	}
}

func TestAHostWithoutLogindIsNotRebooted(t *testing.T) {
	s := &Service{Login: systemd.Logind{Address: "unix:path=" + t.TempDir() + "/none"}, Operations: operation("")}
	for _, ignore := range []bool{false, true} {
		if err := s.Reboot(t.Context(), ignore); errkind.Of(err) != errkind.Unavailable || !strings.Contains(err.Error(), "connect to systemd-logind") {
			t.Errorf("%v", err)
		}
	}
}
