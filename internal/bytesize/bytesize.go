// Package bytesize writes numbers of bytes for people, in units of 1024, and reads them.
package bytesize

import (
	"fmt"
	"strconv"
	"strings"
)

const units = " KMGTPE"

// Format returns n with one decimal from 1 KiB on: "512 B", "8.0 GiB". Numbers below each
// other in a table are easy to compare.
func Format(n int64) string {
	value, unit := scale(n, 1024)
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// Plain returns n with a decimal only where it tells something: "512 B", "8 GiB",
// "1.5 GiB", "237 MiB". A sentence reads well with it.
func Plain(n int64) string {
	value, unit := scale(n, 1024)
	decimals := 1
	if value == float64(int64(value)) || value >= 100 {
		decimals = 0
	}
	name := "B"
	if unit > 0 {
		name = units[unit:unit+1] + "iB"
	}
	return fmt.Sprintf("%.*f %s", decimals, value, name)
}

// Short returns n in at most four characters: "512", "8.0G", "237M".
func Short(n int64) string {
	value, unit := scale(n, 999.5) // which %.0f rounds to four digits
	decimals := 0
	if unit > 0 && value < 9.95 {
		decimals = 1
	}
	return strings.TrimSpace(fmt.Sprintf("%.*f%c", decimals, value, units[unit]))
}

// scale returns n in the first unit, of units, in which it is less than limit.
func scale(n int64, limit float64) (value float64, unit int) {
	value = float64(n)
	for value >= limit && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return value, unit
}

// Parse parses a number of bytes, or of units of 1024, 1024², … bytes: K, M, G, T.
func Parse(text string) (int64, error) {
	digits, unit := text, 0
	if last := len(text) - 1; last >= 0 {
		if at := strings.IndexByte(units[1:5], text[last]); at >= 0 {
			digits, unit = text[:last], at+1
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > 1<<62>>(10*unit) {
		return 0, fmt.Errorf("%.80q is not a number of bytes, like 100M", text)
	}
	return int64(n) << (10 * unit), nil
}
