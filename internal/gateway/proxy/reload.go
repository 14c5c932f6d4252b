package proxy

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/limit"
)

func boundsOf(st *state) limit.Bounds {
	p := st.config.Limits.PerIdentity
	return limit.Bounds{CallsPerSecond: p.CallsPerSecond, Streams: p.Streams, Connections: p.Connections, BytesPerSecond: p.BytesPerSecond}
}

// watch reloads changed files, and ends sessions whose login is not valid any more.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	// Nothing has been trimmed: the start has left something behind, too.
	trimmed, before := ^s.used.Load(), s.used.Load()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		// Idle connections are most of what a gateway has. What handshakes and calls left
		// behind returns to the kernel once nothing happens.
		now := s.used.Load()
		if now == before && now != trimmed {
			runtime.GC() // each collection halves stacks that are too large
			debug.FreeOSMemory()
			trimmed = now
		}
		before = now
		if s.state.Load().hasChanged() {
			_ = s.Reload() // logged
		} else {
			s.endInvalid()
		}
	}
}

// Reload reads all files again. After a failure, which it also logs, the previous settings
// stay.
func (s *Server) Reload() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	st, err := readState(s.path)
	if err != nil {
		s.refused.warn("the previous settings stay", "error", err, "hint", errkind.Hint(err))
		return err
	}
	s.state.Store(st)
	s.callers.SetBounds(boundsOf(st))
	s.logger.Info("settings, certificates and tokens are reloaded")
	s.endInvalid()
	return nil
}

// endInvalid ends the sessions that have lost a right that they had, or whose certificate is
// not valid any more: a running stream must not outlive the permission for it.
func (s *Server) endInvalid() {
	st, now := s.state.Load(), s.now()
	for _, c := range s.open() {
		if why := c.invalidity(st, now); why != "" {
			s.logger.Warn("connection ended", "peer", c.peer.String(), "reason", why)
			c.abort()
		}
	}
}
