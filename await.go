package courante

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Await returns when the service has processed the log of the token up to the
// command that the token stands for, so that its answers are at least that
// fresh. A service that does not consume that log need not wait, and neither
// does the one whose log it is: its own states are read from the source of
// truth. projections are waited for as well; one that was paused before gives
// ErrPaused. The error is ctx's when it ends first, and a *TokenEpochError when
// the token is of another epoch of the database.
func (s *Service) Await(ctx context.Context, t Token, projections ...string) error {
	if t == (Token{}) || s.node == nil {
		return nil
	}
	for _, name := range projections {
		if err := s.node.awaitProjection(ctx, name, t); err != nil {
			return fmt.Errorf("projection %s: %w", name, err)
		}
	}
	log := s.node.rt.storeOf(t.Log)
	switch {
	case log != nil:
	case contains(s.node.sources, t.Log):
		return Reject("conflict", "service %s cannot tell whether it is as fresh as a token of %s: its process cannot read that log", s.name, t.Log)
	default:
		return nil // of another database: this service does not consume it
	}
	if t.Log == s.name && !s.node.rt.cfg.Stepped {
		wrong, err := s.node.locates.call(ctx, t)
		return errors.Join(err, wrong)
	}
	consumed := contains(s.node.sources, t.Log) && t.Log != s.name
	for {
		changed := s.node.progressed()
		place, err := log.Locate(ctx, t)
		switch {
		case err != nil && !errors.Is(err, ErrNotFound):
			return err
		case !consumed, err == nil && s.node.reached(t.Log, place):
			return nil
		}
		var poll <-chan time.Time
		if err == nil && s.node.share != nil {
			there, err := s.node.everywhere(ctx, t.Log, place)
			if there || err != nil {
				return err
			}
			poll = time.After(sharedPoll)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-poll:
		}
	}
}

// Read runs a query when the service is at least as fresh as the command that
// gave the token. It waits for that at most as long as it is told, and then
// gives a *Rejection with code "conflict". What the token promises is waited
// for even where the query finds nothing: an ErrNotFound is final only once the
// command is visible. The text of a token is empty, or as [Token.String] writes
// it; anything else gives an error that wraps [ErrBadToken].
//
// projections names those that the query reads and that follow the logs at a
// distance: they are waited for too. One that is paused before the command is
// not waited for; the rejection says so.
func (s *Service) Read(ctx context.Context, token string, wait time.Duration, query func() error, projections ...string) error {
	t, err := ParseToken(token)
	if err != nil {
		return err
	}
	wait = max(wait, oneLook)
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err = s.Await(limited, t, projections...); err == nil {
		if err = query(); !errors.Is(err, ErrNotFound) || t.Log != s.name || s.node == nil {
			return err
		}
		if err = s.awaitVisible(limited, t); err == nil {
			return query()
		}
	}
	if errors.Is(err, ErrPaused) {
		return Reject("conflict", "what answers this is paused, and not as fresh as the token asks for; ask without the token for what it has")
	}
	if limited.Err() != nil && ctx.Err() == nil {
		return Reject("conflict", "not yet as fresh as the token asks for, after %s; try again, or with a longer Courante-Wait", wait)
	}
	return err
}

const (
	// oneLook is the least that a reader waits: looking whether the service is
	// fresh enough takes a round trip to the database.
	oneLook = 50 * time.Millisecond
	// visiblePoll is how often somebody looks for a command that he has a token
	// of and that is not there: after a failover, and hardly ever else.
	visiblePoll = 20 * time.Millisecond
)

// awaitVisible returns when a tick of the service's own log sees the command.
func (s *Service) awaitVisible(ctx context.Context, t Token) error {
	for {
		if _, err := s.node.store.Locate(ctx, t); !errors.Is(err, ErrNotFound) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(visiblePoll):
		}
	}
}
