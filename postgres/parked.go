package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// parkedEvent is the form in which an event is stored with a parked message;
// its data has a column of its own.
type parkedEvent struct {
	Log         string          `json:"log"`
	Stream      string          `json:"stream"`
	Version     int64           `json:"version"`
	Type        string          `json:"type"`
	Schema      int             `json:"schema"`
	Time        time.Time       `json:"time"`
	Correlation string          `json:"correlation"`
	Causation   string          `json:"causation"`
	Subject     string          `json:"subject"`
	Trace       string          `json:"trace"`
	Notes       *courante.Notes `json:"notes,omitempty"`
	Epoch       int32           `json:"epoch"`
	Tick        int64           `json:"tick"`
	Position    int64           `json:"position"`
	Xid         uint64          `json:"xid,string"` // beyond what JSON numbers carry safely
}

func parkedEventOf(e *courante.Event) parkedEvent {
	return parkedEvent{
		e.Log, e.Stream, e.Version, e.Type, e.Schema, e.Time, e.Correlation, e.Causation, e.Subject, e.Trace, e.Notes,
		e.Epoch, e.Tick, e.Position, e.Xid,
	}
}

func (p *parkedEvent) event(data []byte) courante.Event {
	return courante.Event{
		Log: p.Log, Stream: p.Stream, Version: p.Version, Type: p.Type, Schema: p.Schema, Time: p.Time,
		Correlation: p.Correlation, Causation: p.Causation, Subject: p.Subject, Trace: p.Trace, Notes: p.Notes,
		Epoch: p.Epoch, Tick: p.Tick, Position: p.Position, Xid: p.Xid, Data: data,
	}
}

const (
	parkNew = `
	insert into {schema}.parked (attempts, retry_at, first_failed, last_failed, subscriber, reaction, key, cause, stack, fingerprint, correlation, program, last_program, event, data)
	select a.attempts, a.retry_at, a.first_failed, a.last_failed, a.subscriber, a.reaction, a.key, a.cause, a.stack, a.fingerprint, a.correlation, a.program, a.last_program, a.event, a.data
	from unnest($1::int[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::json[], $15::json[])
		as a(attempts, retry_at, first_failed, last_failed, subscriber, reaction, key, cause, stack, fingerprint, correlation, program, last_program, event, data)`

	// A message that somebody resolved meanwhile stays resolved.
	parkAgain = `
	update {schema}.parked p
	set cause = a.cause, stack = a.stack, fingerprint = a.fingerprint, attempts = a.attempts, retry_at = a.retry_at,
		first_failed = a.first_failed, last_failed = a.last_failed, program = a.program, last_program = a.last_program
	from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
		a(id, attempts, retry_at, first_failed, last_failed, cause, stack, fingerprint, program, last_program)
	where p.id = a.id and p.resolved is null`

	unpark = `
	with w as (
		update {schema}.parked set resolved = now(), discarded = nullif($3::text, '')
		where id in (select id from {schema}.parked where id = any($1::bigint[]) and resolved is null order by id for update)
		returning 1
	) select {schema}.expect('parked', count(*), $2::bigint) from w`
)

func (w *write) addParked(p *pipeline) {
	var fresh, again arrays
	fresh.reset(oidInt4, oidTime, oidTime, oidTime, oidText, oidText, oidText, oidText, oidText, oidText, oidText, oidText, oidText, oidJSON, oidJSON)
	again.reset(oidInt8, oidInt4, oidTime, oidTime, oidTime, oidText, oidText, oidText, oidText, oidText)
	newOnes, old := 0, 0
	for i, m := range w.c.Park {
		// An error's text may be anything.
		cause, stack := clean(m.Cause), clean(m.Stack)
		if m.ID != 0 {
			old++
			c := again.list
			c[0].int8(m.ID)
			c[1].int4(int32(m.Attempts))
			c[2].timeOrNull(m.RetryAt)
			c[3].timeOrNull(m.FirstFailed)
			c[4].timeOrNull(m.LastFailed)
			c[5].text(cause)
			c[6].text(stack)
			c[7].text(m.Fingerprint)
			c[8].text(m.FirstBy)
			c[9].text(m.LastBy)
			continue
		}
		newOnes++
		c := fresh.list
		c[0].int4(int32(m.Attempts))
		c[1].timeOrNull(m.RetryAt)
		c[2].timeOrNull(m.FirstFailed)
		c[3].timeOrNull(m.LastFailed)
		c[4].text(m.Subscriber)
		c[5].text(m.Reaction)
		c[6].text(m.Key)
		c[7].text(cause)
		c[8].text(stack)
		c[9].text(m.Fingerprint)
		c[10].text(m.Event.Correlation)
		c[11].text(m.FirstBy)
		c[12].text(m.LastBy)
		c[13].bytes(w.documents.parked[i])
		c[14].bytes(orNull(m.Event.Data))
	}
	if newOnes > 0 {
		p.query(w.store.sql(parkNew), nil, fresh.params()...)
	}
	if old > 0 {
		p.query(w.store.sql(parkAgain), nil, again.params()...)
	}
	if len(w.c.Unpark) > 0 {
		p.query(w.store.sql(unpark), nil, int8Array(w.c.Unpark), int8Param(int64(len(w.c.Unpark))), []byte(clean(w.c.Discard)))
	}
}

