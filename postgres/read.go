package postgres

import (
	"context"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// logReader is what a store keeps for the readers of its log. The zero value
// is ready.
type logReader struct {
	ticks tickCache
	large largeTicks
}

// ReadLog returns events after the cursor in the log's total order, at most
// max of them, and the cursor behind the last one; see [courante.Store]. The
// returned cursor has Position MaxPosition when its tick is behind it.
//
// A call takes two short statements: the ticks that it does not know yet, and
// the events of as many ticks as promise about max events. Both run over one
// connection, and so on one server: were it to fail over in between, ticks of
// the lost server would be read from a log that lacks some of their events.
func (s *Store) ReadLog(ctx context.Context, after courante.Cursor, max int) ([]courante.Event, courante.Cursor, error) {
	doing := "read log " + s.name
	conn, err := s.db.log.pool.Acquire(ctx)
	if err != nil {
		return nil, after, translate(doing, err)
	}
	defer conn.Release()
	r := readCall{Store: s, conn: conn, scanner: scanner{log: s.name}, max: min(max, 1<<20)}
	if r.max < 1 {
		r.max = 1
	}
	next := after
	for {
		events, end, err := r.read(ctx, next)
		if err != nil {
			return nil, after, translate(doing, err)
		}
		// A cursor inside a tick may have the whole of it behind it; then
		// there is nothing to return yet and more to read.
		if len(events) > 0 || end == next {
			return events, end, nil
		}
		next = end
	}
}

// Head is the cursor behind the last tick; of a log without ticks, the start.
func (s *Store) Head(ctx context.Context) (courante.Cursor, error) {
	doing := "find the head of log " + s.name
	rows, err := s.db.log.pool.Query(ctx, "select n, epoch, high, snapshot::text from "+s.db.schema+
		".tick where log = $1 order by n desc limit 1", s.name)
	if err != nil {
		return courante.Cursor{}, translate(doing, err)
	}
	ticks, err := scanTicks(rows)
	if err != nil || len(ticks) == 0 {
		return courante.Cursor{}, translate(doing, err)
	}
	return behind(ticks[0]), nil
}

// behind is the cursor with the whole tick behind it.
func behind(t courante.Tick) courante.Cursor {
	return courante.Cursor{Epoch: t.Epoch, Tick: t.N, Position: courante.MaxPosition, Hash: t.Hash()}
}

// readCall is one call of ReadLog.
type readCall struct {
	*Store
	conn     *pgxpool.Conn
	scanner  scanner
	max      int
	detached int64 // tick up to which the log was detached, as the last query for ticks said
}

// read returns the next events and the cursor behind them. No events and the
// same cursor is the end of the log.
func (r *readCall) read(ctx context.Context, after courante.Cursor) ([]courante.Event, courante.Cursor, error) {
	first := after.Tick + 1 // the tick to read from
	if after.Tick > 0 && after.Position != courante.MaxPosition {
		first = after.Tick
	}
	// The tick before the first says what is new in it. Ticks begin at 1.
	ticks, err := r.ticksFrom(ctx, max(first-1, 1))
	if err != nil {
		return nil, after, err
	}
	if len(ticks) == 0 {
		return r.readSealed(ctx, after, first)
	}
	if err := checkCursor(r.name, after, ticks); err != nil {
		return nil, after, err
	}
	if first <= r.detached {
		// The last ticks of a sealed part stay when it is detached.
		return r.readSealed(ctx, after, first)
	}
	var before courante.Tick
	window := ticks
	if first > 1 {
		before, window = ticks[0], ticks[1:]
	}
	if len(window) == 0 {
		return nil, after, nil
	}
	if before.Epoch != window[0].Epoch {
		// Transaction ids start anew: nothing of this epoch was seen before.
		before = courante.Tick{High: before.High}
	}
	return r.readWindow(ctx, after, before, sized(before.High, window, r.max))
}

// sized cuts the window to ticks of one epoch that promise at most max events,
// but at least one tick. high is the highest position before it. Positions
// that were never used make it promise too much, and transactions that were
// long open too little, so it decides nothing else.
func sized(high int64, window []courante.Tick, max int) []courante.Tick {
	n := 1
	for n < len(window) && window[n].Epoch == window[0].Epoch && window[n].High-high <= int64(max) {
		n++
	}
	return window[:n]
}

// windowEvents is the query for what a tick, or many, made visible: $1 epoch,
// $2 xmax of the snapshot before, $3 xmax of the last one, $4 in progress in
// the last one, $5 in progress before and ended in the last one, $6 the first
// tick. This form is PgQ's. A single condition from the xmin before would be
// right as well and get slower for as long as a foreign transaction stays open.
// Its second part looks each transaction up: for "xid = any($5)" a plan that was
// made on an empty log reads the whole epoch.
//
// It gives nothing when what it asks for has just been detached, which may be
// some of it only: the statement looks for that itself, because a look before
// it can be too early. A tick has events, so nothing has no other cause; see
// checkAttached.
func (s *Store) windowEvents(columns string, position string) string {
	attached := " and $6 > (select coalesce(max(last_tick), 0) from " + s.quoted + ".part where detached is not null)"
	return `
	select ` + columns + ` from ` + s.quoted + `.event
	where epoch = $1 and xid >= $2 and xid < $3 and not xid = any($4)` + attached + position + `
	union all
	select ` + columns + ` from unnest($5::xid8[]) as ended cross join lateral (
		select *, ctid from ` + s.quoted + `.event
		where epoch = $1 and xid = ended` + attached + position + `
		offset 0
	) as its`
}

// windowArgs are the first six arguments of windowEvents.
func windowArgs(before courante.Tick, window []courante.Tick) []any {
	last := window[len(window)-1]
	ended := []uint64{}
	for _, xid := range before.Snapshot.InProgress {
		if last.Snapshot.Visible(xid) {
			ended = append(ended, xid)
		}
	}
	open := last.Snapshot.InProgress
	if open == nil {
		open = []uint64{}
	}
	return []any{last.Epoch, before.Snapshot.Xmax, last.Snapshot.Xmax, open, ended, window[0].N}
}

// readWindow reads the events of the ticks, all of one epoch, that come after
// the cursor; before is the tick before them.
func (r *readCall) readWindow(ctx context.Context, after courante.Cursor, before courante.Tick, window []courante.Tick) ([]courante.Event, courante.Cursor, error) {
	if len(window) == 1 && r.reader.large.has(window[0]) {
		return r.readLarge(ctx, after, before, window[0])
	}
	var events []courante.Event
	limit := 2*r.max + 64 // a tick is taken whole or not, so some more than max are normal
	for {
		last := window[len(window)-1]
		args := append(windowArgs(before, window), limit)
		rows, err := r.conn.Query(ctx, r.windowEvents(logColumns, "")+" limit $7", append([]any{inBinary}, args...)...)
		if err != nil {
			return nil, after, err
		}
		room := max(0, min(int64(limit), last.High-before.High+16)) // a restored sequence may be behind
		if events, err = r.scanner.scanEvents(rows, make([]courante.Event, 0, room)); err != nil {
			return nil, after, err
		}
		if len(events) == 0 {
			if err := r.checkAttached(ctx, after, window[0].N); err != nil {
				return nil, after, err
			}
		}
		if len(events) < limit {
			break
		}
		// A large transaction that was open for long has ended in one of these
		// ticks: halving the window finds it.
		if len(window) == 1 {
			return r.readLarge(ctx, after, before, window[0])
		}
		window = window[:len(window)/2]
	}
	events = courante.Order(events, window)
	for len(events) > 0 && after.Covers(&events[0]) {
		events = events[1:]
	}
	if len(events) <= r.max {
		return events, behind(window[len(window)-1]), nil
	}
	last := events[r.max-1]
	end := behind(window[last.Tick-window[0].N])
	if events[r.max].Tick == last.Tick {
		end.Position = last.Position
	}
	return events[:r.max], end, nil
}

// ticksFrom returns consecutive ticks from tick n on, enough for a call, or up
// to the end of the log; none if tick n is not in the table. They are what the
// server has stored now: the last of them was just read there.
func (r *readCall) ticksFrom(ctx context.Context, n int64) ([]courante.Tick, error) {
	cached := r.reader.ticks.from(n)
	if k := covering(cached, r.max); k > 0 {
		stored, err := r.queryTicks(ctx, cached[k-1].N, 1)
		if err != nil {
			return nil, err
		}
		if len(stored) == 1 && same(stored[0], cached[k-1]) {
			return cached[:k], nil
		}
		r.reader.ticks.purge()
		cached = nil
	}
	for {
		from := n
		if len(cached) > 0 {
			from = cached[len(cached)-1].N
		}
		stored, err := r.queryTicks(ctx, from, ticksPerQuery)
		if err != nil {
			return nil, err
		}
		if len(cached) > 0 && (len(stored) == 0 || !same(stored[0], cached[len(cached)-1])) {
			r.reader.ticks.purge()
			cached = nil
			continue
		}
		if len(stored) == 0 || stored[0].N != from {
			return nil, nil
		}
		r.reader.ticks.add(stored)
		if len(cached) == 0 {
			cached = stored
		} else {
			cached = append(cached[:len(cached):len(cached)], stored[1:]...)
		}
		if len(stored) < ticksPerQuery {
			return cached, nil
		}
		if k := covering(cached, r.max); k > 0 {
			return cached, nil
		}
	}
}

// covering is how many of the ticks a call for max events needs, 0 if they are
// not enough to tell. The first two may both be before the events.
func covering(ticks []courante.Tick, max int) int {
	for i := 2; i < len(ticks); i++ {
		if ticks[i].High-ticks[1].High > int64(max) {
			return i + 1
		}
	}
	return 0
}

func same(a, b courante.Tick) bool { return a.N == b.N && a.Hash() == b.Hash() }

func (r *readCall) queryTicks(ctx context.Context, from int64, limit int) ([]courante.Tick, error) {
	rows, err := r.conn.Query(ctx, "select n, epoch, high, snapshot::text, (select coalesce(max(last_tick), 0) from "+r.quoted+
		".part where detached is not null) from "+r.db.schema+".tick where log = $1 and n >= $2 order by n limit $3", r.name, from, limit)
	if err != nil {
		return nil, err
	}
	return scanTicks(rows, &r.detached)
}

// scanTicks reads rows of n, epoch, high and snapshot, and what else there is.
func scanTicks(rows pgx.Rows, more ...any) ([]courante.Tick, error) {
	var ticks []courante.Tick
	var t courante.Tick
	var snapshot string
	_, err := pgx.ForEachRow(rows, append([]any{&t.N, &t.Epoch, &t.High, &snapshot}, more...), func() (err error) {
		t.Snapshot, err = courante.ParseSnapshot(snapshot)
		ticks = append(ticks, t)
		return err
	})
	return ticks, err
}

// checkCursor says whether the cursor continues the log whose ticks begin at
// the cursor's tick or one before it.
func checkCursor(log string, c courante.Cursor, ticks []courante.Tick) error {
	if c.Tick == 0 {
		return nil
	}
	i := c.Tick - ticks[0].N
	if i < 0 || i >= int64(len(ticks)) {
		return broken(log, c, "tick %d is missing: the log ends with tick %d, so the log lost what came after it", c.Tick, ticks[len(ticks)-1].N)
	}
	t := ticks[i]
	return matchTick(log, c, t.Epoch, t.Hash())
}

func matchTick(log string, c courante.Cursor, epoch int32, hash uint64) error {
	if epoch != c.Epoch {
		return broken(log, c, "tick %d is now of epoch %d and the cursor's is of epoch %d: the log lost the cursor's tick and has another in its place", c.Tick, epoch, c.Epoch)
	}
	if hash != c.Hash {
		return broken(log, c, "tick %d has other contents than the one that the cursor was taken from", c.Tick)
	}
	return nil
}

func broken(log string, c courante.Cursor, reason string, args ...any) error {
	return &courante.LogBrokenError{Log: log, Cursor: c, Reason: fmt.Sprintf(reason, args...)}
}
