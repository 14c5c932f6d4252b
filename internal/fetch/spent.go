package fetch

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// OpenMeter returns a meter for the fetches into the file part, and for allowed bytes in all;
// 0 means no limit. It remembers the used bytes in the file part + ".spent", so that the limit
// counts over restarts: after a power cut the meter may count a sixteenth of allowed, at most
// 1 MiB, that was never used, and never misses a byte. Without a limit it remembers nothing.
// The caller closes the meter. [Remove] removes the file.
func OpenMeter(part string, allowed int64) (*Meter, error) {
	m := NewMeter(0, allowed, 0)
	if m.allowed == 0 {
		return m, nil
	}
	m.file = part + ".spent"
	text, err := regfile.ReadFile(m.file, 64)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		m.used, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	}
	if err != nil || m.used < 0 {
		err = errkind.Errorf(errkind.Precondition, "read how many bytes an interrupted fetch has received: %s is not a number: %w", m.file, err)
		return nil, errkind.WithHint(err, "Begin the fetch again with a new operation.")
	}
	m.kept = m.used
	return m, nil
}

// keep makes the file say at least used bytes. The caller holds m.mu.
func (m *Meter) keep(used int64) error {
	if m.file == "" || used <= m.kept {
		return nil
	}
	return m.write(max(used, min(used+min(m.allowed/16, 1<<20), m.allowed)))
}

func (m *Meter) write(used int64) error {
	if err := atomicfile.Write(m.file, []byte(strconv.FormatInt(used, 10)+"\n"), 0o600); err != nil {
		return fmt.Errorf("record the received bytes: %w", err)
	}
	m.kept = used
	return nil
}

// Close makes the file of m exact.
func (m *Meter) Close() error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == "" || m.kept == m.used {
		return nil
	}
	return m.write(m.used)
}

// Left returns how many bytes m still allows; false if it has no limit.
func (m *Meter) Left() (int64, bool) {
	if m == nil || m.allowed == 0 {
		return 0, false
	}
	return max(0, m.allowed-m.Used()), true
}
