package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
)

// A subscriber stops with *courante.LogBrokenError when its cursor does not fit
// the log any more, because the log lost its last events: it was restored from
// a backup, or a standby was promoted that had not received them. Nobody can
// mend that without a decision. A repair says what is known, and carries the
// decision out.

// RepairTo is the decision: where the subscriber goes on.
type RepairTo string

const (
	// RepairLastCommon goes back to the last recorded place at which the log
	// is still the one that the subscriber knew. What it handled behind that
	// place and the log still has, it handles again.
	RepairLastCommon RepairTo = "last-common"
	// RepairStart handles the whole log again.
	RepairStart RepairTo = "start"
	// RepairNow goes on at the end of the log and skips what is before it.
	RepairNow RepairTo = "now"
)

// Repair is what is known of a subscriber's place in a log, and the means to
// move it.
type Repair struct {
	Head  courante.Cursor // the end of the log as it is now
	Lanes []LaneRepair

	subscriber, source *Store
	epochs             []courante.LaneEpoch
}

// LaneRepair is one lane that has not finished its lane epoch.
type LaneRepair struct {
	Last       courante.Progress        // what it recorded last; N is 0 if nothing, the cursor is where its epoch begins then
	Broken     *courante.LogBrokenError // why the cursor does not fit; nil if it fits
	LastCommon courante.Cursor          // the newest of its recorded places that fits; zero, the start, if none does
}

// Broken reports whether any lane cannot go on.
func (r *Repair) Broken() bool {
	for _, l := range r.Lanes {
		if l.Broken != nil {
			return true
		}
	}
	return false
}

// PlanRepair finds out where the lanes of the subscriber s stand in the log of
// source. It changes nothing. ErrNotFound if s never subscribed to it.
func (s *Store) PlanRepair(ctx context.Context, source *Store) (*Repair, error) {
	r := &Repair{subscriber: s, source: source}
	var err error
	if r.epochs, err = s.LaneEpochs(ctx, s.name, source.name); err != nil {
		return nil, err
	}
	if len(r.epochs) == 0 {
		return nil, fmt.Errorf("postgres: %s does not subscribe to log %s: %w", s.name, source.name, courante.ErrNotFound)
	}
	if r.Head, err = source.Head(ctx); err != nil {
		return nil, err
	}
	for i, epoch := range r.epochs {
		for k := range epoch.Lanes {
			lane, err := r.lane(ctx, epoch, k)
			if err != nil {
				return nil, err
			}
			if i+1 < len(r.epochs) && !lane.Last.Cursor.Before(r.epochs[i+1].From) {
				continue // finished
			}
			r.Lanes = append(r.Lanes, lane)
		}
	}
	return r, nil
}

func (r *Repair) lane(ctx context.Context, epoch courante.LaneEpoch, k int) (LaneRepair, error) {
	lane := courante.Lane{Subscriber: r.subscriber.name, Log: r.source.name, Epoch: epoch.N, K: k}
	last, err := r.subscriber.Progress(ctx, lane)
	if errors.Is(err, courante.ErrNotFound) {
		last, err = courante.Progress{Lane: lane, Cursor: epoch.From}, nil
	}
	if err != nil {
		return LaneRepair{}, err
	}
	l := LaneRepair{Last: last}
	l.Broken, err = r.fits(ctx, last.Cursor)
	switch {
	case err != nil:
		return l, err
	case l.Broken == nil:
		l.LastCommon = last.Cursor
		return l, nil
	}
	l.LastCommon, err = r.lastCommon(ctx, last, epoch.From)
	return l, err
}

// fits compares a cursor with the log, by the check that every reader makes.
func (r *Repair) fits(ctx context.Context, c courante.Cursor) (*courante.LogBrokenError, error) {
	_, _, err := r.source.ReadLog(ctx, c, 1)
	var broken *courante.LogBrokenError
	if errors.As(err, &broken) {
		return broken, nil
	}
	return nil, err
}

// lastCommon searches the recorded places of a lane for the newest that fits.
// A log that lost its tail agrees with its past up to some place and nowhere
// behind it, so halving finds it: 20 looks for a million rows. What the
// partitions of progress still hold is what can be searched; the place where
// the lane's epoch begins comes before them, and the start before that.
func (r *Repair) lastCommon(ctx context.Context, last courante.Progress, from courante.Cursor) (courante.Cursor, error) {
	first, err := r.subscriber.firstProgress(ctx, last.Lane)
	if err != nil {
		return courante.Cursor{}, err
	}
	best := courante.Cursor{}
	if broken, err := r.fits(ctx, from); err != nil {
		return best, err
	} else if broken == nil {
		best = from
	}
	for low, high := first, last.N; low < high; {
		middle := low + (high-low)/2
		c, err := r.subscriber.progressAt(ctx, last.Lane, middle)
		if errors.Is(err, courante.ErrNotFound) {
			return best, nil // never recorded anything
		}
		if err != nil {
			return best, err
		}
		broken, err := r.fits(ctx, c)
		if err != nil {
			return best, err
		}
		if broken != nil {
			high = middle
			continue
		}
		best, low = c, middle+1
	}
	return best, nil
}

