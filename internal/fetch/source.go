package fetch

import (
	"context"
	"crypto/x509"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
)

// Source is a source of bytes: exactly one of URL, Path and Upload, or UploadSize alone.
// [Download] accepts every source, [OpenRanges] those with a URL or a Path.
type Source struct {
	// URL is file, http, https or oci (oci://registry/repository:tag or …@sha256:digest,
	// an artifact of one layer, which is the content). Its user name, password and query
	// are secrets: only the server gets them. If a server announces no size and ends by
	// closing the connection, its file cannot be distinguished from an interrupted one:
	// give SHA256. For an oci URL Download fetches the layer that the tag names at the
	// beginning, also if the tag moves later. Only if the registry no longer has that
	// layer, Download begins again with the layer that the tag names then.
	URL string
	// Path is the absolute path of a regular file; a file URL is the same. Symbolic links
	// are followed: only root can give a path, and root can read every file anyway.
	Path string
	// Upload returns the next bytes that a client sent, io.EOF after the last. It
	// must return when its context ends.
	Upload func(context.Context) ([]byte, error)
	// UploadSize is how many bytes the client will send; 0 if unknown. Without Upload,
	// because the client's call ended with a restart, Download succeeds if the part is
	// complete, and otherwise returns ErrUploadLost.
	UploadSize int64
	// SHA256 is the SHA-256, in hex, that the bytes must have, or "". For an oci URL the
	// registry gives it.
	SHA256 string
	// Timeout bounds one call of Download; 0 means no limit.
	Timeout time.Duration
	// MaxBytes bounds what a fetch may receive over the network, in bytes; 0 means no bound.
	MaxBytes int64
	// Meter counts what fetches receive over the network, for several fetches together, in
	// place of MaxBytes; nil: Download opens one for MaxBytes.
	Meter *Meter
	// Size is the size that the content must have, in bytes; 0 if it was not announced.
	Size int64
	// Patches make the content from a file that the host may have.
	Patches []Patch
	// Login returns the credentials for a registry; nil means none.
	Login Login
	// Roots are the certificate authorities for TLS; nil means the system's.
	Roots *x509.CertPool
}

// A Patch makes the content of a [Source] from the content of another file.
type Patch struct {
	// From names that file, in the words of the caller: for an image of Trident, its version.
	From string
	// URL is like the one of Source.
	URL string
	// Size is the size of the patch in bytes, and SHA256 its SHA-256 in hex.
	Size   int64
	SHA256 string
}

// String names s without the secrets that a URL may have.
func (s Source) String() string {
	switch {
	case s.URL != "":
		return Redact(s.URL)
	case s.Path != "":
		return s.Path
	}
	return "an upload"
}

// OnHost returns s as the host below root reads it: a file is a file below root, and a
// server gets the credentials and the certificate authorities of that host.
func (s Source) OnHost(root string) (Source, error) {
	path, err := s.file()
	if err != nil {
		return s, err
	}
	if path != "" {
		s.URL, s.Path = "", filepath.Join(root, path)
		return s, nil
	}
	if s.URL == "" {
		return s, nil
	}
	if Scheme(s.URL) == "oci" {
		if s.Login, err = hostLogin(root); err != nil {
			return s, err
		}
	}
	s.Roots, err = hostRoots(root)
	return s, err
}

// file returns the path of a file, or "" for another source.
func (s Source) file() (string, error) {
	u, err := url.Parse(s.URL)
	switch {
	case s.Path != "" && !filepath.IsAbs(s.Path):
		return "", errkind.Errorf(errkind.Invalid, "the path must be absolute")
	case s.Path != "" || err != nil || u.Scheme != "file":
		return s.Path, nil
	case u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path):
		return "", errkind.Errorf(errkind.Invalid, "a file URL must name an absolute path of this host")
	}
	return u.Path, nil
}

// Scheme returns the scheme of a URL, in lower case; "" for a text that is not a URL, and
// for a URL without the host that all schemes but file need.
func Scheme(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" && u.Scheme != "file" {
		return ""
	}
	return u.Scheme
}

// Redact returns a URL without its secrets: user, password, query and fragment.
func Redact(text string) string {
	u, err := url.Parse(text)
	if err == nil {
		return redact(u)
	}
	if scheme, _, _ := strings.Cut(text, "://"); scheme != "" && scheme != text {
		return scheme + "://…"
	}
	return "a URL"
}

// redact is Redact for a URL that is parsed.
func redact(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
