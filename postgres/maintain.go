package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// progressSpan is how many numbers of a lane a partition of progress holds.
	// A busy lane commits some hundred batches a second and fills it in hours.
	progressSpan = 1_000_000

	// keepReplies is for how many days an answer can be asked for again; a
	// client that repeats a request does so within minutes.
	keepReplies = 8

	// repliesAhead is for how many days partitions are made ahead, so that a
	// week-end without maintenance does no harm.
	repliesAhead = 3

	dayFormat = "20060102"
)

// Maintain makes the partitions that will be needed next and drops those that
// nobody needs: replies older than eight days, and ranges of progress that
// every lane has left. What is needed is made when the store is opened; Maintain
// should be run every few minutes. When nothing is to do, it only looks.
//
// An idle lane whose last number is in a range that others have left far
// behind is moved on, see [advanceIdle].
func (s *Store) Maintain(ctx context.Context, now time.Time) error {
	err := s.changePartitions(ctx, now, s.makeReplies, s.makeProgress, s.dropReplies, s.dropProgress)
	if errors.Is(err, errMaintained) {
		return nil
	}
	return translate("maintain the partitions of "+s.name, err)
}

// errMaintained is for who finds another process changing the partitions.
var errMaintained = errors.New("another process changes the partitions")

// makePartitions makes what a store that is opened needs. Whoever holds a lock
// on the tables, a backup or another program that opens the store, passes: it
// tries again until ctx ends. That another one is at it does not say that it
// will succeed.
func (s *Store) makePartitions(ctx context.Context) error {
	doing := "make the partitions of " + s.name
	for pause := partLockTimeout; ; pause = min(2*pause, maxPartPause) {
		err := s.changePartitions(ctx, time.Now(), s.makeReplies, s.makeProgress)
		if !locked(err) && !errors.Is(err, errMaintained) {
			return translate(doing, err)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)): // let those pass who waited behind us
		case <-ctx.Done():
			return translate(doing, errors.Join(ctx.Err(), err))
		}
	}
}

