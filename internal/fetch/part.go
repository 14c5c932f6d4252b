package fetch

import (
	"errors"

	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Remove removes a part file and its record. That they are not there is no error.
func Remove(part string) error {
	return errors.Join(atomicfile.Remove(part), atomicfile.Remove(part+".json"))
}
