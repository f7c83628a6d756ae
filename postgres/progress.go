package postgres

import (
	"context"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// writeProgress appends a row to each lane. before is the number that must be
// there, or null where that needs no check: number 1, and what follows another
// row of the same statement. The primary key fences a zombie off, the check
// finds a number that was jumped over.
const writeProgress = `
	with w as (
		insert into {schema}.progress (n, epoch, lane_epoch, k, tick, position, hash, subscriber, log, note)
		select a.n, a.epoch, a.lane_epoch, a.k, a.tick, a.position, a.hash, a.subscriber, a.log, a.note
		from unnest($1::bigint[], $2::bigint[], $3::int[], $4::int[], $5::int[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::json[])
			as a(before, n, epoch, lane_epoch, k, tick, position, hash, subscriber, log, note)
		where a.before = 0
		   or (select true from {schema}.progress p
		       where p.subscriber = a.subscriber and p.log = a.log and p.lane_epoch = a.lane_epoch and p.k = a.k and p.n = a.before)
		returning 1
	) select {schema}.expect('progress', count(*), $12::bigint) from w`

func (w *write) addProgress(p *pipeline) {
	list := w.c.Progress
	if len(list) == 0 {
		return
	}
	var rows arrays
	rows.reset(oidInt8, oidInt8, oidInt4, oidInt4, oidInt4, oidInt8, oidInt8, oidInt8, oidText, oidText, oidJSON)
	for i, row := range list {
		before := row.N - 1
		if i > 0 && row.Lane == list[i-1].Lane {
			before = 0
		}
		c := rows.list
		c[0].int8(before)
		c[1].int8(row.N)
		c[2].int4(row.Cursor.Epoch)
		c[3].int4(int32(row.Epoch))
		c[4].int4(int32(row.K))
		c[5].int8(row.Cursor.Tick)
		c[6].int8(row.Cursor.Position)
		c[7].int8(int64(row.Cursor.Hash))
		c[8].text(row.Subscriber)
		c[9].text(row.Log)
		if len(row.Note) > 0 {
			c[10].bytes(row.Note)
		} else {
			c[10].orNull(nil)
		}
	}
	p.query(w.store.sql(writeProgress), nil, append(rows.params(), int8Param(int64(len(list))))...)
}

// Progress returns what the lane has last recorded; see [courante.Store].
func (s *Store) Progress(ctx context.Context, lane courante.Lane) (courante.Progress, error) {
	p := courante.Progress{Lane: lane}
	var hash int64
	err := s.db.log.pool.QueryRow(ctx, s.sql(`
		select n, epoch, tick, position, hash, note from {schema}.progress
		where subscriber = $1 and log = $2 and lane_epoch = $3 and k = $4
		order by n desc limit 1`), lane.Subscriber, lane.Log, lane.Epoch, lane.K).
		Scan(&p.N, &p.Cursor.Epoch, &p.Cursor.Tick, &p.Cursor.Position, &hash, &p.Note)
	if err != nil {
		return courante.Progress{}, translate(fmt.Sprintf("read the progress of %s on %s, lane %d", lane.Subscriber, lane.Log, lane.K), err)
	}
	p.Cursor.Hash = uint64(hash)
	return p, nil
}

// LaneEpochs returns the epochs of (subscriber, log) in the order they begin;
// see [courante.Store].
func (s *Store) LaneEpochs(ctx context.Context, subscriber, log string) ([]courante.LaneEpoch, error) {
	doing := fmt.Sprintf("read the lane epochs of %s on %s", subscriber, log)
	rows, err := s.db.log.pool.Query(ctx, s.sql(`
		select n, lanes, epoch, tick, position, hash, types, retired, by, began from {schema}.lane_epoch
		where subscriber = $1 and log = $2 order by n`), subscriber, log)
	if err != nil {
		return nil, translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (courante.LaneEpoch, error) {
		e := courante.LaneEpoch{Subscriber: subscriber, Log: log}
		var hash int64
		err := row.Scan(&e.N, &e.Lanes, &e.From.Epoch, &e.From.Tick, &e.From.Position, &hash, &e.Types, &e.Retired, &e.By, &e.Began)
		e.From.Hash, e.Began = uint64(hash), e.Began.UTC()
		return e, err
	})
	return list, translate(doing, err)
}

// AddLaneEpoch records the next epoch, once; see [courante.Store]. It seeds the
// progress of its lanes, with the number before their first: the ranges that
// other lanes have left long ago are dropped, so a new lane cannot begin with
// number 1, and all owners of a lane have to agree where it begins.
func (s *Store) AddLaneEpoch(ctx context.Context, e courante.LaneEpoch) error {
	doing := fmt.Sprintf("add lane epoch %d of %s on %s", e.N, e.Subscriber, e.Log)
	types := e.Types
	if types == nil {
		types = []string{}
	}
	first, _, err := s.progressRange(ctx)
	if err != nil {
		return err
	}
	_, err = s.db.log.pool.Exec(ctx, s.sql(`
		with added as (
			insert into {schema}.lane_epoch (n, lanes, epoch, tick, position, hash, subscriber, log, types, retired, by)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $11, $12)
			returning *
		)
		insert into {schema}.progress (n, epoch, lane_epoch, k, tick, position, hash, subscriber, log)
		select $10, a.epoch, a.n, k, a.tick, a.position, a.hash, a.subscriber, a.log
		from added a, generate_series(0, a.lanes - 1) k`),
		e.N, e.Lanes, e.From.Epoch, e.From.Tick, e.From.Position, int64(e.From.Hash), e.Subscriber, e.Log, types, first, e.Retired, e.By)
	if hasCode(err, "23505") {
		return fmt.Errorf("postgres: %s: %w", doing, courante.ErrFenced)
	}
	return translateCommit(doing, err)
}
