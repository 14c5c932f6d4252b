package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// A File is the content of hosts.yaml.
type File struct {
	path  string
	hosts map[string]Host
}

// DefaultPath returns the path of the file: $XDG_CONFIG_HOME/trident/hosts.yaml, and without
// that variable ~/.config/trident/hosts.yaml (XDG Base Directory Specification).
func DefaultPath() (string, error) {
	folder := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(folder) { // the specification has relative paths ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", errkind.WithHint(errkind.With(errkind.Precondition, fmt.Errorf("find hosts.yaml: %w", err)), "Set HOME or XDG_CONFIG_HOME.")
		}
		folder = filepath.Join(home, ".config")
	}
	return filepath.Join(folder, "trident", "hosts.yaml"), nil
}

// Path returns the path of the file.
func (f *File) Path() string { return f.path }

func (f *File) folder() string { return filepath.Dir(f.path) }

// Load reads the file at path. A file that does not exist has no hosts. The error names the
// path and the line, and is of kind Denied for a file that others can write.
func Load(path string) (*File, error) {
	f, _, err := load(path)
	return f, err
}

func load(path string) (*File, *yaml.Node, error) {
	f := &File{path: path, hosts: map[string]Host{}}
	text, err := readTrusted(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, emptyDocument(), nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read hosts: %w", err)
	}
	hosts, doc, err := parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("read hosts: %s: %w", path, err)
	}
	f.hosts = hosts
	return f, doc, nil
}

// readTrusted reads a file that nobody but its owner, who is this user or root, can write.
func readTrusted(path string) ([]byte, error) {
	return readOwn(path, maxFile, 0o022, "others can write it", "chmod go-w")
}

// readSecret reads a file that nobody but its owner can read.
func readSecret(path string, limit int64) ([]byte, error) {
	return readOwn(path, limit, 0o077, "others can read it", "chmod go=")
}

// readOwn reads a regular file of at most limit bytes. A file with one of the permissions
// forbidden, and one of another user, is of kind Denied.
func readOwn(path string, limit int64, forbidden fs.FileMode, why, remedy string) ([]byte, error) {
	f, err := regfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch mode := fs.FileMode(st.Mode).Perm(); {
	case mode&forbidden != 0:
		return nil, errkind.WithHint(errkind.Errorf(errkind.Denied, "%s has the mode %#o: %s", path, mode, why), "Take these rights away: %s %s", remedy, path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, errkind.Errorf(errkind.Denied, "%s belongs to user ID %d, and not to the user ID %d of this process or to root", path, st.Uid, os.Geteuid())
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = errkind.Errorf(errkind.TooLarge, "%s has more than %d bytes", path, limit)
	}
	return text, err
}

// Add adds a host to the file at path, which it makes if there is none. A name that the file
// has is of kind Exists.
func Add(path, name string, h Host) error {
	return change(path, "add host "+name, func(f *File, list *yaml.Node) error {
		if !isHostName(name) {
			return errkind.Errorf(errkind.Invalid, "%q is not the name of a host: use letters, digits, dots, hyphens and underscores", name)
		}
		if _, ok := f.hosts[name]; ok {
			return errkind.WithHint(errkind.Errorf(errkind.Exists, "%s has the host already", path), "Remove it first: trident hosts remove %s", name)
		}
		if err := h.check(); err != nil {
			return err
		}
		addTo(list, name, h)
		return nil
	})
}

// addTo adds a host to a mapping of hosts.
func addTo(list *yaml.Node, name string, h Host) {
	list.Style = 0 // an empty one may be written as {}
	list.Content = append(list.Content, scalar(name), h.node())
}

// Remove removes hosts from the file at path. A name that the file does not have is of kind
// NotFound, and no host is removed.
func Remove(path string, names ...string) error {
	return change(path, "remove hosts", func(f *File, list *yaml.Node) error {
		for _, name := range names {
			if IsEndpoint(name) {
				return f.unknown(name)
			}
			if _, err := f.target(name); err != nil {
				return err
			}
		}
		for i := len(list.Content) - 2; i >= 0; i -= 2 {
			if slices.Contains(names, list.Content[i].Value) {
				list.Content = slices.Delete(list.Content, i, i+2)
			}
		}
		return nil
	})
}

// change replaces the file by what edit makes of its mapping of hosts. Comments stay. Another
// process that changes the file waits.
func change(path, doing string, edit func(*File, *yaml.Node) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", doing, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", folder.Name(), err)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link stays one
	}
	f, doc, err := load(path)
	if err != nil {
		return err
	}
	if err := edit(f, listOf(doc)); err != nil {
		return err
	}
	text, err := textOf(doc)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, text, 0o600)
}

// textOf returns the text of a document, which parse accepts.
func textOf(doc *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(doc), enc.Close()); err != nil {
		return nil, err
	}
	if _, _, err := parse(out.Bytes()); err != nil {
		return nil, fmt.Errorf("the changed file would be wrong: %w", err)
	}
	return out.Bytes(), nil
}

// listOf returns the mapping of hosts in a document that parse has read.
func listOf(doc *yaml.Node) *yaml.Node {
	root := doc.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "hosts" {
			if list := root.Content[i+1]; !isNull(list) {
				return list
			}
			root.Content[i+1] = &yaml.Node{Kind: yaml.MappingNode}
			return root.Content[i+1]
		}
	}
	list := &yaml.Node{Kind: yaml.MappingNode}
	root.Content = append(root.Content, scalar("hosts"), list)
	return list
}

// node returns the entry of a host.
func (h Host) node() *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	add := func(key string, value *yaml.Node) { n.Content = append(n.Content, scalar(key), value) }
	list := func(key string, words []string) {
		if len(words) == 0 {
			return
		}
		value := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, word := range words {
			value.Content = append(value.Content, scalar(word))
		}
		add(key, value)
	}
	list("endpoints", h.Endpoints)
	for _, f := range [][2]string{{"certificate", h.Certificate}, {"key", h.Key}, {"ca", h.CA}, {"serverName", h.ServerName}, {"tokenFile", h.TokenFile}} {
		if f[1] != "" {
			add(f[0], scalar(f[1]))
		}
	}
	list("sshCommand", h.SSHCommand)
	list("remoteCommand", h.RemoteCommand)
	if len(h.Labels) > 0 {
		value := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		for _, name := range slices.Sorted(maps.Keys(h.Labels)) {
			value.Content = append(value.Content, scalar(name), scalar(h.Labels[name]))
		}
		add("labels", value)
	}
	return n
}
