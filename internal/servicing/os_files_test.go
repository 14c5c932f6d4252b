package servicing

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/trident-project/trident/internal/hosttest"
)

// playScript plays a script: it fails if its text says so.
func playScript(root, wrapper string) error {
	text, err := os.ReadFile(filepath.Join(root, wrapper))
	if err != nil {
		return err
	}
	file, status, inside := "", "", ""
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		for i, word := range words {
			words[i] = strings.Trim(word, "'")
		}
		switch {
		case words[0] == "chroot":
			inside, file = words[1], words[3]
		case words[0] == "/bin/sh":
			file = words[1]
		case words[0] == "echo":
			status = words[len(words)-1]
		}
	}
	body, err := os.ReadFile(filepath.Join(root, inside, file))
	if err != nil {
		return err
	}
	code := "0\n"
	switch {
	case strings.Contains(string(body), "hang"):
		return nil
	case strings.HasPrefix(string(body), "exec '/usr/sbin/setfiles' "):
		tool, err := os.ReadFile(filepath.Join(root, inside, "usr/sbin/setfiles"))
		if err := errors.Join(err, os.WriteFile(filepath.Join(root, inside, "etc/labelled"), body, 0o600)); err != nil {
			return err
		}
		body = tool
	}
	if strings.Contains(string(body), "fail") {
		code = "3\n"
	}
	return os.WriteFile(filepath.Join(root, status), []byte(code), 0o644)
}

// fileSystem is an empty one, or one that has files, as the tests have them.
func fileSystem(typ, id string, files fstest.MapFS) []byte {
	head := make([]byte, headSize)
	raw := bytes.Repeat([]byte{0}, 16)
	_, _ = fmt.Sscanf(strings.ReplaceAll(id, "-", ""), "%x", &raw)
	switch typ {
	case "vfat":
		slices.Reverse(raw)
		copy(head[82:], "FAT32   ")
		copy(head[67:], raw)
		copy(head[71:], "NO NAME    ")
		head[510], head[511] = 0x55, 0xaa
	default:
		binary.LittleEndian.PutUint16(head[1024+56:], 0xef53)
		binary.LittleEndian.PutUint32(head[1024+96:], 0x40)
		copy(head[1024+104:], raw)
	}
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	if files != nil {
		if err := t.AddFS(files); err != nil {
			panic(err)
		}
	}
	if err := t.Close(); err != nil {
		panic(err)
	}
	return append(append(head, binary.LittleEndian.AppendUint64(nil, uint64(b.Len()))...), b.Bytes()...)
}

func tarOf(dir string, leave []string) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, file)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if slices.Contains(leave, rel) {
			h, err := tar.FileInfoHeader(info, "")
			if err != nil {
				return err
			}
			h.Name = rel + "/"
			if err := t.WriteHeader(h); err != nil {
				return err
			}
			return fs.SkipDir
		}
		target := ""
		if d.Type() == fs.ModeSymlink {
			if target, err = os.Readlink(file); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		h.Name = rel
		if err := t.WriteHeader(h); err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		_, err = t.Write(data)
		return err
	})
	return b.Bytes(), errors.Join(err, t.Close())
}

func untar(r io.Reader, dir string) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at := filepath.Join(dir, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = hosttest.MkdirAll(at)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, at)
		default:
			var data []byte
			data, err = io.ReadAll(t)
			err = errors.Join(err, hosttest.MkdirAll(filepath.Dir(at)), os.WriteFile(at, data, fs.FileMode(h.Mode).Perm()|0o200))
		}
		if err != nil {
			return err
		}
	}
}
