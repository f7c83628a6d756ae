package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SealPart rewrites the closed part n in the log's order, with its tick in each
// row, and removes the ticks that only it needed: a tick's row is 93 bytes,
// what stays of it is the hash, 8 bytes, for the cursors that point at it.
// Parts are sealed in the order of their numbers, and only when every event
// has its tick. Readers see the same log before, meanwhile and after.
//
// It may be stopped at any point and called again. Appends and readers wait
// only for the moment in which the tables are swapped.
func (s *Store) SealPart(ctx context.Context, n int) error {
	err := s.changeParts(ctx, func(conn *pgxpool.Conn, parts []Part) error {
		return s.sealIn(ctx, conn, parts, n)
	})
	return translate(fmt.Sprintf("seal part %d of log %s", n, s.name), err)
}

func (s *Store) sealIn(ctx context.Context, conn *pgxpool.Conn, parts []Part, n int) error {
	i := n - 1
	switch {
	case i < 0 || i >= len(parts):
		return courante.ErrNotFound
	case parts[i].Closed.IsZero():
		return errors.New("it is not closed")
	case i > 0 && parts[i-1].Sealed.IsZero():
		return fmt.Errorf("part %d comes first", n-1)
	}
	if parts[i].Sealed.IsZero() {
		if err := s.sealPart(ctx, conn, n, lastSealedTick(parts)); err != nil {
			return err
		}
	}
	return s.removeTicks(ctx, conn)
}

// sealPart writes the part in its order and swaps it in; sealed is the last
// tick of the parts before.
func (s *Store) sealPart(ctx context.Context, conn *pgxpool.Conn, n int, sealed int64) error {
	// The order of every transaction first; it is small and decides all.
	_, err := conn.Exec(ctx, "create temporary table if not exists sealing (epoch int not null, xid xid8 not null, tick bigint not null)")
	if err != nil {
		return err
	}
	defer func() { _, _ = conn.Exec(ctx, "drop table if exists sealing") }() // what stays is truncated before its next use
	if _, err := conn.Exec(ctx, "truncate sealing"); err != nil {
		return err
	}
	first, last, err := s.orderTransactions(ctx, conn.Conn(), n, sealed)
	if err != nil {
		return err
	}
	if err := s.copyInOrder(ctx, conn, n); err != nil {
		return err
	}
	var have, want int64
	err = conn.QueryRow(ctx, fmt.Sprintf("select (select count(*) from %[1]s_sealed), (select count(*) from %[1]s)", s.partTable(n))).Scan(&have, &want)
	if err != nil {
		return err
	}
	if have != want {
		return fmt.Errorf("its copy has %d events instead of %d", have, want)
	}
	if err := s.keepHashes(ctx, conn.Conn(), sealed+1, last); err != nil {
		return err
	}
	return s.retryLocked(ctx, conn, func() error {
		_, err := conn.Conn().PgConn().Exec(ctx, fmt.Sprintf(`
			begin;
			set local lock_timeout = '%[3]s';
			alter table %[1]s.event detach partition %[1]s.event_%[2]d;
			drop table %[1]s.event_%[2]d;
			alter table %[1]s.event_%[2]d_sealed rename to event_%[2]d;
			alter table %[1]s.event attach partition %[1]s.event_%[2]d for values in (%[2]d);
			update %[1]s.part set sealed = now(), first_tick = %[4]d, last_tick = %[5]d, events = %[6]d where n = %[2]d;
			commit`, s.quoted, n, milliseconds(partLockTimeout), first, last, have)).ReadAll()
		return err
	})
}

// copyInOrder makes event_n_sealed, the part with the ticks that conn has in
// the table sealing.
//
// The rows are written frozen, so that every transaction sees them: one that
// began before, a backup's say, and looks at the log after the tables were
// swapped would see an empty part otherwise. Only COPY can do that, and only to
// a table of its own transaction; so they go through here, from one connection
// to another.
func (s *Store) copyInOrder(ctx context.Context, conn *pgxpool.Conn, n int) error {
	if _, err := conn.Exec(ctx, "analyze sealing"); err != nil {
		return err
	}
	writing, err := s.db.log.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer writing.Release()
	return pgx.BeginFunc(ctx, writing, func(tx pgx.Tx) error {
		to := tx.Conn().PgConn()
		exec := func(sql string) error {
			_, err := to.Exec(ctx, fmt.Sprintf(sql, s.quoted, n)).ReadAll()
			return err
		}
		err := exec(`
			drop table if exists %[1]s.event_%[2]d_sealed;
			create table %[1]s.event_%[2]d_sealed (like %[1]s.event including defaults)`)
		if err != nil {
			return err
		}
		reader, writer := io.Pipe()
		read := make(chan error, 1)
		go func() {
			_, err := conn.Conn().PgConn().CopyTo(ctx, writer, fmt.Sprintf(`copy (
				select e.position, e.xid, e.version, e.at, o.tick, e.part, e.epoch, e.schema, e.stream, e.type,
				       e.correlation, e.causation, e.subject, e.trace, e.data, e.notes
				from %[1]s.event_%[2]d e join sealing o on o.epoch = e.epoch and o.xid = e.xid
				order by o.tick, e.position) to stdout (format binary)`, s.quoted, n))
			writer.CloseWithError(err) // nil is the end
			read <- err
		}()
		_, err = to.CopyFrom(ctx, reader, fmt.Sprintf(`copy %s.event_%d_sealed
			(position, xid, version, at, tick, part, epoch, schema, stream, type, correlation, causation, subject, trace, data, notes)
			from stdin (format binary, freeze)`, s.quoted, n))
		reader.CloseWithError(err) // nothing more is wanted
		if err := errors.Join(<-read, err); err != nil {
			return err
		}
		// The copy refuses rows as the closed part does: an append that still
		// aims at it must fail. The other constraint spares attaching it a scan.
		return exec(`
			alter table %[1]s.event_%[2]d_sealed
				add primary key (stream, version, part),
				add constraint part check (part = %[2]d and tick is not null),
				add constraint closed check (false) not valid;
			create index on %[1]s.event_%[2]d_sealed (epoch, xid);
			create index on %[1]s.event_%[2]d_sealed (tick, position);
			analyze %[1]s.event_%[2]d_sealed`)
	})
}

