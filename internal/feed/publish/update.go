package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// keptVersions is how many old versions of snapshot, targets and channels stay in the feed, for
// readers that began before.
const keptVersions = 10

// Published says what Publish did.
type Published struct {
	// Images is the number of images in each channel.
	Images map[string]int `json:"images"`
	// Versions is the version of the metadata of each role.
	Versions map[string]int64 `json:"versions"`
	// Expires is when the first metadata expires: publish again before.
	Expires time.Time `json:"expires"`
	// Deleted are the paths of withdrawn files.
	Deleted []string `json:"deleted"`
	// Notes are for people.
	Notes []string `json:"notes"`
}

// Publish makes the feed equal to the record. After a failure or a crash at any moment, readers
// find the feed before or the new one, and the same call completes it.
func (p *Publisher) Publish(ctx context.Context, v Validity) (Published, error) {
	out, err := p.publish(ctx, v)
	if err != nil {
		return Published{}, fmt.Errorf("publish the feed: %w", err)
	}
	return out, nil
}

func (p *Publisher) publish(ctx context.Context, v Validity) (Published, error) {
	if err := v.check(); err != nil {
		return Published{}, err
	}
	before, next, err := p.rootsToPublish()
	if err != nil {
		return Published{}, err
	}
	out := Published{Images: map[string]int{}, Versions: map[string]int64{}, Deleted: []string{}, Notes: p.rootNotes(before, next)}
	if err := p.checkPayloads(ctx); err != nil {
		return out, err
	}
	s, err := p.signAll(before, next, v)
	if err != nil {
		return out, err
	}
	if err := p.save(); err != nil { // before the files: no version is ever used twice
		return out, err
	}
	if err := p.writeMetadata(s); err != nil {
		return out, err
	}
	if err := p.writeSums(ctx, &out); err != nil {
		return out, err
	}
	if err := p.write(p.feedFile("timestamp.json"), fixed(s.timestamp.data), 0o644); err != nil {
		return out, err
	}
	if err := p.installRoot(next); err != nil {
		return out, err
	}
	for name, c := range p.record.Channels {
		out.Images[name] = len(c.Images)
	}
	for role, f := range p.record.Files {
		out.Versions[role] = f.Version
		if out.Expires.IsZero() || f.Expires.Before(out.Expires) {
			out.Expires = f.Expires
		}
	}
	return out, p.deleteOld(&out)
}

// rootsToPublish returns the current root, and the one that is to be installed, or nil.
func (p *Publisher) rootsToPublish() (before, next *root, err error) {
	before, next, err = p.bothRoots()
	switch {
	case err != nil:
		return nil, nil, err
	case before == nil:
		return nil, nil, errkind.WithHint(errkind.Errorf(errkind.Precondition, "the first root is not signed"), "trident feed sign says what has to be signed.")
	case next != nil && !isComplete(before, next):
		next = nil
	}
	newest := before
	if next != nil {
		newest = next
	}
	if !p.now.Before(newest.Signed.Expires) {
		return nil, nil, errkind.WithHint(errkind.Errorf(errkind.Precondition, "root %d has expired at %s", newest.Signed.Version, newest.Signed.Expires.Format(time.RFC3339)),
			"trident feed rotate makes a new root, with the same keys.")
	}
	return before, next, nil
}

// rootNotes warns of a root that expires soon, or that waits for signatures.
func (p *Publisher) rootNotes(before, next *root) []string {
	notes := []string{}
	if w, err := p.Waiting(); err == nil && w != nil {
		notes = append(notes, fmt.Sprintf("root %d waits for signatures and was not published; see trident feed sign", w.Version))
	}
	if next == nil && before.Signed.Expires.Sub(p.now) < 60*day {
		notes = append(notes, fmt.Sprintf("root %d expires at %s; make a new one before: trident feed rotate", before.Signed.Version, before.Signed.Expires.Format(time.RFC3339)))
	}
	return notes
}

