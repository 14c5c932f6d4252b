package publish

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
)

// maxSignature is the most bytes of a SHA256SUMS.gpg.
const maxSignature = 64 << 10

// VerifyOptions say what a host would know of a feed.
type VerifyOptions struct {
	// Feed is a folder, or an http, https or file URL.
	Feed string
	// Root is a root of the feed that hosts have: any version.
	Root []byte
	// Pubring is the OpenPGP keyring of systemd-sysupdate, binary or armored; nil skips
	// SHA256SUMS.gpg, and says so in the notes.
	Pubring []byte
	Now     time.Time
	// Progress may be nil.
	Progress Progress
}

// A Report says what Verify found in a sound feed.
type Report struct {
	// Root is the version of the newest root.
	Root int64 `json:"root"`
	// Expires is when the first metadata expires.
	Expires  time.Time          `json:"expires"`
	Channels map[string][]Image `json:"channels"`
	// Notes are differences that do not keep a host from the feed.
	Notes []string `json:"notes"`
}

// Verify reads a feed as a host does, and every byte of its images and patches. It fails with the
// first fault: of kind Untrusted if metadata or SHA256SUMS is not signed by the keys that hosts
// know, has expired or is malformed, of kind Corrupt if a file does not have its hash, of kind
// NotFound if one is missing.
func Verify(ctx context.Context, o VerifyOptions) (Report, error) {
	r, err := newReader(o.Feed)
	if err != nil {
		return Report{}, err
	}
	v := verifier{VerifyOptions: o, reader: r, report: Report{Channels: map[string][]Image{}, Notes: []string{}}}
	err = v.run(ctx)
	if err = errors.Join(err, r.close()); err != nil {
		return Report{}, fmt.Errorf("verify feed %s: %w", r, err)
	}
	return v.report, nil
}

type verifier struct {
	VerifyOptions
	reader      *reader
	report      Report
	done, total int64
}

