package app

import (
	"context"
	"errors"
	"time"
)

const (
	requestsEnd  = 10 * time.Second // longer ones are cut; what they did stays done
	serverEnd    = 30 * time.Second // then PostgreSQL recovers at the next start instead
	telemetryEnd = 3 * time.Second  // a collector that is away must not hold us
)

// stop stops in steps, each of which needs what comes after it: no new
// requests, and those under way are answered; the runtime finishes what it has
// begun and records its place; PostgreSQL writes a checkpoint.
func (s *system) stop(ctx context.Context) error {
	if !s.p.Globals.JSON {
		s.p.Println("\nStopping; Ctrl-C again stops at once")
	}
	return s.stopWith(ctx, s.p.Step)
}

// stopQuietly stops what was started of a system that did not come up.
func (s *system) stopQuietly(ctx context.Context) error {
	return s.stopWith(ctx, func(string, ...any) {})
}

func (s *system) stopWith(ctx context.Context, say func(string, ...any)) error {
	var errs []error
	switch {
	case s.http != nil:
		say("1/4 requests: no new ones, those under way are answered")
		limit, cancel := context.WithTimeout(ctx, requestsEnd)
		err := s.http.Shutdown(limit)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.http.Close()
		}
		errs = append(errs, err)
	case s.listener != nil:
		errs = append(errs, s.listener.Close())
	}
	if s.debugger != nil {
		errs = append(errs, s.debugger.http.Close())
	}
	if s.runtime != nil {
		say("2/4 runtime: what was begun is finished, the rest waits in the log")
		s.runtime.cancel()
		s.runtime.done.Wait()
	}
	if s.broker != nil {
		s.broker.Close()
	}
	if s.cache != nil {
		s.cache.Close()
	}
	if s.env != nil {
		for _, stop := range s.env.stops {
			stop()
		}
	}
	if s.observed != nil {
		s.observed()
	}
	if s.db != nil {
		s.db.Close()
	}
	if s.server != nil {
		say("3/4 PostgreSQL: a checkpoint is written")
		errs = append(errs, removeConnection(s.dir))
		limit, cancel := context.WithTimeout(ctx, serverEnd)
		errs = append(errs, s.server.Stop(limit))
		cancel()
	}
	if s.tel != nil {
		say("4/4 telemetry: the last of it is sent")
		limit, cancel := context.WithTimeout(ctx, telemetryEnd)
		if err := s.tel.Shutdown(limit); err != nil {
			s.p.Log.Warn("telemetry was lost", "error", err)
		}
		cancel()
	}
	return errors.Join(errs...)
}
