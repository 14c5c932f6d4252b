// Package audit writes the audit log of the gateway: one line of JSON for each call, in a
// file that is only appended to, and replaced by a new one when it is full.
//
// A line says who called what, when, from where and with which result. It never has the
// content of a message, or a credential.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
)

// An Entry is one call, or one connection that was refused. Other programs read it: add
// fields, never rename, remove or retype one.
type Entry struct {
	Time     time.Time `json:"time"`               // when the call began
	Peer     string    `json:"peer"`               // address and port
	Identity string    `json:"identity,omitempty"` // empty if the caller did not log in
	By       string    `json:"by,omitempty"`       // how it logged in: certificate, token or passphrase
	Serial   string    `json:"serial,omitempty"`   // of the certificate
	Method   string    `json:"method,omitempty"`   // only a method of Trident
	RPC      string    `json:"rpc,omitempty"`      // the method of JSON-RPC that made the call
	Right    string    `json:"right,omitempty"`    // which the method needs
	Result   string    `json:"result"`             // the gRPC code
	Reason   string    `json:"reason,omitempty"`   // why the gateway refused it
	Seconds  float64   `json:"seconds"`            // how long the call took
}

// A Log is an open audit log. Its methods may be called concurrently.
type Log struct {
	path    string
	maxSize int64
	keep    int

	mu   sync.Mutex
	file *os.File
	size int64
}

// Open opens the log at path, to which it appends. The log keeps so many older files of
// maxSize bytes, named path.1 (the newest) and so on.
func Open(path string, maxSize int64, keep int) (*Log, error) {
	l := &Log{path: path, maxSize: maxSize, keep: keep}
	if err := l.open(); err != nil {
		return nil, errkind.WithHint(fmt.Errorf("open the audit log: %w", err), "make the folder %s, owned by the user of the gateway", filepath.Dir(path))
	}
	return l, nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", l.path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write appends an entry. After an error the entry is not in the log, or only a part of it
// is, in a line of its own.
func (l *Log) Write(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	line = append(line, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(line)) > l.maxSize {
		if err := l.rotate(); err != nil {
			return fmt.Errorf("replace the full audit log: %w", err)
		}
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	if err != nil {
		if n > 0 {
			_, _ = l.file.Write([]byte{'\n'})
		}
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// rotate renames the files, path.1 to path.2 and so on, and opens a new one. The caller
// holds l.mu. If it fails, l goes on with the open file.
func (l *Log) rotate() error {
	for i := l.keep - 1; i >= 0; i-- {
		from := l.path
		if i > 0 {
			from += "." + strconv.Itoa(i)
		}
		if err := os.Rename(from, l.path+"."+strconv.Itoa(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	old := l.file
	if err := l.open(); err != nil {
		return err
	}
	return old.Close()
}

// Close closes the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
