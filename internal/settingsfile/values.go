package settingsfile

import (
	"fmt"
	"strconv"
	"strings"
)

// The functions below make the functions of [Keys]. Each sets *to only if it does not fail.

// Text reads a text without control characters.
func Text[T ~string](to *T) func(Value) error {
	return func(v Value) error {
		text, err := v.Text()
		if err != nil {
			return err
		}
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return v.Errorf("has control characters")
		}
		*to = T(text)
		return nil
	}
}

// Texts reads a list of texts.
func Texts[T ~string](to *[]T) func(Value) error { return List(to, Text[T]) }

// Parsed reads what parse makes of a text.
func Parsed[T any](to *T, parse func(string) (T, error)) func(Value) error {
	return func(v Value) error {
		text, err := v.Text()
		if err != nil {
			return err
		}
		value, err := parse(text)
		if err != nil {
			return v.Errorf("%w", err)
		}
		*to = value
		return nil
	}
}

// Int reads a number.
func Int(to *int) func(Value) error {
	return Parsed(to, func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("%.80q is not a number", text)
		}
		return n, nil
	})
}

// Bool reads true or false.
func Bool(to *bool) func(Value) error {
	return Parsed(to, func(text string) (bool, error) {
		if text != "true" && text != "false" {
			return false, fmt.Errorf("%.80q is not true or false", text)
		}
		return text == "true", nil
	})
}

// Mapping reads a mapping.
func Mapping(keys Keys) func(Value) error {
	return func(v Value) error { return v.Read(keys) }
}

// List reads a list, each item of it with the function that one returns for its place. It
// replaces a list that is there before.
func List[T any](to *[]T, one func(*T) func(Value) error) func(Value) error {
	return func(v Value) error {
		items, err := v.List()
		if err != nil {
			return err
		}
		list := make([]T, len(items))
		for i, item := range items {
			if err := one(&list[i])(item); err != nil {
				return err
			}
		}
		*to = list
		return nil
	}
}