// checkPayloads proves that each image of the record is in the feed folder. It trusts the hash
// that Add has computed.
func (p *Publisher) checkPayloads(ctx context.Context) error {
	for _, name := range p.record.channels() {
		for at, image := range p.record.Channels[name].Images {
			files := map[string]int64{at: image.Size}
			for _, patch := range image.Release.Patches {
				files[patch.Path] = patch.Size
			}
			for file, size := range files {
				if err := ctx.Err(); err != nil {
					return err
				}
				info, err := os.Lstat(filepath.Join(p.dir, file))
				if err != nil {
					return errkind.WithHint(fmt.Errorf("look at file of the feed: %w", err), "Add the image again with trident feed add, or withdraw it.")
				}
				if !info.Mode().IsRegular() || info.Size() != size {
					return errkind.WithHint(errkind.Errorf(errkind.Corrupt, "file of the feed %s: it has %d bytes, not %d as when it was added", info.Name(), info.Size(), size),
						"Remove the file, and add the image again with trident feed add.")
				}
			}
		}
	}
	return nil
}

// signed is the metadata of one Publish.
type signed struct {
	targets             map[string]draft // targets and the channels, by role
	snapshot, timestamp draft
}

// signAll makes the metadata, and notes it in the record. While a root is to be installed, the keys of both roots
// sign, so that the metadata is valid before and after.
func (p *Publisher) signAll(before, next *root, v Validity) (*signed, error) {
	keyIDs := func(role string) []string {
		ids := slices.Clone(before.Signed.Roles[role].KeyIDs)
		if next != nil {
			ids = append(ids, next.Signed.Roles[role].KeyIDs...)
		}
		return ids
	}
	s := &signed{targets: map[string]draft{}}
	for _, name := range p.record.channels() {
		m, err := channelTargets(p.record.Channels[name])
		if err != nil {
			return nil, err
		}
		public, err := parsePublic(p.record.Channels[name].Key)
		if err != nil {
			return nil, err
		}
		if s.targets[name], err = p.targetsDraft(name, m, []string{keyOf(public).id}, v); err != nil {
			return nil, err
		}
		if err := checkChannelSize(name, len(s.targets[name].data)); err != nil {
			return nil, err
		}
	}
	top, err := p.record.topTargets()
	if err != nil {
		return nil, err
	}
	if s.targets[metadata.TARGETS], err = p.targetsDraft(metadata.TARGETS, top, keyIDs(metadata.TARGETS), v); err != nil {
		return nil, err
	}
	snapshot := snapshotOf(s.targets)
	snapshot.Signed.Version, snapshot.Signed.Expires = p.record.Files[metadata.SNAPSHOT].Version+1, p.now.Add(v.Snapshot)
	s.snapshot, err = p.draftOf(metadata.SNAPSHOT, signableOf(snapshot, snapshot.Signed.Version), "", snapshot.Signed.Expires, keyIDs(metadata.SNAPSHOT))
	if err != nil {
		return nil, err
	}
	stamp := metadata.Timestamp()
	stamp.Signed.Version, stamp.Signed.Expires = p.record.Files[metadata.TIMESTAMP].Version+1, p.now.Add(v.Timestamp)
	stamp.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": s.snapshot.meta()}
	s.timestamp, err = p.draftOf(metadata.TIMESTAMP, signableOf(stamp, stamp.Signed.Version), "", stamp.Signed.Expires, keyIDs(metadata.TIMESTAMP))
	if err != nil {
		return nil, err
	}
	for role, d := range s.targets {
		p.record.Files[role] = d.file
	}
	p.record.Files[metadata.SNAPSHOT], p.record.Files[metadata.TIMESTAMP] = s.snapshot.file, s.timestamp.file
	return s, nil
}

