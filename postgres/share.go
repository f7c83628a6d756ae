package postgres

import (
	"context"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

var _ courante.SharedStore = (*Store)(nil)

// Share implements [courante.SharedStore]. It is one short transaction, which
// those of other processes of the service wait for.
func (s *Store) Share(ctx context.Context, c courante.Claim) (courante.Shares, error) {
	doing := fmt.Sprintf("share the lanes of %s", s.name)
	var got courante.Shares
	if c.Keep == nil || c.For == 0 {
		c.Keep = []string{}
	}
	if c.Names == nil {
		c.Names = []string{}
	}
	b := &pgx.Batch{}
	b.Queue("set local synchronous_commit = off")
	b.Queue(s.sql("select from pg_advisory_xact_lock(hashtextextended($1, 0))"), "courante share "+s.schema)
	b.Queue(s.sql("delete from {schema}.process where until < clock_timestamp() or name = $1 and $2::bigint = 0"), c.Process, c.For.Microseconds())
	b.Queue(s.sql("delete from {schema}.lease where until < clock_timestamp() or process = $1 and name <> all($2)"), c.Process, c.Keep)
	if c.For > 0 {
		b.Queue(s.sql(`
			insert into {schema}.process (until, name) values (clock_timestamp() + $2::bigint * interval '1 microsecond', $1)
			on conflict (name) do update set until = excluded.until`), c.Process, c.For.Microseconds())
		b.Queue(s.sql("update {schema}.lease set until = clock_timestamp() + $2::bigint * interval '1 microsecond' where process = $1"), c.Process, c.For.Microseconds())
		// The parts of all processes add up to everything: the first ones in the
		// order of their names take what does not divide.
		b.Queue(s.sql(`
			select count(*)::int, (cardinality($2::text[]) / count(*) +
				case when count(*) filter (where name < $1) < cardinality($2::text[]) % count(*) then 1 else 0 end)::int
			from {schema}.process`), c.Process, c.Names).QueryRow(func(row pgx.Row) error { return row.Scan(&got.Processes, &got.Part) })
	}
	err := pgx.BeginFunc(ctx, s.db.pool, func(tx pgx.Tx) error {
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		if c.For == 0 {
			return nil
		}
		rows, err := tx.Query(ctx, s.sql(`
			with mine as (select name from {schema}.lease where process = $1),
			taken as (
				insert into {schema}.lease (until, name, process)
				select clock_timestamp() + $3::bigint * interval '1 microsecond', free.name, $1
				from unnest($2::text[]) as free(name)
				where not exists (select from {schema}.lease l where l.name = free.name)
				order by free.name
				limit greatest($4::int - (select count(*) from mine), 0)
				returning name
			) select name from mine union all select name from taken`), c.Process, c.Names, c.For.Microseconds(), got.Part)
		if err != nil {
			return err
		}
		got.Held, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return got, translate(doing, err)
}