// firstProgress is the lowest number of the lane that is still recorded.
func (s *Store) firstProgress(ctx context.Context, lane courante.Lane) (int64, error) {
	var n *int64
	err := s.db.log.pool.QueryRow(ctx, s.sql(`
		select min(n) from {schema}.progress where subscriber = $1 and log = $2 and lane_epoch = $3 and k = $4`),
		lane.Subscriber, lane.Log, lane.Epoch, lane.K).Scan(&n)
	if err != nil || n == nil {
		return 0, translate("find the first progress", err)
	}
	return *n, nil
}

// progressAt is the place that the lane had recorded by the number; numbers may
// have gaps, where maintenance moved an idle lane on.
func (s *Store) progressAt(ctx context.Context, lane courante.Lane, n int64) (courante.Cursor, error) {
	var c courante.Cursor
	var hash int64
	err := s.db.log.pool.QueryRow(ctx, s.sql(`
		select epoch, tick, position, hash from {schema}.progress
		where subscriber = $1 and log = $2 and lane_epoch = $3 and k = $4 and n <= $5
		order by n desc limit 1`), lane.Subscriber, lane.Log, lane.Epoch, lane.K, n).
		Scan(&c.Epoch, &c.Tick, &c.Position, &hash)
	c.Hash = uint64(hash)
	return c, translate("read a recorded progress", err)
}

// Apply moves every lane to where the decision says. It begins a new lane epoch
// there, with the filter and lanes of the last one, and ends the unfinished
// epochs: each of their lanes gets a further row of progress, which also fences
// off an owner that still runs. The history of what was recorded stays.
// Processes that have stopped the subscriber have to be started again.
func (r *Repair) Apply(ctx context.Context, to RepairTo) error {
	doing := fmt.Sprintf("postgres: repair %s on log %s", r.subscriber.name, r.source.name)
	newest := r.epochs[len(r.epochs)-1]
	if to == RepairStart {
		if _, err := r.source.Start(ctx); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	places, from, err := r.places(newest, to)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	next := newest
	next.N, next.From = newest.N+1, from
	var rows []courante.Progress
	for _, l := range r.Lanes {
		p := l.Last
		p.N++
		p.Note = nil
		if p.Epoch == newest.N {
			// What the new epoch's lane skips as handled before is what lies
			// before this place, and not before the lost one.
			p.Cursor = places[p.K]
		} else {
			p.Cursor = r.epochs[p.Epoch].From // epochs count from 1: this is the end of it
		}
		rows = append(rows, p)
	}
	// Numbers begin at 1 unless that range was dropped, see Maintain.
	first, _, err := r.subscriber.progressRange(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	for k, c := range places {
		rows = append(rows, courante.Progress{
			Lane: courante.Lane{Subscriber: newest.Subscriber, Log: newest.Log, Epoch: next.N, K: k}, N: max(first, 1), Cursor: c})
	}
	return r.record(ctx, doing, next, rows)
}

// record writes the epoch and all rows in one transaction. It goes past the
// store's units on purpose: an epoch without the rows would leave lanes that
// skip what they must not.
func (r *Repair) record(ctx context.Context, doing string, epoch courante.LaneEpoch, rows []courante.Progress) error {
	s := r.subscriber
	err := pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, s.sql(`
			insert into {schema}.lane_epoch (n, lanes, epoch, tick, position, hash, subscriber, log, types)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`),
			epoch.N, epoch.Lanes, epoch.From.Epoch, epoch.From.Tick, epoch.From.Position, int64(epoch.From.Hash),
			epoch.Subscriber, epoch.Log, epoch.Types)
		if err != nil {
			return err
		}
		for _, p := range rows {
			_, err := tx.Exec(ctx, s.sql(`
				insert into {schema}.progress (n, epoch, lane_epoch, k, tick, position, hash, subscriber, log)
				values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`),
				p.N, p.Cursor.Epoch, p.Epoch, p.K, p.Cursor.Tick, p.Cursor.Position, int64(p.Cursor.Hash), p.Subscriber, p.Log)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if hasCode(err, "23505") {
		return fmt.Errorf("%s: the subscriber is running and has moved on meanwhile: stop it, or look again: %w", doing, courante.ErrFenced)
	}
	return translateCommit(doing, err)
}

// places is where each lane of the new epoch begins, and the earliest of them.
func (r *Repair) places(newest courante.LaneEpoch, to RepairTo) ([]courante.Cursor, courante.Cursor, error) {
	places := make([]courante.Cursor, newest.Lanes)
	switch to {
	case RepairStart:
		return places, courante.Cursor{}, nil
	case RepairNow:
		for k := range places {
			places[k] = r.Head
		}
		return places, r.Head, nil
	case RepairLastCommon:
	default:
		return nil, courante.Cursor{}, fmt.Errorf("%q is no place to go on; choose %s, %s or %s", to, RepairLastCommon, RepairStart, RepairNow)
	}
	from, older := r.Lanes[0].LastCommon, false
	for _, l := range r.Lanes {
		if l.LastCommon.Before(from) {
			from = l.LastCommon
		}
		older = older || l.Last.Epoch != newest.N
	}
	for k := range places {
		places[k] = from
	}
	if older {
		// An epoch before spread the keys over its lanes in another way, so
		// that only the earliest place of all skips nothing of any key.
		return places, from, nil
	}
	for _, l := range r.Lanes {
		places[l.Last.K] = l.LastCommon
	}
	return places, from, nil
}
