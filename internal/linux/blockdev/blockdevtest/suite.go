package blockdevtest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// Suite tests what every Device does. open returns a new Device of 8 MiB of zeros.
func Suite(t *testing.T, open func(t *testing.T) blockdev.Device) {
	const size = 8 << 20
	t.Run("it is as large as it is", func(t *testing.T) {
		d := open(t)
		if d.Size() != size || d.SectorSize() < 512 || size%d.SectorSize() != 0 {
			t.Errorf("size %d, sectors of %d", d.Size(), d.SectorSize())
		}
	})
	t.Run("what is written is read, and nothing else changes", func(t *testing.T) {
		d := open(t)
		data := bytes.Repeat([]byte("not a whole sector "), 777)
		write(t, d, data, 12345)
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(data)+200)
		if _, err := d.ReadAt(got, 12345-100); err != nil {
			t.Fatal(err)
		}
		if want := append(append(make([]byte, 100), data...), make([]byte, 100)...); !bytes.Equal(got, want) {
			t.Error("something else is there")
		}
	})
	t.Run("it ends where it ends", func(t *testing.T) {
		d := open(t)
		write(t, d, []byte("end"), size-3)
		if _, err := d.WriteAt([]byte("beyond"), size-3); err == nil {
			t.Error("what lies behind the end was written")
		}
		if _, err := d.WriteAt([]byte("x"), -1); err == nil {
			t.Error("what lies in front of the start was written")
		}
		got := make([]byte, 6)
		if n, err := d.ReadAt(got, size-3); n != 3 || !errors.Is(err, io.EOF) || string(got[:3]) != "end" {
			t.Errorf("read %d bytes %q, %v", n, got, err)
		}
	})
	t.Run("discarding leaves the rest", func(t *testing.T) {
		d := open(t)
		write(t, d, bytes.Repeat([]byte{'x'}, 3<<20), 0)
		if err := d.Discard(1<<20, 1<<20); err != nil {
			t.Fatal(err)
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{0, 1<<20 - 1, 2 << 20, 3<<20 - 1} {
			if got := make([]byte, 1); read(t, d, got, at) != "x" {
				t.Errorf("byte %d is %q", at, got)
			}
		}
	})
	t.Run("a table that was written is read, and taken up", func(t *testing.T) {
		d := open(t)
		table := &gpt.Disk{ID: gpt.GUID{1}, Size: size, SectorSize: d.SectorSize(), Entries: []gpt.Entry{
			{Number: 1, Type: gpt.GUID{2}, ID: gpt.GUID{3}, Offset: 1 << 20, Size: 1 << 20, Name: "one"},
			{Number: 3, Type: gpt.GUID{2}, ID: gpt.GUID{4}, Offset: 4 << 20, Size: 1 << 20, Name: "three"},
		}}
		for range 2 {
			if err := table.Write(d, func(_ string, change func() error) error { return change() }); err != nil {
				t.Fatal(err)
			}
			if err := table.Written(d); err != nil {
				t.Fatal(err)
			}
			if err := d.Reread(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func write(t *testing.T, d blockdev.Device, data []byte, at int64) {
	t.Helper()
	if n, err := d.WriteAt(data, at); n != len(data) || err != nil {
		t.Fatalf("wrote %d bytes of %d: %v", n, len(data), err)
	}
}

func read(t *testing.T, d blockdev.Device, p []byte, at int64) string {
	t.Helper()
	if _, err := d.ReadAt(p, at); err != nil {
		t.Fatal(err)
	}
	return string(p)
}