// orderTransactions finds the tick of each transaction that added to the part
// and fills the table sealing with them. It returns the part's first and last
// tick.
func (s *Store) orderTransactions(ctx context.Context, conn *pgx.Conn, n int, sealed int64) (first, last int64, err error) {
	reading, err := s.db.log.pool.Acquire(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer reading.Release()
	rows, err := reading.Query(ctx, "select distinct epoch, xid from "+s.partTable(n)+" order by epoch, xid")
	if err != nil {
		return 0, 0, err
	}
	defer rows.Close()
	ticks := tickWalk{store: s, next: max(sealed, 1)}
	first, last = sealed, sealed
	var failed error
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"sealing"}, []string{"epoch", "xid", "tick"}, pgx.CopyFromFunc(func() ([]any, error) {
		var epoch int32
		var xid uint64
		if !rows.Next() {
			return nil, rows.Err()
		}
		if err := rows.Scan(&epoch, &xid); err != nil {
			failed = err
			return nil, err
		}
		var tick int64
		if tick, failed = ticks.of(ctx, epoch, xid); failed != nil {
			return nil, failed
		}
		if last == sealed {
			first = tick
		}
		first, last = min(first, tick), max(last, tick)
		return []any{epoch, xid, tick}, nil
	}))
	if failed != nil {
		return 0, 0, failed
	}
	return first, last, err
}

// tickWalk finds the ticks of transactions that come in ascending order. It
// holds the ticks from the first that can still see one of them on, as far as
// it had to look.
type tickWalk struct {
	store *Store
	next  int64 // number of the first tick after the held ones
	held  []courante.Tick
}

func (w *tickWalk) of(ctx context.Context, epoch int32, xid uint64) (int64, error) {
	for i := 0; ; i++ {
		if i == len(w.held) {
			more, err := w.more(ctx)
			if err != nil {
				return 0, err
			}
			if !more {
				return 0, fmt.Errorf("transaction %d of epoch %d has no tick yet", xid, epoch)
			}
		}
		t := w.held[i]
		if t.Epoch < epoch || t.Epoch == epoch && t.Snapshot.Xmax <= xid {
			if i == 0 { // no later transaction is in it either
				w.held = w.held[1:]
				i--
			}
			continue
		}
		if t.Epoch == epoch && t.Snapshot.Visible(xid) {
			return t.N, nil
		}
	}
}

func (w *tickWalk) more(ctx context.Context) (bool, error) {
	conn, err := w.store.db.log.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	call := readCall{Store: w.store, conn: conn}
	ticks, err := call.queryTicks(ctx, w.next, ticksPerQuery)
	if err != nil || len(ticks) == 0 {
		return false, err
	}
	w.held = append(w.held, ticks...)
	w.next = ticks[len(ticks)-1].N + 1
	return true, nil
}

// keepHashes writes the hashes of the ticks from first to last. Written twice
// they are the same: ticks do not change.
func (s *Store) keepHashes(ctx context.Context, conn *pgx.Conn, first, last int64) error {
	walk := tickWalk{store: s, next: first}
	for {
		walk.held = nil
		more, err := walk.more(ctx)
		if err != nil || !more || walk.held[0].N > last {
			return err
		}
		batch := &pgx.Batch{}
		for ticks := walk.held; len(ticks) > 0 && ticks[0].N <= last; {
			var hashes []byte
			k := 0
			for ; k < len(ticks) && k < sealedTickSpan && ticks[k].N <= last && ticks[k].Epoch == ticks[0].Epoch; k++ {
				hashes = binary.BigEndian.AppendUint64(hashes, ticks[k].Hash())
			}
			batch.Queue("insert into "+s.quoted+".sealed_tick (first, epoch, hashes) values ($1, $2, $3) on conflict do nothing",
				ticks[0].N, ticks[0].Epoch, hashes)
			ticks = ticks[k:]
		}
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
	}
}

// removeTicks deletes the ticks that only sealed parts needed. The last sealed
// tick may go on in the next part, and the one before it says what is new in
// it: both stay.
func (s *Store) removeTicks(ctx context.Context, conn *pgxpool.Conn) error {
	for {
		// In pieces, so that no transaction is open for long.
		tag, err := conn.Exec(ctx, `
			delete from `+s.db.schema+`.tick where log = $1 and n < least(
				(select max(last_tick) - 1 from `+s.quoted+`.part where sealed is not null),
				(select min(n) + 10000 from `+s.db.schema+`.tick where log = $1))`, s.name)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
	}
}
