package tpm_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/linux/tpm"
	"github.com/trident-project/trident/internal/linux/tpm/tpmtest"
)

func TestAPredictionIsTheValueAfterTheBoot(t *testing.T) {
	t.Parallel()
	var chip tpmtest.Chip
	old, next := tpmtest.NewBoot(t, "1", "a"), tpmtest.NewBoot(t, "2", "b")
	if err := chip.Boot(old); err != nil {
		t.Fatal(err)
	}
	log, err := chip.Log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loader, err := log.PredictLoader(old, next)
	if err != nil {
		t.Fatal(err)
	}
	uki, err := tpm.PredictUKI(next.UKI, tpm.UntilReady())
	if err != nil {
		t.Fatal(err)
	}
	if err := chip.Boot(next); err != nil {
		t.Fatal(err)
	}
	got, err := chip.Registers(t.Context(), 4, 11)
	if err != nil || got[4] != loader || got[11] != uki {
		t.Errorf("predicted %s and %s, got %s and %s, %v", loader, uki, got[4], got[11], err)
	}
	log, _ = chip.Log(t.Context())
	early, err := tpm.PredictUKI(next.UKI, tpm.UntilUnlock())
	if replayed := log.Until(tpm.AfterUnlock).Replay()[11]; err != nil || replayed != early || early == uki {
		t.Errorf("until the unlock: predicted %s, replayed %s, %v", early, replayed, err)
	}
}

func TestARegisterThatCannotBePredictedNamesItsEvent(t *testing.T) {
	t.Parallel()
	var chip tpmtest.Chip
	old := tpmtest.NewBoot(t, "1", "a")
	if err := chip.Boot(old); err != nil {
		t.Fatal(err)
	}
	stranger := tpm.Event{Register: 4, Type: 0x80000003, Digest: sha256.Sum256([]byte("agent"))}
	chip.Measure(stranger)
	log, _ := chip.Log(t.Context())
	_, err := log.PredictLoader(old, tpmtest.NewBoot(t, "2", "b"))
	if errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), stranger.Digest.String()) || !strings.Contains(errkind.Hint(err), "4") {
		t.Errorf("got %v (%s)", err, errkind.Hint(err))
	}
	if _, err := (tpm.Log{}).PredictLoader(old, old); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("an empty log: %v", err)
	}
}

