package postgres

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// Start is the cursor at the beginning of the log, for who wants to read all of
// it. When parts are detached there is no such place, and the error says so.
func (s *Store) Start(ctx context.Context) (courante.Cursor, error) {
	parts, err := s.Parts(ctx)
	if err != nil {
		return courante.Cursor{}, err
	}
	if n := lastDetached(parts); n > 0 {
		return courante.Cursor{}, fmt.Errorf("log %s begins at part %d now, on %s: what is before it was detached; %s",
			s.name, n+1, parts[n].Began.UTC().Format(time.DateTime), attachFirst(s.name, n))
	}
	return courante.Cursor{}, nil
}

// First is the cursor at which the log begins, for who wants to see what there
// still is. What the next part has of the last detached tick is not seen.
func (s *Store) First(ctx context.Context) (courante.Cursor, error) {
	parts, err := s.Parts(ctx)
	if err != nil {
		return courante.Cursor{}, err
	}
	n := lastDetached(parts)
	if n == 0 {
		return courante.Cursor{}, nil
	}
	c, err := s.cursorBehind(ctx, parts[n-1].LastTick)
	return c, translate("find the first event of log "+s.name, err)
}

// attachFirst says how to have all of the log again.
func attachFirst(log string, last int) string {
	if last == 1 {
		return fmt.Sprintf("attach it again with: courante log attach %s 1", log)
	}
	return fmt.Sprintf("attach it again, the last part first: courante log attach %s %d", log, last)
}

// lastDetached is the number of the last detached part, 0 if there is none.
func lastDetached(parts []Part) int {
	last := 0
	for _, p := range parts {
		if !p.Detached.IsZero() {
			last = p.N
		}
	}
	return last
}

// At is the cursor at which the log was at the time: what was recorded later
// comes behind it. Where the parts are sealed, their ticks are gone and the
// times of the events themselves decide, which are those of the decisions and
// so a little earlier.
func (s *Store) At(ctx context.Context, t time.Time) (courante.Cursor, error) {
	doing := fmt.Sprintf("find log %s at %s", s.name, t.UTC().Format(time.RFC3339))
	parts, err := s.Parts(ctx)
	if err != nil {
		return courante.Cursor{}, err
	}
	head, err := s.Head(ctx)
	if err != nil {
		return courante.Cursor{}, err
	}
	search := timeSearch{store: s, parts: parts}
	err = s.db.log.pool.QueryRow(ctx, "select coalesce(min(n), 0) from "+s.db.schema+".tick where log = $1", s.name).Scan(&search.ticks)
	if err != nil {
		return courante.Cursor{}, translate(doing, err)
	}
	low := int64(1)
	if n := lastDetached(parts); n > 0 {
		low = parts[n-1].LastTick + 1
		if t.Before(parts[n].Began) {
			_, err := s.Start(ctx)
			return courante.Cursor{}, err
		}
	}
	n := low + int64(sort.Search(int(max(head.Tick+1-low, 0)), func(i int) bool {
		at, failed := search.timeOf(ctx, low+int64(i))
		err = errors.Join(err, failed)
		return !at.Before(t)
	}))
	if err != nil {
		return courante.Cursor{}, translate(doing, err)
	}
	c, err := s.cursorBehind(ctx, n-1)
	return c, translate(doing, err)
}

// timeSearch tells the times of ticks; ticks is the first of which there is more
// than its hash.
type timeSearch struct {
	store *Store
	parts []Part
	ticks int64
}

func (w *timeSearch) timeOf(ctx context.Context, n int64) (at time.Time, err error) {
	s := w.store
	if n >= w.ticks {
		err = s.db.log.pool.QueryRow(ctx, "select at from "+s.db.schema+".tick where log = $1 and n = $2", s.name, n).Scan(&at)
		return at, err
	}
	for _, p := range w.parts {
		if p.Sealed.IsZero() || p.LastTick < n {
			continue
		}
		err = s.db.log.pool.QueryRow(ctx, "select at from "+s.partTable(p.N)+" where tick >= $1 order by tick, position limit 1", n).Scan(&at)
		if !errors.Is(err, pgx.ErrNoRows) {
			return at, err
		}
	}
	return at, fmt.Errorf("tick %d is in no part", n)
}

// cursorBehind is the cursor with the whole of tick n behind it.
func (s *Store) cursorBehind(ctx context.Context, n int64) (courante.Cursor, error) {
	if n == 0 {
		return courante.Cursor{}, nil
	}
	rows, err := s.db.log.pool.Query(ctx, "select n, epoch, high, snapshot::text from "+s.db.schema+".tick where log = $1 and n = $2", s.name, n)
	if err != nil {
		return courante.Cursor{}, err
	}
	ticks, err := scanTicks(rows)
	if err != nil {
		return courante.Cursor{}, err
	}
	if len(ticks) == 1 {
		return behind(ticks[0]), nil
	}
	c := courante.Cursor{Tick: n, Position: courante.MaxPosition}
	c.Epoch, c.Hash, err = s.sealedTick(ctx, s.db.log.pool, n)
	return c, err
}
