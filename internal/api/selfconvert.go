package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/handles"
	"github.com/trident-project/trident/internal/selfservice"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
)

// sourceFromWire converts a source; receive returns the next chunk of an upload.
func (s *selfServer) sourceFromWire(stream context.Context, in *selfv1.Source, receive func() ([]byte, error)) (fetch.Source, error) {
	out := fetch.Source{URL: in.GetUrl(), Path: in.GetPath(), SHA256: in.GetSha256()}
	if sum := in.GetSha256(); sum != "" {
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size {
			return out, errkind.Errorf(errkind.Invalid, "read the request: sha256 is %.80q, which is not 64 hexadecimal digits", sum)
		}
	}
	if out.MaxBytes = in.GetMaxBytes(); out.MaxBytes < 0 {
		return out, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: max_bytes is %d, which is less than 0", out.MaxBytes), "start.source.max_bytes")
	}
	var err error
	if out.Timeout, err = durationFromWire("fetch_timeout", in.GetFetchTimeout()); err != nil {
		return out, err
	}
	switch from := in.GetFrom().(type) {
	case nil:
		return out, errkind.Errorf(errkind.Invalid, "read the request: it does not say where the image comes from (a url, a path or an upload)")
	case *selfv1.Source_Feed, *selfv1.Source_Incoming:
		return s.sourceOfUpdates(stream, in, out)
	case *selfv1.Source_Upload:
		size := from.Upload.GetSize()
		if size <= 0 {
			return out, errkind.Errorf(errkind.Invalid, "read the request: an upload of %d bytes", size)
		}
		out.Upload, out.UploadSize = newUpload(stream, size, receive).next, size
	case *selfv1.Source_ImageHandle:
		file, size, err := s.handles.Image(ownerOf(stream), from.ImageHandle, handles.Trident)
		if err != nil {
			return out, errkind.WithField(err, "start.source.image_handle")
		}
		out.Upload, out.UploadSize = chunksOfFile(file, size), size
	}
	if out.MaxBytes != 0 && out.Upload != nil {
		return out, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: max_bytes is for an image that the daemon fetches, and the caller sends this one"), "start.source.max_bytes")
	}
	return out, nil
}

// sourceOfUpdates returns the source that the update feed or the incoming folder has at this
// time. The settings in asked take precedence over those of the policy.
func (s *selfServer) sourceOfUpdates(ctx context.Context, in *selfv1.Source, asked fetch.Source) (out fetch.Source, err error) {
	if asked.SHA256 != "" {
		return out, errkind.WithField(errkind.Errorf(errkind.Invalid, "read the request: sha256 is not for the update feed, whose metadata has it, nor for the incoming folder"), "start.source.sha256")
	}
	if from, ok := in.GetFrom().(*selfv1.Source_Feed); ok {
		out, err = s.updates.FeedSource(ctx, from.Feed.GetVersion())
	} else {
		out, err = s.updates.IncomingSource()
	}
	if asked.MaxBytes != 0 {
		out.MaxBytes = asked.MaxBytes
	}
	out.Timeout = asked.Timeout
	return out, err
}

// chunksOfFile returns a function that reads a file as an upload. It closes the file after
// the last byte. A file that is not read to its end is closed by the garbage collector.
func chunksOfFile(file *os.File, size int64) func(context.Context) ([]byte, error) {
	at := int64(0)
	return func(ctx context.Context) ([]byte, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if at == size {
			return nil, errors.Join(io.EOF, file.Close())
		}
		chunk := make([]byte, min(maxChunk, size-at))
		if _, err := file.ReadAt(chunk, at); err != nil {
			return nil, fmt.Errorf("read the image of the handle: %w", err)
		}
		at += int64(len(chunk))
		return chunk, nil
	}
}

func trialFromWire(in *selfv1.Trial) (selfservice.Trial, error) {
	soak, err := durationFromWire("soak", in.GetSoak())
	if err != nil {
		return selfservice.Trial{}, err
	}
	deadline, err := durationFromWire("deadline", in.GetDeadline())
	if err != nil {
		return selfservice.Trial{}, err
	}
	pause, ok := map[selfv1.Pause]string{
		selfv1.Pause_PAUSE_UNSPECIFIED: "", selfv1.Pause_PAUSE_BEFORE_ACTIVATE: selfservice.PauseBeforeActivate,
		selfv1.Pause_PAUSE_BEFORE_RESTART: selfservice.PauseBeforeRestart,
	}[in.GetPause()]
	if !ok {
		return selfservice.Trial{}, errkind.Errorf(errkind.Invalid, "read the request: %d is not a pause that this version knows", in.GetPause())
	}
	return selfservice.Trial{
		Soak: soak, Deadline: deadline, PauseBefore: pause,
		AllowDowngrade: in.GetAllowDowngrade(), AllowReadOnlyUsr: in.GetAllowReadOnlyUsr(),
	}, nil
}

func durationFromWire(name string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() < 0 {
		return 0, errkind.Errorf(errkind.Invalid, "read the request: %s is %d.%09d s, which is not a duration from 0 on", name, d.GetSeconds(), d.GetNanos())
	}
	return d.AsDuration(), nil
}

func statusToWire(s selfservice.Status) *selfv1.GetStatusResponse {
	out := &selfv1.GetStatusResponse{
		RunningVersion: s.Running, Origin: selfv1.Origin_ORIGIN_BASE,
		BaseVersion: s.Base, ActiveVersion: s.Active, Merged: s.Merged, Verity: s.Verity, RollbackTarget: s.RollbackTarget,
		Images: mapSlice(s.Images, imageToWire), Blocked: mapSlice(s.Blocked, blockedToWire),
		PolicyEnforced: s.PolicyEnforced, Faults: mapSlice(s.Faults, textToWire),
	}
	for _, c := range s.Trusted {
		out.Trusted = append(out.Trusted, &selfv1.TrustedCertificate{
			Subject: textToWire(c.Subject), Fingerprint: c.Fingerprint, NotAfter: timeToWire(c.NotAfter), Path: c.Path,
		})
	}
	if s.FromExtension {
		out.Origin = selfv1.Origin_ORIGIN_EXTENSION
	}
	if s.Operation != nil {
		out.Operation = operationToWire(*s.Operation)
	}
	if s.Last != nil {
		out.Last = entryToWire(*s.Last)
	}
	return out
}

func imageToWire(i selfservice.Image) *selfv1.Image {
	return &selfv1.Image{
		Version: i.Version, RootHash: i.RootHash, Size: i.Size, StagedTime: timeToWire(i.Staged), Active: i.Active, Previous: i.Previous,
	}
}

func blockedToWire(b selfservice.Blocked) *selfv1.BlockedVersion {
	return &selfv1.BlockedVersion{
		Version: b.Version, Reason: textToWire(b.Reason), Time: timeToWire(b.Time), OperationId: b.Operation, Evidence: b.Evidence,
	}
}

func entryToWire(e selfservice.Entry) *selfv1.HistoryEntry {
	return &selfv1.HistoryEntry{
		OperationId: e.Operation, Kind: e.Kind, FromVersion: e.From, ToVersion: e.To, Phase: phaseToWire(e.Phase),
		Failure: failureToWire(e.Failure), StartTime: timeToWire(e.Start), EndTime: timeToWire(e.End), Evidence: e.Evidence,
	}
}
