package form

import "strings"

// The ASCII letters and digits.
const (
	Letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	Digits  = "0123456789"
)

// IsDigits reports whether s consists of decimal digits and is not empty.
func IsDigits(s string) bool { return s != "" && strings.Trim(s, Digits) == "" }

// IsHex reports whether s consists of hexadecimal digits and is not empty.
func IsHex(s string) bool { return s != "" && strings.Trim(s, Digits+"abcdefABCDEF") == "" }
