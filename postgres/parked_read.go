package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// ParkedGroup is what is set aside for one cause, as an operator looks at it.
// Only the first message of a key is tried, so each that failed is of a key of
// its own.
type ParkedGroup struct {
	Fingerprint string // "" if the messages can go on: what they waited for is resolved
	Reaction    string
	Messages    int       // that failed
	Behind      int       // that only wait behind these
	Waiting     int       // of those that failed: that wait for a person
	Retry       time.Time // when the next of the others is tried again, zero if there is none
	Attempts    int       // the most of one message
	First, Last time.Time // failures
	FirstID     int64
	Cause       string // of the one that failed last
	FirstBy     string // version of the program that failed first
	LastBy      string // version of the program that failed last
}

// ParkedGroups returns what the service has set aside, grouped by fingerprint,
// the largest first. Texts are read of one message a group: sorting them all
// would take seconds where many are set aside.
func (s *Store) ParkedGroups(ctx context.Context) ([]ParkedGroup, error) {
	doing := "list what " + s.name + " has set aside"
	rows, err := s.db.pool.Query(ctx, s.sql(`
		with open as materialized (
			select id, key, fingerprint, reaction, cause <> '' as failed, retry_at, attempts, coalesce(first_failed, at) as first_failed, coalesce(last_failed, at) as last_failed
			from {schema}.parked where subscriber = $1 and resolved is null
		), waits as (
			select key, count(*) as n, min(id) as id, min(first_failed) as at from open where not failed group by key
		), heads as (
			select o.fingerprint, o.reaction, o.id, o.retry_at, o.attempts, o.first_failed, o.last_failed, 1 as failed, coalesce(w.n, 0) as behind
			from open o left join waits w on w.key = o.key where o.failed
			union all
			select '', '', w.id, null, 0, w.at, w.at, 0, w.n
			from waits w where not exists (select from open o where o.failed and o.key = w.key)
		), groups as (
			select fingerprint, reaction, sum(failed) as messages, sum(behind) as behind,
				count(*) filter (where failed = 1 and retry_at is null) as waiting, coalesce(min(retry_at), '0001-01-01 00:00Z') as retry,
				max(attempts) as attempts, min(first_failed) as first, max(last_failed) as last, min(id) as first_id,
				(array_agg(id order by first_failed, id))[1] as first_failed, (array_agg(id order by last_failed desc, id desc))[1] as last_failed
			from heads group by fingerprint, reaction
		)
		select g.fingerprint, g.reaction, g.messages, g.behind, g.waiting, g.retry, g.attempts, g.first, g.last, g.first_id,
			left(l.cause, 2000), f.program, l.last_program
		from groups g join {schema}.parked f on f.id = g.first_failed join {schema}.parked l on l.id = g.last_failed
		order by g.messages desc, g.first_id`), s.name)
	if err != nil {
		return nil, translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ParkedGroup])
	for i := range list {
		list[i].Retry, list[i].First, list[i].Last = list[i].Retry.UTC(), list[i].First.UTC(), list[i].Last.UTC()
	}
	return list, translate(doing, err)
}

// ParkedMessage is a parked message with where it stands.
type ParkedMessage struct {
	courante.Parked
	At        time.Time // when it was set aside
	Resolved  time.Time // zero: not yet
	Discarded string    // why it is not handled
	Head      int64     // the message of its key that it waits behind; its own id if it is the first, or resolved
	Behind    int       // messages that wait behind it
}

// ParkedFilter says which messages an operator wants to see.
type ParkedFilter struct {
	IDs         []int64 // only these; nil: all
	Fingerprint string  // only those that fail like this; "": all
	Key         string  // only those of this key; "": all
	Failed      bool    // only those that failed, without what waits behind them
	Discarded   bool    // those that were discarded instead of those that are not resolved
	After       int64   // only those with a higher id
	Max         int     // at most so many; 0: all
}

