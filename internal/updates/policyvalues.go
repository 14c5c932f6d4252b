package updates

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/when"
)

// A node is a value of the file, and its path of keys.
type node struct {
	*yaml.Node
	path string
}

// fault is an error with the place of n.
func (n node) fault(format string, args ...any) error {
	if n.path == "" {
		return fmt.Errorf("line %d: %w", n.Line, fmt.Errorf(format, args...))
	}
	return fmt.Errorf("line %d: %s: %w", n.Line, n.path, fmt.Errorf(format, args...))
}

// isNull reports whether n has no value.
func (n node) isNull() bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// keys calls do with each key of a mapping and its value. It fails for a node of another
// kind, an alias, a key without a value and a key that is there twice.
func (n node) keys(do func(key string, value node) error) error {
	if n.Kind != yaml.MappingNode {
		return n.fault("is not a mapping of keys to values")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := node{n.Content[i], n.path}, node{n.Content[i+1], strings.TrimPrefix(n.path+"."+n.Content[i].Value, ".")}
		switch {
		case key.Kind != yaml.ScalarNode:
			return key.fault("a key is not a text")
		case seen[key.Value]:
			return key.fault("the key %.80q is there twice", key.Value)
		case value.Kind == yaml.AliasNode:
			return value.fault("is an alias, which this file must not have")
		case value.isNull():
			return value.fault("has no value")
		}
		seen[key.Value] = true
		if err := do(key.Value, value); err != nil {
			return err
		}
	}
	return nil
}

// text returns the text of a scalar, as it is in the file: 02:00 without quotes is not a number.
func (n node) text() (string, error) {
	if n.Kind != yaml.ScalarNode {
		return "", n.fault("is not a text or a number")
	}
	return n.Value, nil
}

// valueOf returns what parse makes of the text of n.
func valueOf[T any](n node, parse func(string) (T, error)) (out T, err error) {
	text, err := n.text()
	if err != nil {
		return out, err
	}
	if out, err = parse(text); err != nil {
		return out, n.fault("%w", err)
	}
	return out, nil
}

// hold returns the hold of: forever, a time, or a mapping with until and reason.
func (n node) hold() (*Hold, error) {
	var hold Hold
	var err error
	if n.Kind != yaml.MappingNode {
		hold.Until, err = valueOf(n, parseUntil)
		return &hold, err
	}
	err = n.keys(func(key string, value node) (err error) {
		switch key {
		case "until":
			hold.Until, err = valueOf(value, parseUntil)
		case "reason":
			hold.Reason, err = value.text()
		default:
			err = value.fault("is not a key of hold: until, reason")
		}
		return err
	})
	return &hold, err
}

// window returns the window of a text, or of a mapping with days, begin, end and timeZone.
func (n node) window() (*when.Window, error) {
	if n.Kind == yaml.ScalarNode {
		w, err := valueOf(n, when.ParseWindow)
		return &w, err
	}
	w := when.Window{Begin: -1, End: -1}
	err := n.keys(func(key string, value node) (err error) {
		switch key {
		case "days":
			w.Days, err = value.days()
		case "begin":
			w.Begin, err = valueOf(value, when.ParseClock)
		case "end":
			w.End, err = valueOf(value, when.ParseClock)
		case "timeZone":
			w.TimeZone, err = value.text()
		default:
			err = value.fault("is not a key of window: days, begin, end, timeZone")
		}
		return err
	})
	if err == nil && (w.Begin < 0 || w.End < 0) {
		err = n.fault("needs begin and end")
	}
	return &w, err
}

func (n node) days() (days []time.Weekday, err error) {
	if n.Kind != yaml.SequenceNode {
		return nil, n.fault("is not a list of days, like [mon, tue]")
	}
	for _, one := range n.Content {
		day, err := valueOf(node{one, n.path}, when.ParseDay)
		if err != nil {
			return nil, err
		}
		days = append(days, day)
	}
	return days, nil
}

// parseUntil parses the end of a hold; the zero time means never.
func parseUntil(text string) (time.Time, error) {
	if text == "forever" {
		return time.Time{}, nil
	}
	t, err := when.ParseTime(text)
	if err != nil {
		err = fmt.Errorf("%w, or forever", err)
	}
	return t, err
}

func parseBool(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, fmt.Errorf("%.80q is not true or false", text)
	}
	return text == "true", nil
}