func (s *Store) changePartitions(ctx context.Context, now time.Time, changes ...func(context.Context, pgx.Tx, time.Time) error) error {
	now = now.UTC()
	var failed error
	// Each by itself: dropping waits for all who read, such as a backup, and
	// fails while they do. What is needed next must be there all the same.
	for _, change := range changes {
		err := s.maintain(ctx, func(tx pgx.Tx) error { return change(ctx, tx, now) })
		if errors.Is(err, errMaintained) {
			if failed == nil {
				return errMaintained
			}
			return failed
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// maintain changes partitions in a transaction, if no other process is at it.
func (s *Store) maintain(ctx context.Context, change func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.db.log.pool, func(tx pgx.Tx) error {
		// Those who write wait behind the locks of a change; a change that is
		// not let through at once is better made the next time.
		_, err := tx.Exec(ctx, "select set_config('lock_timeout', '200ms', true)")
		if err != nil {
			return err
		}
		// One process at a time; the others need not wait for it.
		var ours bool
		err = tx.QueryRow(ctx, "select pg_try_advisory_xact_lock(hashtextextended($1, 0))", "courante.maintain."+s.schema).Scan(&ours)
		if err != nil {
			return err
		}
		if !ours {
			return errMaintained
		}
		return change(tx)
	})
}

func (s *Store) makeReplies(ctx context.Context, tx pgx.Tx, now time.Time) error {
	names, err := s.partitions(ctx, tx, "reply")
	if err != nil {
		return err
	}
	for day := -1; day <= repliesAhead; day++ { // yesterday: just after midnight rows are written for both
		from := now.AddDate(0, 0, day)
		name := "reply_" + from.Format(dayFormat)
		if slices.Contains(names, name) {
			continue
		}
		bounds := fmt.Sprintf("from ('%s') to ('%s')", from.Format(time.DateOnly), from.AddDate(0, 0, 1).Format(time.DateOnly))
		if err := s.attach(ctx, tx, "reply", name, bounds); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) dropReplies(ctx context.Context, tx pgx.Tx, now time.Time) error {
	names, err := s.partitions(ctx, tx, "reply")
	if err != nil {
		return err
	}
	oldest := "reply_" + now.AddDate(0, 0, -keepReplies).Format(dayFormat)
	for _, name := range names {
		if name < oldest {
			if _, err := tx.Exec(ctx, s.inSchema("drop table {schema}."+name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) makeProgress(ctx context.Context, tx pgx.Tx, _ time.Time) error {
	_, newest, last, err := s.progressInUse(ctx, tx)
	if err != nil {
		return err
	}
	for n := last + 1; n <= newest+2; n++ {
		err := s.attach(ctx, tx, "progress", fmt.Sprintf("progress_%d", n),
			fmt.Sprintf("from (%d) to (%d)", n*progressSpan, (n+1)*progressSpan))
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) dropProgress(ctx context.Context, tx pgx.Tx, _ time.Time) error {
	first, newest, _, err := s.progressInUse(ctx, tx)
	if err != nil {
		return err
	}
	// The range before the newest stays, for the lanes that are just behind.
	for n := first; n < newest-1; n++ {
		if err := s.advanceIdle(ctx, tx, n, newest*progressSpan); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.inSchema(fmt.Sprintf("drop table {schema}.progress_%d", n))); err != nil {
			return err
		}
	}
	return nil
}

// progressInUse returns the first and the last range of progress, and the
// newest that lanes have reached, -1 if none.
func (s *Store) progressInUse(ctx context.Context, tx pgx.Tx) (first, newest, last int64, err error) {
	names, err := s.partitions(ctx, tx, "progress")
	if err != nil {
		return 0, 0, 0, err
	}
	if first, last, err = bounds(names); err != nil {
		return 0, 0, 0, err
	}
	for n := last; n >= first; n-- {
		var used bool
		if err := tx.QueryRow(ctx, s.inSchema(fmt.Sprintf("select exists (select from {schema}.progress_%d)", n))).Scan(&used); err != nil {
			return 0, 0, 0, err
		}
		if used {
			return first, n, last, nil
		}
	}
	return first, -1, last, nil
}

// advanceIdle moves the lanes whose last number is in range n on to the number
// given, with the same cursor and note, so that the range can be dropped. The
// number that would have come next is taken as well: an owner that knows only
// the last one is fenced, reads its place again and goes on from the new
// number, and a zombie stays out, before the range is dropped and after. If
// the owner commits at the same moment, one of the two fails on the key.
func (s *Store) advanceIdle(ctx context.Context, tx pgx.Tx, n, to int64) error {
	_, err := tx.Exec(ctx, s.inSchema(fmt.Sprintf(`
		insert into {schema}.progress (n, epoch, lane_epoch, k, tick, position, hash, subscriber, log, note)
		select filler.n, l.epoch, l.lane_epoch, l.k, l.tick, l.position, l.hash, l.subscriber, l.log, l.note
		from (
			select distinct on (subscriber, log, lane_epoch, k) *
			from {schema}.progress_%d p order by subscriber, log, lane_epoch, k, n desc
		) l
		cross join lateral (values (l.n + 1), ($1::bigint)) filler(n)
		where not exists (
			select from {schema}.progress p
			where p.subscriber = l.subscriber and p.log = l.log and p.lane_epoch = l.lane_epoch and p.k = l.k and p.n > l.n
		)`, n)), to)
	return err
}

// attach makes a partition as a table and attaches it: that does not stand in
// the way of those who write, as creating it as a partition would.
func (s *Store) attach(ctx context.Context, tx pgx.Tx, table, name, bounds string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, s.inSchema(fmt.Sprintf(`
		create table {schema}.%[2]s (like {schema}.%[1]s including defaults including indexes);
		alter table {schema}.%[1]s attach partition {schema}.%[2]s for values %[3]s`, table, name, bounds))).ReadAll()
	return err
}

// partitions returns the names of the table's partitions, sorted.
func (s *Store) partitions(ctx context.Context, q rowsQueryer, table string) ([]string, error) {
	rows, err := q.Query(ctx, `
		select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = $1::regclass order by 1`, s.quoted+"."+table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// bounds returns the first and the last number of partitions named progress_n;
// 0 and -1 if there is none.
func bounds(names []string) (first, last int64, err error) {
	last = -1
	for i, name := range names {
		n, err := strconv.ParseInt(strings.TrimPrefix(name, "progress_"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("unexpected partition %s: %w", name, err)
		}
		if i == 0 || n < first {
			first = n
		}
		last = max(last, n)
	}
	return first, last, nil
}

// progressRange returns the numbers that progress has partitions for.
func (s *Store) progressRange(ctx context.Context) (first, end int64, err error) {
	names, err := s.partitions(ctx, s.db.log.pool, "progress")
	if err != nil {
		return 0, 0, translate("find the partitions of progress", err)
	}
	from, to, err := bounds(names)
	return from * progressSpan, (to + 1) * progressSpan, err
}