// ParkedMessages returns messages in the order of their ids. Those of IDs are
// found however they were resolved.
func (s *Store) ParkedMessages(ctx context.Context, which ParkedFilter) ([]ParkedMessage, error) {
	doing := "read what " + s.name + " has set aside"
	state := "p.resolved is null"
	switch {
	case which.IDs != nil:
		state = "true"
	case which.Discarded:
		state = "p.discarded is not null"
	}
	limit := any(nil) // all
	if which.Max > 0 {
		limit = which.Max
	}
	// Who waits for whom is looked up for the page alone.
	rows, err := s.db.pool.Query(ctx, s.sql(fmt.Sprintf(`
		with page as (
			select * from {schema}.parked p
			where p.subscriber = $1 and %s and ($2::bigint[] is null or p.id = any($2)) and ($3 = '' or p.fingerprint = $3)
			  and ($4 = '' or p.key = $4) and (not $5 or p.cause <> '') and p.id > $6
			order by p.id limit $7
		)
		select `+parkedColumns+`, p.at, coalesce(p.resolved, '0001-01-01 00:00Z'), coalesce(p.discarded, ''), h.head,
			case when h.head = p.id and p.resolved is null then (
				select count(*) from {schema}.parked b where b.subscriber = p.subscriber and b.key = p.key and b.resolved is null and b.id > p.id
			) else 0 end
		from page p cross join lateral (
			select case when p.resolved is not null then p.id else (
				select f.id from {schema}.parked f where f.subscriber = p.subscriber and f.key = p.key and f.resolved is null order by f.id limit 1
			) end as head
		) h order by p.id`, state)),
		s.name, which.IDs, which.Fingerprint, which.Key, which.Failed, which.After, limit)
	if err != nil {
		return nil, translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ParkedMessage, error) {
		var m ParkedMessage
		var err error
		m.Parked, err = scanParked(row, &m.At, &m.Resolved, &m.Discarded, &m.Head, &m.Behind)
		m.At, m.Resolved = m.At.UTC(), m.Resolved.UTC()
		return m, err
	})
	return list, translate(doing, err)
}

// ParkedResults says what became of messages since they were requeued: which
// were handled or discarded, and which failed again.
func (s *Store) ParkedResults(ctx context.Context, requeued []Requeued) (resolved, failed []int64, err error) {
	ids, attempts := make([]int64, len(requeued)), make([]int, len(requeued))
	for i, r := range requeued {
		ids[i], attempts[i] = r.ID, r.Attempts
	}
	err = s.db.pool.QueryRow(ctx, s.sql(`
		select coalesce(array_agg(p.id order by p.id) filter (where p.resolved is not null), '{}'),
			coalesce(array_agg(p.id order by p.id) filter (where p.resolved is null and p.attempts > a.attempts), '{}')
		from unnest($1::bigint[], $2::int[]) a(id, attempts) join {schema}.parked p on p.id = a.id`), ids, attempts).Scan(&resolved, &failed)
	return resolved, failed, translate("see what became of requeued messages of "+s.name, err)
}

// Listeners counts the processes that run a program on this database: those
// that want to hear of ticks, and only they do. It sees what the user of the
// connection may see.
func (db *Database) Listeners(ctx context.Context) (int, error) {
	var n int
	err := db.pool.QueryRow(ctx, "select count(*) from pg_stat_activity where datname = current_database() and query = $1",
		"listen "+pgx.Identifier{tickChannel(db.config.Schema)}.Sanitize()).Scan(&n)
	return n, translate("count the running programs", err)
}

// FailedIDs returns the ids of the messages that failed and are not resolved, of
// a fingerprint or all of them, in their order.
func (s *Store) FailedIDs(ctx context.Context, fingerprint string) ([]int64, error) {
	doing := "read what " + s.name + " has set aside"
	rows, err := s.db.pool.Query(ctx, s.sql(`
		select id from {schema}.parked
		where subscriber = $1 and resolved is null and cause <> '' and ($2 = '' or fingerprint = $2) order by id`), s.name, fingerprint)
	if err != nil {
		return nil, translate(doing, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	return ids, translate(doing, err)
}
