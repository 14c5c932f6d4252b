package hostconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

// URL is a URL of any scheme.
type URL string

func (URL) Values() form.Values {
	return form.Values{Pattern: `\s*[A-Za-z][A-Za-z0-9+.-]*:.*`, Format: "uri"}
}

func (u *URL) parse(text, _ string) error {
	canonical, _, err := parseURL(text)
	*u = URL(canonical)
	return err
}

// SourceURL is a URL from which Trident can fetch an image.
type SourceURL string

func sourceSchemes() []string { return []string{"http", "https", "file", "oci"} }

func (SourceURL) Values() form.Values {
	schemes := strings.Join(sourceSchemes(), "|")
	return form.Values{Pattern: `\s*(` + schemes + "|" + strings.ToUpper(schemes) + `):.*`, Format: "uri"}
}

func (u *SourceURL) parse(text, _ string) error {
	canonical, scheme, err := parseURL(text)
	if err == nil && !slices.Contains(sourceSchemes(), scheme) {
		err = fmt.Errorf("has the scheme %s; wants a URL that starts with %s://", form.Shorten(scheme), strings.Join(sourceSchemes(), "://, "))
	}
	*u = SourceURL(canonical)
	return err
}

// parseURL parses text as the URL Standard does (url.spec.whatwg.org, section 4.4), which
// upstream follows. It returns the scheme, and the URL in a form that means the same by
// RFC 3986. Its errors never quote text, which may have a password.
func parseURL(text string) (canonical, scheme string, err error) {
	text = strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
	text = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(text)
	scheme, rest, ok := cutScheme(text)
	if !ok && (strings.HasPrefix(text, "/") || strings.HasPrefix(text, "./")) {
		return "", "", errors.New("is a path, not a URL; a file of the host is named as in file:///srv/image")
	}
	if !ok {
		return "", "", errors.New("is not a URL; wants one, as in https://example.org/image")
	}
	if defaultPort(scheme) {
		// Any number of slashes or backslashes may precede the host.
		canonical, err = withHost(scheme, strings.TrimLeft(swapSlashes(rest), "/"), true)
	} else if scheme == "file" {
		canonical, err = fileURL(swapSlashes(rest))
	} else if after, ok := strings.CutPrefix(rest, "//"); ok {
		canonical, err = withHost(scheme, after, false)
	} else {
		canonical = scheme + ":" + encode(rest)
	}
	if err != nil {
		return "", "", err
	}
	if _, err := url.Parse(canonical); err != nil {
		return "", "", errors.New("is not a URL; wants one, as in https://example.org/image")
	}
	return canonical, scheme, nil
}

func cutScheme(text string) (scheme, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(text, ":")
	ok = ok && scheme != "" && strings.Trim(scheme, form.Letters+form.Digits+"+-.") == "" && strings.Contains(form.Letters, scheme[:1])
	return strings.ToLower(scheme), rest, ok
}

// defaultPort reports whether scheme is a special scheme of the URL Standard with a default port.
func defaultPort(scheme string) bool {
	switch scheme {
	case "http", "https", "ws", "wss", "ftp":
		return true
	}
	return false
}

