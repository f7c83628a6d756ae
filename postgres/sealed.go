package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// partTable is the table of one part of the log, quoted.
func (s *Store) partTable(n int) string {
	return fmt.Sprintf("%s.event_%d", s.quoted, n)
}

// readSealed reads from where the ticks are gone: the order of the events is
// written into their rows. It is asked when the tick before first is not in
// the table, which means that the cursor is in the sealed parts or that the
// log lost it.
//
// The last tick of the last sealed part may go on in the part after it, so
// that tick is read by its snapshot, which is kept with the one before it.
func (r *readCall) readSealed(ctx context.Context, after courante.Cursor, first int64) ([]courante.Event, courante.Cursor, error) {
	parts, err := r.readParts(ctx, r.conn)
	if err != nil {
		return nil, after, err
	}
	end := lastSealedTick(parts) // read up to here, exclusive
	if after.Tick > 0 {
		epoch, hash, err := r.sealedTick(ctx, r.conn, after.Tick)
		if errors.Is(err, courante.ErrNotFound) {
			return nil, after, broken(r.name, after, "tick %d is missing: it is neither among the log's ticks nor in its sealed parts", after.Tick)
		}
		if err != nil {
			return nil, after, err
		}
		if err := matchTick(r.name, after, epoch, hash); err != nil {
			return nil, after, err
		}
	}
	if err := attachedAt(r.name, after, parts, first); err != nil {
		return nil, after, err
	}
	if first >= end {
		if after.Tick == 0 {
			return nil, after, nil // a log without ticks
		}
		return nil, after, broken(r.name, after, "tick %d is missing, and it is not in a sealed part", first-1)
	}
	var events []courante.Event
	for _, p := range parts {
		if p.Sealed.IsZero() || p.LastTick < first || len(events) > r.max {
			continue
		}
		// One more than asked for tells whether the last tick is complete. The
		// comparison of rows is what the index answers with one search.
		rows, err := r.conn.Query(ctx, "select "+logColumns+" from "+r.partTable(p.N)+
			" where (tick, position) > ($1, $2) and tick < $3 order by tick, position limit $4",
			inBinary, after.Tick, after.Position, end, r.max+1-len(events))
		if err != nil {
			return nil, after, err
		}
		if events, err = r.scanner.scanEvents(rows, events); err != nil {
			return nil, after, err
		}
	}
	next := courante.Cursor{Tick: end - 1, Position: courante.MaxPosition}
	if len(events) > r.max {
		last := events[r.max-1]
		next.Tick = last.Tick
		if events[r.max].Tick == last.Tick {
			next.Position = last.Position
		}
		events = events[:r.max]
	}
	if next.Epoch, next.Hash, err = r.sealedTick(ctx, r.conn, next.Tick); err != nil {
		return nil, after, err
	}
	return events, next, r.setHashes(ctx, events)
}

// setHashes sets the hash of its tick in each of the events, which are in
// order.
func (r *readCall) setHashes(ctx context.Context, events []courante.Event) error {
	if len(events) == 0 {
		return nil
	}
	rows, err := r.conn.Query(ctx, "select first, hashes from "+r.quoted+`.sealed_tick
		where first >= (select max(first) from `+r.quoted+`.sealed_tick where first <= $1) and first <= $2 order by first`,
		events[0].Tick, events[len(events)-1].Tick)
	if err != nil {
		return err
	}
	var first int64
	var hashes []byte
	_, err = pgx.ForEachRow(rows, []any{&first, &hashes}, func() error {
		for len(events) > 0 && events[0].Tick < first+int64(len(hashes)/8) {
			events[0].TickHash = binary.BigEndian.Uint64(hashes[(events[0].Tick-first)*8:])
			events = events[1:]
		}
		return nil
	})
	if err == nil && len(events) > 0 {
		err = fmt.Errorf("the hash of tick %d is missing", events[0].Tick)
	}
	return err
}

// checkAttached fails if something that a reader from the tick on needs is
// detached by now.
func (r *readCall) checkAttached(ctx context.Context, after courante.Cursor, first int64) error {
	parts, err := r.readParts(ctx, r.conn)
	if err != nil {
		return err
	}
	return attachedAt(r.name, after, parts, first)
}

// attachedAt fails if one of the parts that a reader from the tick on needs is
// detached.
func attachedAt(log string, after courante.Cursor, parts []Part, first int64) error {
	for _, p := range parts {
		if !p.Detached.IsZero() && p.LastTick >= first {
			last := lastDetached(parts)
			return broken(log, after, "the log begins at part %d now: part %d, with ticks %d to %d, was detached; %s", last+1, p.N, p.FirstTick, p.LastTick, attachFirst(log, last))
		}
	}
	return nil
}

func lastSealedTick(parts []Part) int64 {
	last := int64(0)
	for _, p := range parts {
		if !p.Sealed.IsZero() {
			last = max(last, p.LastTick)
		}
	}
	return last
}

// sealedTickSpan is how many hashes a row of sealed_tick holds at most: 2 kB,
// the size up to which PostgreSQL keeps a value in its row.
const sealedTickSpan = 240

// sealedTick returns what is kept of a tick that is behind a sealed part;
// ErrNotFound if it is not behind one.
func (s *Store) sealedTick(ctx context.Context, q queryer, n int64) (epoch int32, hash uint64, err error) {
	var first int64
	var hashes []byte
	err = q.QueryRow(ctx, "select first, epoch, hashes from "+s.quoted+
		".sealed_tick where first <= $1 order by first desc limit 1", n).Scan(&first, &epoch, &hashes)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && n-first >= int64(len(hashes)/8) {
		return 0, 0, courante.ErrNotFound
	}
	if err != nil {
		return 0, 0, err
	}
	return epoch, binary.BigEndian.Uint64(hashes[(n-first)*8:]), nil
}