func TestAUKIThatTheMachineChoosesFromIsRefused(t *testing.T) {
	t.Parallel()
	for name, sections := range map[string][]tpmtest.Section{
		".profile": {{Name: ".linux", Content: []byte("x")}, {Name: ".profile", Content: []byte("ID=main")}},
		".linux":   {{Name: ".text", Content: []byte("x")}},
		".cmdline": {{Name: ".linux", Content: []byte("x")}, {Name: ".cmdline", Content: []byte("a")}, {Name: ".cmdline", Content: []byte("b")}},
	} {
		_, err := tpm.PredictUKI(tpmtest.Open(t, tpmtest.PE(sections...)), nil)
		if errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tool runs a tool, or skips the test if it is not installed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := run.Output(t.Context(), run.Command{Path: name, Args: args})
	if errkind.Of(err) == errkind.Precondition || errors.Is(err, os.ErrNotExist) {
		t.Skipf("%s is not installed", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func file(t *testing.T, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestSystemdMeasurePredictsTheSame(t *testing.T) {
	t.Parallel()
	const measure = "/usr/lib/systemd/systemd-measure"
	help := tool(t, measure, "--help")
	args := []string{"calculate", "--bank=sha256", "--phase=enter-initrd:leave-initrd"}
	var sections []tpmtest.Section
	for _, name := range []string{"linux", "osrel", "cmdline", "initrd", "ucode", "splash", "dtb", "uname", "sbat", "pcrpkey"} {
		if strings.Contains(help, "--"+name) {
			content := []byte("the section " + name)
			sections = append(sections, tpmtest.Section{Name: "." + name, Content: content})
			args = append(args, "--"+name+"="+file(t, content))
		}
	}
	slices.Reverse(sections) // their order in the file does not matter
	want := tool(t, measure, args...)
	got, err := tpm.PredictUKI(tpmtest.Open(t, tpmtest.PE(sections...)), tpm.UntilUnlock())
	if err != nil || !strings.Contains(want, "11:sha256="+got.String()) {
		t.Errorf("predicted %s, %v; systemd-measure says %s", got, err, want)
	}
}

func TestPesignHashesTheSame(t *testing.T) {
	t.Parallel()
	plain := file(t, tpmtest.UKI("a"))
	for name, path := range map[string]string{"plain": plain, "signed": signed(t, plain, newKey(t, "one"))} {
		want := tool(t, "pesign", "--hash", "--in="+path)
		got, err := program(t, path).Measured()
		if err != nil || !strings.Contains(want, got.String()) {
			t.Errorf("%s: measured %s, %v; pesign says %s", name, got, err, want)
		}
	}
}

func program(t *testing.T, path string) *tpm.Program {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return tpmtest.Open(t, content)
}

// newKey returns the path, without its extension, of a new key and its certificate.
func newKey(t *testing.T, name string) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), name)
	tool(t, "openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN="+name, "-keyout", at+".key", "-out", at+".crt", "-days", "9")
	return at
}

func signed(t *testing.T, path, key string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "signed")
	tool(t, "sbsign", "--key", key+".key", "--cert", key+".crt", "--output", out, path)
	return out
}

func TestThePolicyRegisterDependsOnTheSigner(t *testing.T) {
	t.Parallel()
	one, two := newKey(t, "one"), newKey(t, "two")
	loader := file(t, tpmtest.Loader("1"))
	boot := func(key, uki string) tpm.Boot {
		return tpm.Boot{Loader: program(t, signed(t, loader, one)), UKI: program(t, signed(t, file(t, tpmtest.UKI(uki)), key))}
	}
	old := boot(one, "a")
	unchecked := tpm.Log{}
	checked := tpm.Log{Events: []tpm.Event{{Register: 7, Type: 0x800000e0, Digest: sha256.Sum256([]byte("db"))}}}
	for _, c := range []struct {
		log  tpm.Log
		next tpm.Boot
		want errkind.Kind
	}{
		{unchecked, boot(two, "b"), ""}, {checked, boot(one, "b"), ""}, {checked, boot(two, "b"), errkind.Unsupported},
		{checked, tpmtest.NewBoot(t, "1", "b"), errkind.Unsupported},
	} {
		if err := c.log.CheckPolicy(old, c.next); err != nil && errkind.Of(err) != c.want || (err == nil) != (c.want == "") {
			t.Errorf("%d events: got %v, want %s", len(c.log.Events), err, c.want)
		}
	}
}

func TestLogsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	var chip tpmtest.Chip
	if err := chip.Boot(tpmtest.NewBoot(t, "1", "a")); err != nil {
		t.Fatal(err)
	}
	want, _ := chip.Log(t.Context())
	firmware, err := tpm.ParseFirmwareLog(bytes.NewReader(tpmtest.FirmwareLog(want)))
	if err != nil {
		t.Fatal(err)
	}
	system, err := tpm.ParseSystemLog(bytes.NewReader(tpmtest.SystemLog(want)))
	if err != nil {
		t.Fatal(err)
	}
	got := tpm.Log{Events: append(firmware.Events, system.Events...)}
	if a, b := fmt.Sprint(got.Replay()), fmt.Sprint(want.Replay()); a != b || len(got.Events) != len(want.Events) {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	if _, err := tpm.ParseFirmwareLog(strings.NewReader("no log")); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("not a log: %v", err)
	}
	torn := tpmtest.FirmwareLog(want)
	if _, err := tpm.ParseFirmwareLog(bytes.NewReader(torn[:len(torn)-1])); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("a torn log: %v", err)
	}
}

func FuzzParseFirmwareLog(f *testing.F) {
	f.Add(tpmtest.FirmwareLog(tpm.Log{Events: []tpm.Event{{Register: 4, Type: 4, Data: []byte("x")}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := tpm.ParseFirmwareLog(bytes.NewReader(data)); err == nil {
			l.Replay()
		}
	})
}

func FuzzParseSystemLog(f *testing.F) {
	f.Add(tpmtest.SystemLog(tpm.Log{Events: []tpm.Event{{Register: 11, Phase: "ready"}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := tpm.ParseSystemLog(bytes.NewReader(data)); err == nil {
			l.Replay()
		}
	})
}

func FuzzProgram(f *testing.F) {
	f.Add(tpmtest.UKI("a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := tpm.OpenProgram(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		_, _ = p.Measured()
		_, _ = tpm.PredictUKI(p, nil)
		_ = tpm.Log{Events: []tpm.Event{{Register: 7, Type: 0x800000e0}}}.CheckPolicy(tpm.Boot{Loader: p, UKI: p}, tpm.Boot{Loader: p, UKI: p})
		_, _ = (tpm.Log{}).PredictLoader(tpm.Boot{Loader: p, UKI: p}, tpm.Boot{Loader: p, UKI: p})
	})
}
