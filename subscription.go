package courante

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrSubscribed says that a subscriber is there already.
var ErrSubscribed = errors.New("it subscribes already")

// ParkedError says that messages are set aside that somebody has to look at
// first.
type ParkedError struct{ Messages []Parked }

func (e *ParkedError) Error() string {
	if len(e.Messages) == 1 {
		return "1 message is set aside"
	}
	return fmt.Sprintf("%d messages are set aside", len(e.Messages))
}

// AddSubscriber fixes where on a log a service begins that does not subscribe
// to it: with what comes behind the cursor. A service for which nobody did that
// begins at the start of the log. subscriber is the service's store, and by who
// decided it.
//
// It fails with [ErrSubscribed] if the service is there already; one that was
// retired begins anew.
func AddSubscriber(ctx context.Context, subscriber Store, log string, from Cursor, by string) error {
	for {
		epochs, err := subscriber.LaneEpochs(ctx, subscriber.Log(), log)
		if err != nil {
			return err
		}
		if n := len(epochs); n > 0 && !epochs[n-1].Retired {
			return fmt.Errorf("add subscriber %s to log %s: %w", subscriber.Log(), log, ErrSubscribed)
		}
		// Whoever retired it may have been interrupted.
		if err := takeOverAll(ctx, subscriber, epochs); err != nil {
			return err
		}
		err = subscriber.AddLaneEpoch(ctx, LaneEpoch{Subscriber: subscriber.Log(), Log: log, N: len(epochs) + 1, From: from, By: by})
		if !errors.Is(err, ErrFenced) { // else somebody was faster; look again
			return err
		}
	}
}

// RetireSubscriber ends the subscription of a service to a log, whose end is
// given. Its lanes stop, in whatever process they run, what they have not
// handled they never will, and no part of the log is kept for them. by is who
// decided it.
//
// Messages of the log that are set aside stand in its way, as *[ParkedError],
// unless they are to be discarded; then they are returned. It fails with
// ErrNotFound if the service does not subscribe to the log. To retire what is
// retired does what is left to do.
func RetireSubscriber(ctx context.Context, subscriber Store, log string, end Cursor, by string, discard bool) (discarded []Parked, err error) {
	for {
		epochs, err := subscriber.LaneEpochs(ctx, subscriber.Log(), log)
		if err != nil {
			return nil, err
		}
		n := len(epochs)
		if n == 0 {
			return nil, fmt.Errorf("retire subscriber %s of log %s: %w", subscriber.Log(), log, ErrNotFound)
		}
		if aside, err := parkedOf(ctx, subscriber, log); err != nil {
			return nil, err
		} else if len(aside) > 0 && !discard {
			return nil, &ParkedError{aside}
		}
		if !epochs[n-1].Retired {
			retired := LaneEpoch{Subscriber: subscriber.Log(), Log: log, N: n + 1, From: end, Retired: true, By: by}
			err := subscriber.AddLaneEpoch(ctx, retired)
			if errors.Is(err, ErrFenced) {
				continue // a new program declared the next one just now
			}
			if err != nil {
				return nil, err
			}
		}
		if err := takeOverAll(ctx, subscriber, epochs); err != nil {
			return nil, err
		}
		// From here on nothing more is set aside.
		return discardParked(ctx, subscriber, log, by, discard)
	}
}

func discardParked(ctx context.Context, subscriber Store, log, by string, discard bool) ([]Parked, error) {
	for {
		aside, err := parkedOf(ctx, subscriber, log)
		if err != nil || len(aside) == 0 {
			return nil, err
		}
		if !discard {
			return nil, &ParkedError{aside}
		}
		var ids []int64
		for _, p := range aside {
			ids = append(ids, p.ID)
		}
		err = commit(ctx, subscriber, Changes{Unpark: ids, Discard: "the subscriber was retired by " + by})
		if !errors.Is(err, ErrFenced) { // else one was resolved just now
			return aside, err
		}
	}
}

func parkedOf(ctx context.Context, subscriber Store, log string) ([]Parked, error) {
	all, err := subscriber.Parked(ctx, subscriber.Log(), ParkedQuery{})
	if err != nil {
		return nil, err
	}
	var aside []Parked
	for _, p := range all {
		if p.Event.Log == log {
			aside = append(aside, p)
		}
	}
	return aside, nil
}

// takeOverAll takes the lanes of all epochs away from whoever runs them.
func takeOverAll(ctx context.Context, subscriber Store, epochs []LaneEpoch) error {
	for _, e := range epochs {
		if err := takeOver(ctx, subscriber, e); err != nil {
			return err
		}
	}
	return nil
}

// takeOver appends to every lane of an epoch a row that changes nothing but the
// number: an owner that does not know of the next epoch yet fails at its next
// commit and looks again. Lanes that are past the border need it too, because
// where they ended must not move any more once the next epoch has begun.
func takeOver(ctx context.Context, subscriber Store, e LaneEpoch) error {
	for k := 0; k < e.Lanes; {
		p, err := laneProgress(ctx, subscriber, e, k)
		if err != nil {
			return err
		}
		p.N++
		p.Note = json.RawMessage(fmt.Sprintf(`{"next_lane_epoch":%d}`, e.N+1))
		err = commit(ctx, subscriber, Changes{Progress: []Progress{p}})
		if errors.Is(err, ErrFenced) {
			continue // its owner was faster; again
		}
		if err != nil {
			return err
		}
		k++
	}
	return nil
}

// laneProgress reads what a lane has recorded; a lane without a record stands at
// the beginning of its epoch.
func laneProgress(ctx context.Context, subscriber Store, e LaneEpoch, k int) (Progress, error) {
	l := Lane{Subscriber: e.Subscriber, Log: e.Log, Epoch: e.N, K: k}
	p, err := subscriber.Progress(ctx, l)
	if errors.Is(err, ErrNotFound) {
		return Progress{Lane: l, Cursor: e.From}, nil
	}
	return p, err
}

// firstPlace reads the last record of a lane that is no subscriber's. The first
// time there is none, and it makes itself known, so that the store keeps room
// for it.
func firstPlace(ctx context.Context, store Store, lane Lane, lanes int) (Progress, error) {
	p, err := store.Progress(ctx, lane)
	if !errors.Is(err, ErrNotFound) {
		return p, err
	}
	err = store.AddLaneEpoch(ctx, LaneEpoch{Subscriber: lane.Subscriber, Log: lane.Log, N: lane.Epoch, Lanes: lanes})
	if err != nil && !errors.Is(err, ErrFenced) {
		return Progress{}, err
	}
	p, err = store.Progress(ctx, lane)
	if errors.Is(err, ErrNotFound) {
		return Progress{Lane: lane}, nil
	}
	return p, err
}

// commit writes changes that need nothing loaded.
func commit(ctx context.Context, s Store, c Changes) error {
	unit, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer unit.Rollback(ctx)
	_, err = unit.Commit(ctx, c)
	return err
}

// retiredError stops the lanes of a subscriber that was retired.
type retiredError struct {
	epoch  LaneEpoch
	before []LaneEpoch
}

func (e *retiredError) Error() string {
	by := ""
	if e.epoch.By != "" {
		by = " by " + e.epoch.By
	}
	return fmt.Sprintf("retired as a subscriber of log %s on %s%s, so it handles nothing of it; to have it begin again: courante subscriber add %s --log %s --from now",
		e.epoch.Log, e.epoch.Began.Format(time.DateTime), by, e.epoch.Subscriber, e.epoch.Log)
}