// checkChannelSize fails if hosts would not read the metadata of a channel.
func checkChannelSize(name string, size int) error {
	if size <= feed.MaxChannel {
		return nil
	}
	err := errkind.Errorf(errkind.TooLarge, "the metadata of channel %s has %d bytes, and hosts read at most %d", name, size, feed.MaxChannel)
	return errkind.WithHint(err, "Withdraw old versions of the channel.")
}

// targetsDraft returns the file that the feed has if its content is the same and it is valid for
// at least half of v.Targets; otherwise a new version.
func (p *Publisher) targetsDraft(role string, m *metadata.Metadata[metadata.TargetsType], ids []string, v Validity) (draft, error) {
	content, err := contentOf(m.Signed, ids)
	if err != nil {
		return draft{}, fmt.Errorf("encode %s: %w", role, err)
	}
	last := p.record.Files[role]
	if last.Content == content && last.Expires.Sub(p.now) >= v.Targets/2 {
		name := fmt.Sprintf("%d.%s.json", last.Version, role)
		data, err := regfile.ReadFile(p.feedFile(name), last.Size)
		if err == nil && sum(data) == last.SHA256 {
			return draft{name: name, data: nil, file: last}, nil
		}
	}
	m.Signed.Version, m.Signed.Expires = last.Version+1, p.now.Add(v.Targets)
	return p.draftOf(role, signableOf(m, m.Signed.Version), content, m.Signed.Expires, ids)
}

// writeMetadata writes all roots that are current and all metadata that no reader asks for before
// it has the new timestamp.
func (p *Publisher) writeMetadata(s *signed) error {
	if err := p.mkdir(filepath.Join(p.dir, feed.Metadata), 0o755); err != nil {
		return err
	}
	all, err := p.roots()
	if err != nil {
		return err
	}
	for i, data := range all {
		name := p.feedFile(rootName(int64(i) + 1))
		if there, err := regfile.ReadFile(name, maxRoot); err == nil && bytes.Equal(there, data) {
			continue
		}
		if err := p.write(name, fixed(data), 0o644); err != nil {
			return err
		}
	}
	drafts := []draft{s.snapshot}
	for _, d := range s.targets {
		drafts = append(drafts, d)
	}
	slices.SortFunc(drafts, func(a, b draft) int { return compare(a.name, b.name) })
	for _, d := range drafts {
		if d.data == nil {
			continue
		}
		if err := p.write(p.feedFile(d.name), fixed(d.data), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// installRoot adds next to the feed, and makes it the current root. The timestamp that is there
// already is valid for both.
func (p *Publisher) installRoot(next *root) error {
	if next == nil {
		return nil
	}
	data, err := regfile.ReadFile(p.nextRoot(), maxRoot)
	if err != nil {
		return err
	}
	name := rootName(next.Signed.Version)
	if err := p.write(p.feedFile(name), fixed(data), 0o644); err != nil {
		return err
	}
	if err := p.write(p.hostsRoot(), fixed(data), 0o644); err != nil {
		return err
	}
	return p.rename(p.nextRoot(), filepath.Join(p.rootsDir(), name))
}

// deleteOld deletes the withdrawn files, then the metadata that no reader needs.
func (p *Publisher) deleteOld(out *Published) error {
	for _, at := range p.record.Withdrawn {
		if err := p.remove(filepath.Join(p.dir, at)); err != nil {
			return err
		}
		out.Deleted = append(out.Deleted, at)
	}
	if len(p.record.Withdrawn) > 0 {
		p.record.Withdrawn = nil
		if err := p.save(); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(filepath.Join(p.dir, feed.Metadata))
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		number, rest, _ := strings.Cut(e.Name(), ".")
		role := strings.TrimSuffix(rest, ".json")
		version, err := strconv.ParseInt(number, 10, 64)
		if last, ok := p.record.Files[role]; err == nil && ok && version < last.Version-keptVersions {
			errs = append(errs, p.remove(p.feedFile(e.Name())))
		}
	}
	return errors.Join(errs...)
}