func (v *verifier) run(ctx context.Context) error {
	channels, err := v.metadata(ctx)
	if err != nil {
		return err
	}
	for _, images := range channels {
		for _, image := range images {
			v.total += image.Size
			for _, patch := range image.Release.Patches {
				v.total += patch.Size
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(channels)) {
		v.report.Channels[name] = []Image{}
		for _, at := range slices.Sorted(maps.Keys(channels[name])) {
			image := channels[name][at]
			if err := v.payloads(ctx, at, image); err != nil {
				return err
			}
			v.report.Channels[name] = append(v.report.Channels[name], *image)
		}
		if err := v.sums(ctx, name, &channel{Images: channels[name]}); err != nil {
			return err
		}
	}
	return nil
}

// metadata reads the metadata, and returns the images of each channel by path.
func (v *verifier) metadata(ctx context.Context) (map[string]map[string]*Image, error) {
	cfg, err := config.New("feed", v.Root)
	if err != nil {
		return nil, err
	}
	empty, err := os.MkdirTemp("", "trident-feed-*") // go-tuf reads its cache even if it is disabled
	if err != nil {
		return nil, err
	}
	defer os.Remove(empty)
	cfg.DisableLocalCache, cfg.LocalMetadataDir, cfg.PrefixTargetsWithHash = true, empty, false
	cfg.RemoteMetadataURL = feed.Metadata
	cfg.Fetcher = fetcher{ctx, v.reader}
	u, err := updater.New(cfg)
	if err != nil {
		return nil, untrusted("read the given root", err)
	}
	u.UnsafeSetRefTime(v.Now)
	if err := u.Refresh(); err != nil {
		return nil, untrusted("read metadata", err)
	}
	top := u.GetTrustedMetadataSet().Targets[metadata.TARGETS]
	if top.Signed.Delegations == nil {
		return nil, errkind.Errorf(errkind.Corrupt, "read metadata: targets delegates to no channel")
	}
	out := map[string]map[string]*Image{}
	for _, role := range top.Signed.Delegations.Roles {
		if err := feed.CheckChannel(role.Name); err != nil {
			return nil, errkind.With(errkind.Corrupt, err)
		}
		_, err := u.GetTargetInfo(feed.Folder(role.Name, "x86-64") + "/-") // loads the role
		m := u.GetTrustedMetadataSet().Targets[role.Name]
		if m == nil {
			return nil, untrusted("read metadata of channel "+role.Name, err)
		}
		if out[role.Name], err = imagesOf(role.Name, m.Signed); err != nil {
			return nil, err
		}
		v.report.Expires = m.Signed.Expires
	}
	set := u.GetTrustedMetadataSet()
	v.report.Root = set.Root.Signed.Version
	v.report.Expires = earliest(set.Root.Signed.Expires, set.Timestamp.Signed.Expires, set.Snapshot.Signed.Expires)
	for _, m := range set.Targets {
		v.report.Expires = earliest(v.report.Expires, m.Signed.Expires)
	}
	return out, nil
}

func earliest(times ...time.Time) time.Time { return slices.MinFunc(times, time.Time.Compare) }

// untrusted gives an error of go-tuf its kind, unless the reader has given one.
func untrusted(doing string, err error) error {
	if kind := errkind.Of(err); kind != errkind.Internal {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if errors.Is(err, &metadata.ErrExpiredMetadata{}) {
		return errkind.WithHint(errkind.Errorf(errkind.Untrusted, "%s: %w", doing, err), "The publisher has to publish again: trident feed publish.")
	}
	return errkind.Errorf(errkind.Untrusted, "%s: %w", doing, err)
}

func imagesOf(name string, t metadata.TargetsType) (map[string]*Image, error) {
	out := map[string]*Image{}
	for at, target := range t.Targets {
		where, err := feed.ParseImagePath(at)
		if err != nil || where.Channel != name {
			return nil, errkind.Errorf(errkind.Corrupt, "channel %s: target %.200q is not an image of the channel", name, at)
		}
		if target.Custom == nil {
			return nil, errkind.Errorf(errkind.Corrupt, "%s: the target has no release", at)
		}
		r, err := feed.ParseRelease(*target.Custom)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		hash := hex.EncodeToString(target.Hashes["sha256"])
		if r.Version != where.Version || r.Architecture != where.Architecture || len(hash) != 64 || target.Length <= 0 {
			return nil, errkind.Errorf(errkind.Corrupt, "%s: path, length or hash do not fit the release", at)
		}
		out[at] = &Image{Size: target.Length, SHA256: hash, Release: r}
	}
	return out, nil
}

// payloads hashes an image and its patches.
func (v *verifier) payloads(ctx context.Context, at string, image *Image) error {
	if err := v.payload(ctx, at, image.Size, image.SHA256); err != nil {
		return err
	}
	for _, patch := range image.Release.Patches {
		if err := v.payload(ctx, patch.Path, patch.Size, patch.SHA256); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) payload(ctx context.Context, at string, size int64, hash string) error {
	got, err := v.reader.hash(ctx, at, size, func(done int64) {
		if v.Progress != nil {
			v.Progress(v.done+done, v.total)
		}
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", at, err)
	}
	if got != hash {
		return errkind.Errorf(errkind.Corrupt, "%s: it has the SHA-256 %s, the metadata says %s", at, got, hash)
	}
	v.done += size
	return nil
}

// sums verifies SHA256SUMS and its signature in the folders of a channel, as systemd-sysupdate
// does. A feed in which Publish was interrupted may list other images there than in the metadata.
func (v *verifier) sums(ctx context.Context, name string, c *channel) error {
	for _, arch := range c.architectures() {
		dir := feed.Folder(name, arch)
		text, err := v.reader.get(ctx, path.Join(dir, feed.SumsFile), feed.MaxSums)
		if err != nil {
			return err
		}
		sums, err := feed.ParseSums(text)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if err := v.sumsSignature(ctx, dir, text); err != nil {
			return err
		}
		images := c.images(arch)
		for at, image := range images {
			switch hash, ok := sums[path.Base(at)]; {
			case !ok:
				v.note("%s: SHA256SUMS does not list %s", dir, path.Base(at))
			case hash != image.SHA256:
				return errkind.Errorf(errkind.Corrupt, "%s: SHA256SUMS and the metadata have different hashes of %s", dir, path.Base(at))
			}
		}
		for _, file := range slices.Sorted(maps.Keys(sums)) {
			if images[path.Join(dir, file)] != nil {
				continue
			}
			v.note("%s: the metadata does not list %s", dir, file)
			if got, err := v.reader.hash(ctx, path.Join(dir, file), -1, func(int64) {}); err != nil {
				return fmt.Errorf("read %s/%s: %w", dir, file, err)
			} else if got != sums[file] {
				return errkind.Errorf(errkind.Corrupt, "%s/%s: it has the SHA-256 %s, SHA256SUMS says %s", dir, file, got, sums[file])
			}
		}
	}
	return nil
}

func (v *verifier) note(format string, args ...any) {
	v.report.Notes = append(v.report.Notes, fmt.Sprintf(format, args...))
}

func (v *verifier) sumsSignature(ctx context.Context, dir string, text []byte) error {
	if v.Pubring == nil {
		v.note("%s: the signature of SHA256SUMS was not checked, because no keyring was given", dir)
		return nil
	}
	signature, err := v.reader.get(ctx, path.Join(dir, feed.SignatureFile), maxSignature)
	if err != nil {
		return err
	}
	ring, err := readPubring(v.Pubring)
	if err != nil {
		return err
	}
	if err := checkSignature(ring, text, signature, v.Now); err != nil {
		return errkind.Errorf(errkind.Untrusted, "%s: check %s: %w", dir, feed.SignatureFile, err)
	}
	return nil
}

func readPubring(data []byte) (openpgp.EntityList, error) {
	read := openpgp.ReadKeyRing
	if bytes.HasPrefix(data, []byte("-----BEGIN")) {
		read = openpgp.ReadArmoredKeyRing
	}
	ring, err := read(bytes.NewReader(data))
	if err != nil {
		return nil, errkind.Errorf(errkind.Invalid, "read keyring: %w", err)
	}
	return ring, nil
}

// checkSignature checks a detached OpenPGP signature at the time now.
func checkSignature(ring openpgp.EntityList, text, signature []byte, now time.Time) error {
	_, err := openpgp.CheckDetachedSignature(ring, bytes.NewReader(text), bytes.NewReader(signature), pgpConfig(now))
	return err
}

// fetcher reads metadata for go-tuf.
type fetcher struct {
	ctx    context.Context
	reader *reader
}

// DownloadFile implements go-tuf's Fetcher. The one status that go-tuf knows is 404, which ends
// the chain of roots.
func (f fetcher) DownloadFile(name string, most int64, _ time.Duration) ([]byte, error) {
	data, err := f.reader.get(f.ctx, name, most)
	if errkind.Of(err) == errkind.NotFound {
		return nil, errors.Join(&metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: name}, err)
	}
	return data, err
}
