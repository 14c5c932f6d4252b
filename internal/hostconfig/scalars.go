package hostconfig

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// Size is a size in bytes, a multiple of 4096. The zero value is Grow.
type Size uint64

// Grow is the rest of the disk.
const Grow Size = 0

// sizeUnit is the unit, in bytes, that every size is a multiple of.
const sizeUnit = 4096

// Fixed reports whether s is a number of bytes, and not Grow.
func (s Size) Fixed() bool { return s != Grow }

// String returns the shortest form of s in a document: "8G", "4096", "grow".
func (s Size) String() string {
	if s == Grow {
		return "grow"
	}
	for i, unit := range []string{"T", "G", "M", "K"} {
		if shift := 40 - 10*i; uint64(s)%(1<<shift) == 0 {
			return strconv.FormatUint(uint64(s)>>shift, 10) + unit
		}
	}
	return strconv.FormatUint(uint64(s), 10)
}

// errSize is the error for a number that cannot be the size of a partition.
type errSize struct{ error }

func (Size) Values() form.Values {
	least := uint64(sizeUnit)
	return form.Values{Pattern: `grow|\s*\+?0*[1-9][0-9]*\s*[KMGT]?\s*`, Numbers: &form.Numbers{Min: &least, Step: sizeUnit}}
}

func (s *Size) parse(text, kind string) (err error) {
	*s, err = parseSize(form.Decimal(text, kind))
	return err
}

// parseSize parses a size. It also accepts blanks around the number and a plus before it: "8 G", "+1M".
func parseSize(text string) (Size, error) {
	if text == "grow" {
		return Grow, nil
	}
	shift, number := 0, strings.TrimSpace(text)
	if n := len(number) - 1; n > 0 {
		if i := strings.IndexByte("KMGT", number[n]); i >= 0 {
			shift, number = 10*(i+1), strings.TrimSpace(number[:n])
		}
	}
	digits := strings.TrimPrefix(number, "+")
	if !form.IsDigits(digits) {
		return 0, fmt.Errorf("is %q; wants a number of bytes, a number with K, M, G or T, or grow", form.Shorten(text))
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("is %q, which is more bytes than can be counted", form.Shorten(text))
	}
	if n > math.MaxUint64>>shift {
		return 0, errSize{fmt.Errorf("is %q, which is more bytes than can be counted", form.Shorten(text))}
	}
	n <<= shift
	if n == 0 || n%sizeUnit != 0 {
		return 0, errSize{fmt.Errorf("is %q; must be a multiple of %d bytes, and more than 0", form.Shorten(text), sizeUnit)}
	}
	return Size(n), nil
}

// UserID is the numeric id of a user. As for upstream, a document may give a negative one; NameFaults reports it.
type UserID int64

func (UserID) Values() form.Values {
	most := uint64(math.MaxInt32)
	return form.Values{Numbers: &form.Numbers{Max: &most}}
}

func (u *UserID) parse(text, kind string) error {
	text = form.Decimal(text, kind)
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || kind != form.Int {
		return fmt.Errorf("is %q; wants a whole number up to %d", form.Shorten(text), math.MaxInt32)
	}
	*u = UserID(n)
	return nil
}

// PCR is a platform configuration register of the TPM, 0 to 23.
type PCR uint8

// maxPCR is the last register of a PC (TCG PC Client Platform TPM Profile, section 4.6).
const maxPCR = 23

// pcrNames returns systemd's names of the registers (systemd-cryptenroll(1)).
func pcrNames() map[string]PCR {
	return map[string]PCR{
		"platform-code": 0, "platform-config": 1, "external-code": 2, "external-config": 3, "boot-loader-code": 4,
		"boot-loader-config": 5, "host-platform": 6, "secure-boot-policy": 7, "kernel-initrd": 9, "ima": 10, "kernel-boot": 11,
		"pcr8": 8, "pcr17": 17, "pcr18": 18, "pcr19": 19, "pcr20": 20, "pcr21": 21, "pcr22": 22, "kernel-config": 12, "sysexts": 13, "shim-policy": 14, "system-identity": 15, "debug": 16, "application-support": 23,
	}
}

// String returns the name of the register, or its number if it has no name.
func (p PCR) String() string {
	for name, n := range pcrNames() {
		if n == p && !strings.HasPrefix(name, "pcr") { // older releases know those by number only
			return name
		}
	}
	return strconv.Itoa(int(p))
}

func (PCR) Values() form.Values {
	names := pcrNames()
	low, high := uint64(0), uint64(maxPCR)
	return form.Values{
		Words:   slices.SortedFunc(maps.Keys(names), func(a, b string) int { return int(names[a]) - int(names[b]) }),
		Numbers: &form.Numbers{Min: &low, Max: &high},
	}
}

func (p *PCR) parse(text, kind string) error {
	text = form.Decimal(text, kind)
	if n, ok := pcrNames()[text]; ok {
		*p = n
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || kind != form.Int || n > maxPCR {
		return fmt.Errorf("is %q; wants a register by number, 0 to %d, or by name, as in boot-loader-code, secure-boot-policy, kernel-boot", form.Shorten(text), maxPCR)
	}
	*p = PCR(n)
	return nil
}

// UUID is a UUID in lower case with hyphens, or "" for none.
type UUID string

const uuidPattern = `(urn:uuid:)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\{[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}|[0-9a-fA-F]{32}`

func (UUID) Values() form.Values { return form.Values{Pattern: uuidPattern} }

func (u *UUID) parse(text, _ string) (err error) {
	*u, err = parseUUID(text)
	return err
}

// parseUUID accepts a UUID with and without hyphens (RFC 9562, section 4), as a URN, and
// in braces.
func parseUUID(text string) (UUID, error) {
	t := text
	switch {
	case len(t) == 45 && strings.HasPrefix(t, "urn:uuid:"):
		t = t[9:]
	case len(t) == 38 && t[0] == '{' && t[37] == '}':
		t = t[1:37]
	}
	t = strings.ToLower(t)
	if len(text) == 32 {
		t = t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:]
	}
	ok := len(t) == 36
	for i := 0; ok && i < len(t); i++ {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			ok = t[i] == '-'
		} else {
			ok = form.IsHex(t[i : i+1])
		}
	}
	if !ok {
		return "", fmt.Errorf("is %q; wants a UUID", form.Shorten(text))
	}
	return UUID(t), nil
}

// Hash is a SHA-384 of a file, as 96 hexadecimal digits in lower case.
type Hash string

const hashPattern = "[0-9a-fA-F]{96}"

func (Hash) Values() form.Values { return form.Values{Pattern: hashPattern} }

func (h *Hash) parse(text, _ string) (err error) {
	*h, err = parseHash(text)
	return err
}

func parseHash(text string) (Hash, error) {
	if len(text) != 96 || !form.IsHex(text) {
		return "", fmt.Errorf("is %q; wants a SHA-384: 96 hexadecimal digits", form.Shorten(text))
	}
	return Hash(strings.ToLower(text)), nil
}

// ImageHash is the SHA-384 of an image's metadata in lower case, or HashIgnored.
type ImageHash string

// HashIgnored accepts any image.
const HashIgnored ImageHash = "ignored"

func (ImageHash) Values() form.Values {
	return form.Values{Pattern: string(HashIgnored) + "|" + hashPattern}
}

func (h *ImageHash) parse(text, _ string) error {
	if text == string(HashIgnored) {
		*h = HashIgnored
		return nil
	}
	hash, err := parseHash(text)
	if err != nil {
		return fmt.Errorf("%w, or the word ignored", err)
	}
	*h = ImageHash(hash)
	return nil
}