// swapSlashes replaces the backslashes before query and fragment by slashes.
func swapSlashes(s string) string {
	end := strings.IndexAny(s, "?#")
	if end < 0 {
		end = len(s)
	}
	return strings.ReplaceAll(s[:end], `\`, "/") + s[end:]
}

// fileURL parses the part of a URL after "file:". Without a host the path is absolute.
func fileURL(rest string) (string, error) {
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		host, tail := cutAny(after, "/?#")
		if host != "" {
			if err := checkHost(host, true); err != nil {
				return "", err
			}
		}
		if strings.EqualFold(host, "localhost") {
			host = ""
		}
		return "file://" + host + withSlash(encode(tail)), nil
	}
	return "file://" + withSlash(encode(rest)), nil
}

func withSlash(tail string) string {
	if !strings.HasPrefix(tail, "/") {
		return "/" + tail
	}
	return tail
}

// withHost parses the part of a URL after "//": user, host, port and the rest. A special scheme needs a host.
func withHost(scheme, s string, special bool) (string, error) {
	authority, tail := cutAny(s, "/?#")
	user, host := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, host = authority[:i], authority[i+1:]
		if host == "" {
			return "", errors.New("is a URL with a user, and without a host")
		}
		name, password, hasPassword := strings.Cut(user, ":")
		user = url.PathEscape(unescape(name))
		if hasPassword {
			user += ":" + url.PathEscape(unescape(password))
		}
		user = strings.ReplaceAll(user, "@", "%40") + "@"
	}
	port := ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:i], host[i+1:]
		if strings.Trim(port, form.Digits) != "" {
			return "", errors.New("is a URL whose port is not a number")
		}
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			port = ":" + strconv.FormatUint(n, 10)
		} else if port != "" {
			return "", fmt.Errorf("is a URL with the port %s; the highest port is 65535", form.Shorten(port))
		}
		if host == "" {
			return "", errors.New("is a URL with a port, and without a host")
		}
	}
	if host == "" && special {
		return "", fmt.Errorf("is a URL without a host; wants one, as in %s://example.org/image", scheme)
	}
	if host != "" {
		if err := checkHost(host, special); err != nil {
			return "", err
		}
		if special && !strings.HasPrefix(host, "[") {
			host = unescape(host)
		}
	}
	return scheme + "://" + user + host + port + encode(tail), nil
}

func cutAny(s, chars string) (before, after string) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// checkHost fails if host is not valid by the URL Standard (section 3.5): a domain or an
// address for a special scheme, almost any text for another scheme.
func checkHost(host string, special bool) error {
	bad := errors.New("is a URL whose host cannot be the name or the address of a machine")
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		if a, err := netip.ParseAddr(inner); !closed || err != nil || !a.Is6() || a.Zone() != "" {
			return bad
		}
		return nil
	}
	const forbidden = "#/:<>?@[\\]^|"
	isForbidden := func(r rune) bool { return r <= ' ' || strings.ContainsRune(forbidden, r) }
	if !special {
		if strings.ContainsFunc(host, func(r rune) bool { return r == 0 || r == ' ' || strings.ContainsRune(forbidden, r) }) {
			return bad
		}
		return nil
	}
	host = unescape(host)
	if !utf8.ValidString(host) || strings.ContainsFunc(host, func(r rune) bool {
		return isForbidden(r) || r == '%' || r == 0x7f || r > 0x7f && !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsNumber(r)
	}) {
		return bad
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	last := labels[len(labels)-1]
	if last == "" || host == "." {
		return bad
	}
	if _, isNumber := addressPart(last); isNumber || form.IsDigits(last) {
		return checkIPv4(labels, bad)
	}
	return nil
}

// checkIPv4 checks up to four numbers; the last one covers all remaining bytes of the address.
func checkIPv4(labels []string, bad error) error {
	if len(labels) > 4 {
		return bad
	}
	for i, l := range labels {
		n, ok := addressPart(l)
		most := uint64(255)
		if i == len(labels)-1 {
			most = 1<<(8*(5-len(labels))) - 1
		}
		if !ok || n > most {
			return bad
		}
	}
	return nil
}

// addressPart parses one number of an IPv4 address: decimal, 0x hexadecimal, or octal after a 0.
func addressPart(s string) (uint64, bool) {
	base := 10
	switch {
	case strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X"):
		s, base = "0"+s[2:], 16
	case len(s) > 1 && s[0] == '0':
		base = 8
	}
	n, err := strconv.ParseUint(s, base, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 1 << 63, true
	}
	return n, err == nil && s != "" && s[0] != '+'
}

// unescape decodes percent-encoded bytes. A % without two hexadecimal digits stays.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && form.IsHex(s[i+1:i+3]) {
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b.WriteByte(byte(n))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// encode percent-encodes the bytes that a path, a query or a fragment must not have. Encoded bytes stay.
func encode(s string) string {
	const allowed = form.Letters + form.Digits + "-._~:/?#[]@!$&'()*+,;=%|"
	var b strings.Builder
	fragment := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '%' && (i+2 >= len(s) || !form.IsHex(s[i+1:i+3])), c == '#' && fragment, !strings.Contains(allowed, string(rune(c))):
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
		fragment = fragment || c == '#'
	}
	return b.String()
}