// parkedColumns are those of a courante.Parked; see scanParked.
const parkedColumns = `p.id, p.attempts, coalesce(p.retry_at, '0001-01-01 00:00Z'), coalesce(p.first_failed, '0001-01-01 00:00Z'), coalesce(p.last_failed, '0001-01-01 00:00Z'),
	p.subscriber, p.reaction, p.key, p.cause, p.stack, p.fingerprint, p.program, p.last_program, p.event, p.data`

// scanParked reads parkedColumns, and what comes after them into more.
func scanParked(row pgx.CollectableRow, more ...any) (courante.Parked, error) {
	var p courante.Parked
	var event, data json.RawMessage
	err := row.Scan(append([]any{
		&p.ID, &p.Attempts, &p.RetryAt, &p.FirstFailed, &p.LastFailed, &p.Subscriber, &p.Reaction, &p.Key, &p.Cause,
		&p.Stack, &p.Fingerprint, &p.FirstBy, &p.LastBy, &event, &data,
	}, more...)...)
	if err != nil {
		return p, err
	}
	p.RetryAt, p.FirstFailed, p.LastFailed = p.RetryAt.UTC(), p.FirstFailed.UTC(), p.LastFailed.UTC()
	var stored parkedEvent
	if err := json.Unmarshal(event, &stored); err != nil {
		return p, err
	}
	p.Event = stored.event(data)
	return p, nil
}

// Parked returns messages of the subscriber that are not resolved, in the order
// they were set aside; see [courante.Store].
func (s *Store) Parked(ctx context.Context, subscriber string, which courante.ParkedQuery) ([]courante.Parked, error) {
	doing := "read the parked messages of " + subscriber
	sql, args := "select "+parkedColumns+" from {schema}.parked p where p.subscriber = $1 and p.resolved is null", []any{subscriber}
	if which.Keys != nil {
		args = append(args, which.Keys)
		sql += fmt.Sprintf(" and p.key = any($%d)", len(args))
	}
	if which.Correlation != "" {
		args = append(args, which.Correlation)
		sql += fmt.Sprintf(" and p.correlation = $%d", len(args))
	}
	sql += " order by p.id"
	if which.Max > 0 {
		args = append(args, which.Max)
		sql += fmt.Sprintf(" limit $%d", len(args))
	}
	rows, err := s.db.log.pool.Query(ctx, s.sql(sql), args...)
	if err != nil {
		return nil, translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (courante.Parked, error) { return scanParked(row) })
	return list, translate(doing, err)
}

const (
	asideOfAll = `
	select distinct on (key) key, cause <> '', coalesce(retry_at, '0001-01-01 00:00Z')
	from {schema}.parked where subscriber = $1 and resolved is null
	order by key, id`

	// A probe of the index for each key, whatever the planner believes about
	// how many there are: one statement for both cases would read them all.
	asideOfKeys = `
	select f.key, f.cause <> '', coalesce(f.retry_at, '0001-01-01 00:00Z')
	from unnest($2::text[]) as k(key) cross join lateral (
		select key, cause, retry_at from {schema}.parked p
		where p.subscriber = $1 and p.resolved is null and p.key = k.key
		order by p.id limit 1
	) f`
)

// Aside returns which keys of the subscriber have messages set aside; see
// [courante.Store]. The revision is read first: what is changed in between is
// seen twice rather than never.
func (s *Store) Aside(ctx context.Context, subscriber string, keys []string) (courante.Aside, error) {
	doing := "read the keys that " + subscriber + " has set aside"
	var aside courante.Aside
	err := s.db.log.pool.QueryRow(ctx, s.sql(`
		select coalesce((select n from {schema}.parked_revision where subscriber = $1), 0)`), subscriber).Scan(&aside.Revision)
	if err != nil || keys != nil && len(keys) == 0 {
		return aside, translate(doing, err)
	}
	sql, args := asideOfAll, []any{subscriber}
	if keys != nil {
		sql, args = asideOfKeys, []any{subscriber, keys}
	}
	rows, err := s.db.log.pool.Query(ctx, s.sql(sql), args...)
	if err != nil {
		return aside, translate(doing, err)
	}
	aside.Keys, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (courante.AsideKey, error) {
		var k courante.AsideKey
		err := row.Scan(&k.Key, &k.Failed, &k.RetryAt)
		k.RetryAt = k.RetryAt.UTC()
		return k, err
	})
	return aside, translate(doing, err)
}
