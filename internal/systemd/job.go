package systemd

import (
	"fmt"

	"github.com/trident-project/trident/internal/errkind"
)

// JobError is the error of a job that ended with another result than done.
type JobError struct {
	Verb, Unit string
	Result     string // of the job: failed, timeout, canceled, dependency, …
	UnitResult string // Unit.Result, or "" if unknown
}

func (e *JobError) Error() string {
	text := fmt.Sprintf("%s %s: job result is %s", e.Verb, e.Unit, e.Result)
	if e.UnitResult != "" && e.UnitResult != "success" {
		text += fmt.Sprintf(" (unit result is %s)", e.UnitResult)
	}
	return text
}

// WithKind returns e with the kind that its result means.
func (e *JobError) WithKind() error {
	switch e.Result {
	case "timeout":
		return errkind.With(errkind.Timeout, e)
	case "canceled":
		return errkind.With(errkind.Unavailable, e)
	}
	return e
}
