package postgres

import (
	"context"
	"encoding/json"
	"strings"
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
	insert into {schema}.parked (attempts, retry_at, subscriber, reaction, key, cause, program, event, data)
	select a.attempts, a.retry_at, a.subscriber, a.reaction, a.key, a.cause, a.program, a.event, a.data
	from unnest($1::int[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::json[], $9::json[])
		as a(attempts, retry_at, subscriber, reaction, key, cause, program, event, data)`

	// A message that somebody resolved meanwhile stays resolved.
	parkAgain = `
	update {schema}.parked p
	set cause = a.cause, attempts = a.attempts, retry_at = a.retry_at
	from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::text[]) a(id, attempts, retry_at, cause)
	where p.id = a.id and p.resolved is null`

	unpark = `
	with w as (
		update {schema}.parked set resolved = now()
		where id in (select id from {schema}.parked where id = any($1::bigint[]) and resolved is null order by id for update)
		returning 1
	) select {schema}.expect('parked', count(*), $2::bigint) from w`
)

func (w *write) addParked(p *pipeline) {
	var fresh, again arrays
	fresh.reset(oidInt4, oidTime, oidText, oidText, oidText, oidText, oidText, oidJSON, oidJSON)
	again.reset(oidInt8, oidInt4, oidTime, oidText)
	newOnes, old := 0, 0
	for i, m := range w.c.Park {
		retryAt := func(a *array) {
			if m.RetryAt.IsZero() {
				a.orNull(nil)
			} else {
				a.time(m.RetryAt)
			}
		}
		cause := strings.ToValidUTF8(strings.ReplaceAll(m.Cause, "\x00", ""), "\uFFFD") // an error's text may be anything
		if m.ID != 0 {
			old++
			c := again.list
			c[0].int8(m.ID)
			c[1].int4(int32(m.Attempts))
			retryAt(&c[2])
			c[3].text(cause)
			continue
		}
		newOnes++
		c := fresh.list
		c[0].int4(int32(m.Attempts))
		retryAt(&c[1])
		c[2].text(m.Subscriber)
		c[3].text(m.Reaction)
		c[4].text(m.Key)
		c[5].text(cause)
		c[6].text(m.Version)
		c[7].bytes(w.documents.parked[i])
		c[8].bytes(orNull(m.Event.Data))
	}
	if newOnes > 0 {
		p.query(w.store.sql(parkNew), nil, fresh.params()...)
	}
	if old > 0 {
		p.query(w.store.sql(parkAgain), nil, again.params()...)
	}
	if len(w.c.Unpark) > 0 {
		p.query(w.store.sql(unpark), nil, int8Array(w.c.Unpark), int8Param(int64(len(w.c.Unpark))))
	}
}

// Parked returns the messages of the subscriber that are not resolved, in the
// order they were set aside; see [courante.Store].
func (s *Store) Parked(ctx context.Context, subscriber string) ([]courante.Parked, error) {
	doing := "read the parked messages of " + subscriber
	rows, err := s.db.log.pool.Query(ctx, s.sql(`
		select id, attempts, retry_at, reaction, key, cause, program, event, data from {schema}.parked
		where subscriber = $1 and resolved is null order by id`), subscriber)
	if err != nil {
		return nil, translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (courante.Parked, error) {
		p := courante.Parked{Subscriber: subscriber}
		var retryAt *time.Time
		var event, data json.RawMessage
		if err := row.Scan(&p.ID, &p.Attempts, &retryAt, &p.Reaction, &p.Key, &p.Cause, &p.Version, &event, &data); err != nil {
			return p, err
		}
		if retryAt != nil {
			p.RetryAt = retryAt.UTC()
		}
		var stored parkedEvent
		if err := json.Unmarshal(event, &stored); err != nil {
			return p, err
		}
		p.Event = stored.event(data)
		return p, nil
	})
	return list, translate(doing, err)
}
