package updates

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/settingsfile"
	"github.com/trident-project/trident/internal/when"
)

const (
	// confFile is the policy that the builder of an image, or a person, has written.
	confFile = "etc/trident/update.conf"
	maxConf  = 64 << 10
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
		err = fmt.Errorf("read the update policy: /%s: %w", confFile, err)
		if errkind.Hint(err) == "" {
			err = errkind.WithHint(err, "Correct the file; trident(1) and docs/self-servicing.md have its settings.")
		}
		return Policy{}, nil, err
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
	doc, err := settingsfile.Parse(text, settingsfile.Format{MaxBytes: maxConf})
	if err != nil {
		return p, nil, err
	}
	keys := p.keys()
	for name, read := range keys {
		keys[name] = func(v settingsfile.Value) error {
			if err := read(v); err != nil {
				return err
			}
			if _, err := p.firstFault(); err != nil {
				return v.Errorf("%w", err)
			}
			set = append(set, name)
			return nil
		}
	}
	if err := doc.Read(keys); err != nil {
		return Policy{}, nil, err
	}
	slices.Sort(set)
	return p, set, nil
}

// keys returns what reads each setting of the file into p.
func (p *Policy) keys() settingsfile.Keys {
	return settingsfile.Keys{
		"feed":             settingsfile.Text(&p.Feed),
		"channel":          settingsfile.Text(&p.Channel),
		"auto":             settingsfile.Text(&p.Auto),
		"hold":             readHold(&p.Hold),
		"pin":              settingsfile.Text(&p.Pin),
		"window":           readWindow(&p.Window),
		"maxBytes":         settingsfile.Parsed(&p.MaxBytes, bytesize.Parse),
		"grace":            settingsfile.Parsed(&p.Grace, when.ParseSpan),
		"allowReadOnlyUsr": settingsfile.Bool(&p.AllowReadOnlyUsr),
	}
}
