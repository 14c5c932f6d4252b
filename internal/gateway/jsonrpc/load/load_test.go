package load

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestTheLoadIsThatOfTheKernel(t *testing.T) {
	c, err := Now(time.Now())
	if err != nil || c.Processors < 1 || c.Threads < 1 || c.UptimeSeconds < 1 || c.Load1 < 0 || c.Load1 > 1e5 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestADayOfSamplesSurvivesARestart(t *testing.T) {
	path, begin := filepath.Join(t.TempDir(), "load"), time.Unix(1_800_000_000, 0).UTC()
	h, err := Open(path, begin, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	now := begin
	for i := range 2 * Kept {
		now = begin.Add(time.Duration(i) * Every)
		if err := h.Add(Minute{Sample{now, float64(i), 0.25, 12.34}, int64(i), 1 << 40}); err != nil {
			t.Fatal(err)
		}
	}
	got := h.Since(time.Time{}, now)
	if len(got) != Kept || got[0].Load1 != Kept || got[Kept-1] != (Minute{Sample{now, 2*Kept - 1, 0.25, 12.34}, 2*Kept - 1, 1 << 40}) {
		t.Errorf("%d samples, %+v to %+v", len(got), got[0], got[len(got)-1])
	}
	h.close()
	again, err := Open(path, now, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Since(now.Add(-2*Every), now); len(got) != 3 || got[2] != (Minute{Sample{now, 2*Kept - 1, 0.25, 12.34}, 2*Kept - 1, 1 << 40}) {
		t.Errorf("after a restart: %+v", got)
	}
	if info, _ := os.Stat(path); info.Size() != Kept*record {
		t.Errorf("the file has %d bytes", info.Size())
	}
	if got := again.Since(time.Time{}, now.Add(12*time.Hour)); len(got) != Kept/2 {
		t.Errorf("after 12 hours without a sample there are %d", len(got))
	}
	again.close()
}

func TestAForeignFileHasNoSamples(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "load")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xff}, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := Open(path, time.Now(), slog.Default())
	if err != nil || len(h.Since(time.Time{}, time.Now())) != 0 {
		t.Errorf("%v", err)
	}
	future := Minute{Sample: Sample{Time: time.Now().Add(time.Hour)}}
	if _, err := h.file.WriteAt(encode(future), 0); err != nil {
		t.Fatal(err)
	}
	if h, err = Open(path, time.Now(), slog.Default()); err != nil || len(h.Since(time.Time{}, time.Now().Add(2*time.Hour))) != 0 {
		t.Errorf("a sample of the future: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "link", "none/load"} {
		if _, err := Open(filepath.Join(dir, name), time.Now(), slog.Default()); err == nil {
			t.Errorf("%s is opened", name)
		}
	}
}

func TestFollowersGetNewSamplesUntilTheyEnd(t *testing.T) {
	h, err := Open("", time.Now(), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	c, end := h.Follow()
	for i := range 3 { // the follower does not take them: no wait
		if err := h.Add(Minute{Sample: Sample{Time: time.Unix(int64(60*i), 0)}}); err != nil {
			t.Fatal(err)
		}
	}
	if s := <-c; s.Time.Unix() != 0 {
		t.Errorf("%+v", s)
	}
	end()
	_ = h.Add(Minute{})
	if len(c) != 0 || len(h.told) != 0 {
		t.Error("a follower that has ended gets a sample")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(Minute{Sample{time.Unix(1_800_000_000, 0), 1, 2, 3}, 4, 5}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) != record {
			return
		}
		if s, ok := decode(data); ok && (s.Load1 < 0 || s.DiskRead < 0 || s.DiskWritten < 0) {
			t.Errorf("%+v", s)
		}
	})
}
