package operation

import (
	"fmt"
	"slices"
)

// Until returns the steps up to and with the one of a name: Until(steps, "stage") is
// what an operation does that only stages. It panics where no step has that name.
func Until[S any](steps []Step[S], name string) []Step[S] { return steps[:indexOf(steps, name)+1] }

// From returns the step of a name and all after it. It panics as Until does.
func From[S any](steps []Step[S], name string) []Step[S] { return steps[indexOf(steps, name):] }

func indexOf[S any](steps []Step[S], name string) int {
	i := slices.IndexFunc(steps, func(s Step[S]) bool { return s.Name == name })
	if i < 0 {
		panic(fmt.Sprintf("operation: no step is named %q", name))
	}
	return i
}
