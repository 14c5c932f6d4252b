package host

import "strings"

// statusError is the error of a call without the code that gRPC puts in front.
type statusError struct {
	text string
	error
}

func (e *statusError) Error() string { return e.text }
func (e *statusError) Unwrap() error { return e.error }

// plain removes gRPC's prefix from the text of an error; kind and hint stay.
func plain(err error) error {
	if err == nil {
		return nil
	}
	if text, ok := strings.CutPrefix(err.Error(), "rpc error: code = "); ok {
		if _, said, ok := strings.Cut(text, " desc = "); ok {
			return &statusError{said, err}
		}
	}
	return err
}
