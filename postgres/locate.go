package postgres

import (
	"context"
	"fmt"

	"github.com/courante-dev/courante"
)

// Locate returns the cursor behind the first tick that sees the token's
// transaction; see [courante.Store]. A transaction of which the log has no tick
// any more, because its part is sealed, is located at a later one.
//
// Once a tick sees a transaction all later ones do. Tokens are young, so the
// query goes back from the last tick to the first that does not see it.
func (s *Store) Locate(ctx context.Context, t courante.Token) (courante.Cursor, error) {
	doing := fmt.Sprintf("locate transaction %d in log %s", t.Xid, s.name)
	if t.Log != s.name {
		return courante.Cursor{}, fmt.Errorf("postgres: %s: the token is of log %q", doing, t.Log)
	}
	conn, err := s.db.log.pool.Acquire(ctx)
	if err != nil {
		return courante.Cursor{}, translate(doing, err)
	}
	defer conn.Release()
	epoch, err := s.db.epochOf(ctx, conn.Conn())
	if err != nil {
		return courante.Cursor{}, err
	}
	if t.Epoch != epoch {
		return courante.Cursor{}, &courante.TokenEpochError{Token: t, Now: epoch}
	}
	rows, err := conn.Query(ctx, `
		select n, epoch, high, snapshot::text from `+s.db.schema+`.tick
		where log = $1 and n > coalesce((
			select n from `+s.db.schema+`.tick
			where log = $1 and (epoch <> $2 or not pg_visible_in_snapshot($3::text::xid8, snapshot))
			order by n desc limit 1), 0)
		order by n limit 1`, s.name, t.Epoch, fmt.Sprint(t.Xid))
	if err != nil {
		return courante.Cursor{}, translate(doing, err)
	}
	ticks, err := scanTicks(rows)
	if err != nil {
		return courante.Cursor{}, translate(doing, err)
	}
	if len(ticks) == 0 {
		return courante.Cursor{}, fmt.Errorf("postgres: %s: %w", doing, courante.ErrNotFound)
	}
	return behind(ticks[0]), nil
}
