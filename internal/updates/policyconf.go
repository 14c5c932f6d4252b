package updates

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/when"
)

const (
	// confFile is the policy that the builder of an image, or a person, has written.
	confFile = "etc/trident/update.conf"
	maxConf  = 64 << 10
	// maxConfDepth is deeper than any file without a fault.
	maxConfDepth = 16
)

// ReadConf reads /etc/trident/update.conf of the host below root. It returns the policy, and
// the names of the fields that the file sets, sorted. Without the file both are empty. A file
// that is not valid is an error of kind Invalid that names the file, the line and the key.
func ReadConf(root string) (Policy, []string, error) {
	text, err := inroot.FS(root).ReadFile(confFile, maxConf)
	if errors.Is(err, fs.ErrNotExist) {
		return Policy{}, nil, nil
	}
	if err != nil {
		return Policy{}, nil, fmt.Errorf("read the update policy: %w", err)
	}
	p, set, err := parseConf(text)
	if err != nil {
		err = errkind.Errorf(errkind.Invalid, "read the update policy: /%s: %w", confFile, err)
		return Policy{}, nil, errkind.WithHint(err, "Correct the file; trident(1) and docs/self-servicing.md have its settings.")
	}
	return p, set, nil
}

// Merge returns conf with the fields of stored that storedSet names.
func Merge(conf, stored Policy, storedSet []string) Policy {
	for _, name := range storedSet {
		switch name {
		case "feed":
			conf.Feed = stored.Feed
		case "channel":
			conf.Channel = stored.Channel
		case "auto":
			conf.Auto = stored.Auto
		case "hold":
			conf.Hold = stored.Hold
		case "pin":
			conf.Pin = stored.Pin
		case "window":
			conf.Window = stored.Window
		case "maxBytes":
			conf.MaxBytes = stored.MaxBytes
		case "grace":
			conf.Grace = stored.Grace
		case "allowReadOnlyUsr":
			conf.AllowReadOnlyUsr = stored.AllowReadOnlyUsr
		}
	}
	return conf
}

// parseConf parses the text of the file, and checks the policy.
func parseConf(text []byte) (p Policy, set []string, err error) {
	if !utf8.Valid(text) {
		return p, nil, errors.New("the text is not UTF-8")
	}
	loader, err := yaml.NewLoader(bytes.NewReader(text), yaml.WithV4Defaults(), yaml.WithUniqueKeys(false),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxConfDepth))))
	if err != nil {
		return p, nil, err
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return p, nil, nil
	} else if err != nil {
		return p, nil, fmt.Errorf("the text is not YAML: %w", err)
	}
	if err := loader.Load(&second); err == nil {
		return p, nil, fmt.Errorf("line %d: a second document begins, and the file must have one", second.Line)
	} else if !errors.Is(err, io.EOF) {
		return p, nil, fmt.Errorf("the text is not YAML: %w", err)
	}
	if len(doc.Content) != 1 {
		return p, nil, nil // only comments
	}
	top := node{Node: doc.Content[0]}
	if top.isNull() {
		return p, nil, nil
	}
	err = top.keys(func(key string, value node) error {
		set = append(set, key)
		return p.setConf(key, value)
	})
	if err != nil {
		return Policy{}, nil, err
	}
	slices.Sort(set)
	return p, set, nil
}

// setConf sets the field key, and checks it.
func (p *Policy) setConf(key string, value node) (err error) {
	switch key {
	case "feed":
		p.Feed, err = value.text()
	case "channel":
		p.Channel, err = value.text()
	case "auto":
		var auto string
		auto, err = value.text()
		p.Auto = Auto(auto)
	case "hold":
		p.Hold, err = value.hold()
	case "pin":
		p.Pin, err = value.text()
	case "window":
		p.Window, err = value.window()
	case "maxBytes":
		p.MaxBytes, err = valueOf(value, bytesize.Parse)
	case "grace":
		p.Grace, err = valueOf(value, when.ParseSpan)
	case "allowReadOnlyUsr":
		p.AllowReadOnlyUsr, err = valueOf(value, parseBool)
	default:
		err = value.fault("is not a setting: feed, channel, auto, hold, pin, window, maxBytes, grace, allowReadOnlyUsr")
	}
	if err != nil {
		return err
	}
	if _, err := p.firstFault(); err != nil {
		err = value.fault("%w", err)
		return err
	}
	return nil
}
