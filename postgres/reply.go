package postgres

import (
	"context"
	"fmt"

	"github.com/courante-dev/courante"
)

// writeReplies records answers that do not exist. The table's key holds within
// a day, so the other days are asked; and within ten minutes of midnight (UTC)
// a row is written for both days, on which two requests with one key meet that
// fall on two days.
const writeReplies = `
	with day as (
		select distinct (now() at time zone 'utc' + m * interval '10 minutes')::date as day from generate_series(-1, 1) m
	), w as (
		insert into {schema}.reply (xid, epoch, day, key, hash, body)
		select case when $1::bigint > 0 then pg_current_xact_id() else '0'::xid8 end, $2::int, day.day, a.key, a.hash, a.body
		from unnest($3::text[], $4::bytea[], $5::json[]) a(key, hash, body) cross join day
		where not exists (select from {schema}.reply r where r.key = a.key)
		returning 1
	) select {schema}.expect('reply', count(*), $6::bigint * (select count(*) from day)) from w`

func (w *write) addReplies(p *pipeline, epoch int32) {
	if len(w.c.Replies) == 0 {
		return
	}
	var rows arrays
	rows.reset(oidText, oidBytea, oidJSON)
	for _, r := range w.c.Replies {
		rows.list[0].text(r.Key)
		rows.list[1].bytes(r.Hash[:])
		rows.list[2].bytes(orNull(r.Body))
	}
	params := rows.params(int8Param(int64(len(w.c.Events))), int4Param(epoch))
	p.query(w.store.sql(writeReplies), nil, append(params, int8Param(int64(len(w.c.Replies))))...)
}

// Reply returns the recorded answer to the idempotency key; see
// [courante.Store]. Answers are kept for eight days.
func (s *Store) Reply(ctx context.Context, key string) (courante.Reply, error) {
	r := courante.Reply{Key: key, Token: courante.Token{Log: s.name}}
	var hash []byte
	err := s.db.log.pool.QueryRow(ctx, s.sql(`
		select hash, body, epoch, xid from {schema}.reply where key = $1 limit 1`), key).
		Scan(&hash, &r.Body, &r.Token.Epoch, &r.Token.Xid)
	if err != nil {
		return courante.Reply{}, translate(fmt.Sprintf("read the reply to %q", key), err)
	}
	copy(r.Hash[:], hash)
	return r, nil
}
