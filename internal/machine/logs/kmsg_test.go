package logs

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// packets returns a pipe of which each read returns what one write has written, as those of
// /dev/kmsg do.
func packets(t *testing.T, records ...string) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_DIRECT|unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
	for _, text := range records {
		if _, err := w.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	return r, w
}

func sequences(records []Record) (out []uint64) {
	for _, r := range records {
		out = append(out, r.Sequence)
	}
	return out
}

func TestARecordOfTheKernelIsRead(t *testing.T) {
	r, _ := packets(t, "30,339,5140900,-;NET: Registered \\xc3\\xa4 \\xff protocol\n SUBSYSTEM=net\n DEVICE=n1\n", "6,340,5140901,c,future;b\n", "garbage", "x,1,1,-;bad\n")
	var got []Record
	if err := sendRecords(t.Context(), r, KernelQuery{}, func(b []Record) error { got = append(got, b...); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("%+v", got)
	}
	a := got[0]
	if a.Sequence != 339 || a.Priority != 6 || a.Facility != 3 || a.SinceBoot != 5140900*time.Microsecond || a.Message != `NET: Registered \xc3\xa4 \xff protocol` || a.Lost {
		t.Errorf("%+v", a)
	}
	if got := unescape([]byte(`\xc3\xa4 \x41 \x4`)); got != `ä A \x4` {
		t.Errorf("%q", got)
	}
}

func TestTheTailAndTheRestOfTheKernelsLog(t *testing.T) {
	records := []string{"6,5,1,-;a\n", "6,6,2,-;b\n", "6,7,3,-;c\n"}
	six, three, ninety := uint64(6), uint64(3), uint64(90)
	for _, c := range []struct {
		q    KernelQuery
		want []uint64
		lost bool
		kind errkind.Kind
	}{
		{KernelQuery{Tail: 2}, []uint64{6, 7}, false, ""},
		{KernelQuery{Tail: 9}, []uint64{5, 6, 7}, false, ""},
		{KernelQuery{After: &six}, []uint64{7}, false, ""},
		{KernelQuery{After: &three}, []uint64{5, 6, 7}, true, ""},
		{KernelQuery{After: &ninety}, nil, false, errkind.Precondition},
	} {
		r, _ := packets(t, records...)
		var got []Record
		err := sendRecords(t.Context(), r, c.q, func(b []Record) error { got = append(got, b...); return nil })
		if c.kind != "" {
			if errkind.Of(err) != c.kind {
				t.Errorf("%+v: %v", c.q, err)
			}
			continue
		}
		if err != nil || len(got) != len(c.want) || got[0].Sequence != c.want[0] || got[0].Lost != c.lost {
			t.Errorf("%+v: %v, %v", c.q, sequences(got), err)
		}
	}
	s := &Service{Root: "/"}
	for _, q := range []KernelQuery{{Tail: -1}, {Tail: maxTail + 1}, {Tail: 1, After: &six}} {
		if err := s.Kernel(t.Context(), q, nil); errkind.Of(err) != errkind.Invalid {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if err := (&Service{Root: t.TempDir()}).Kernel(t.Context(), KernelQuery{}, nil); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("without the device: %v", err)
	}
}

func TestTheKernelsLogIsFollowedUntilTheCallEnds(t *testing.T) {
	r, w := packets(t, "6,1,1,-;a\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })()
	got, done := make(chan string), make(chan error, 1)
	go func() {
		done <- sendRecords(ctx, r, KernelQuery{Follow: true, Tail: 5}, func(b []Record) error {
			for _, one := range b {
				got <- one.Message
			}
			return nil
		})
	}()
	for _, want := range []string{"a", "b", "c"} {
		if text := <-got; text != want {
			t.Errorf("%q, want %q", text, want)
		}
		if want != "c" {
			if _, err := w.WriteString("6," + map[string]string{"a": "2", "b": "3"}[want] + ",1,-;" + map[string]string{"a": "b", "b": "c"}[want] + "\n"); err != nil {
				t.Fatal(err)
			}
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestTheLogOfThisKernel(t *testing.T) {
	count := 0
	err := (&Service{Root: "/"}).Kernel(t.Context(), KernelQuery{Tail: 3}, func(b []Record) error { count += len(b); return nil })
	if errors.Is(err, os.ErrPermission) || errkind.Of(err) == errkind.Unsupported {
		t.Skipf("this machine does not show it: %v", err)
	}
	if err != nil || count > 3 {
		t.Errorf("%d records, %v", count, err)
	}
}

func FuzzARecordOfTheKernel(f *testing.F) {
	for _, text := range []string{"6,1,1,-;a\n", "30,339,5140900,-;x\\x0a\n A=b\n", ";", "1,2,3", "99999,1,1;\\x", "6,1,-1,-;a"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRecord(text, time.Now())
		if err == nil && (r.Priority < 0 || r.Priority > 7 || r.SinceBoot < 0 || strings.Contains(r.Message, "\n") && !strings.Contains(string(text), `\x0`)) {
			t.Errorf("%+v", r)
		}
	})
}
