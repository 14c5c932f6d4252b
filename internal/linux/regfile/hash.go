package regfile

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"io"

	"github.com/trident-project/trident/internal/interrupt"
)

// SHA384 returns the SHA-384 of all that r has, in lower-case hexadecimal digits. It fails with
// the error of r, and as interrupt.Err does when ctx ends.
func SHA384(ctx context.Context, r io.Reader) (string, error) {
	h := sha512.New384()
	if _, err := io.CopyBuffer(h, interrupt.Reader(ctx, r), make([]byte, 256<<10)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
