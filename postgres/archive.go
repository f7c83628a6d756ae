package postgres

import (
	"context"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// A part that is detached is no longer read by anybody who reads the log, nor
// looked at by appends. What has to be known of it for ever is its streams'
// versions: a stream may go on a year later, and must not begin again. The
// row that holds a stream's state has it: the stored state, or the snapshot
// that is written of every stream before its part is detached.

// archivedVersion is SQL for the version that the stream of that expression had
// in the detached parts, or a later one; null if it is not in any. The first
// condition does not depend on the stream, so the server tests it once a
// statement.
func archivedVersion(stream string) string {
	return `(select greatest(
			(select max(t.version) from {schema}.snapshot t where t.stream = ` + stream + `),
			(select nullif(t.version, 0) from {schema}.state t where t.stream = ` + stream + ` order by t.chapter desc limit 1))
		where exists (select from {schema}.part where detached is not null))`
}

// archivedUpTo returns the version that the stream had in the detached parts, or
// a later one, and these parts.
func (s *Store) archivedUpTo(ctx context.Context, stream string) (version int64, parts []int, err error) {
	err = s.db.log.pool.QueryRow(ctx, s.sql(`select coalesce(`+archivedVersion("$1")+`, 0),
		array(select n from {schema}.part where detached is not null order by n)`), stream).Scan(&version, &parts)
	return version, parts, err
}

// readArchived returns the first of the stream's events from after the one
// version up to the other, which the log does not have: from the detached parts,
// whose tables are asked as long as they are there.
func (s *Store) readArchived(ctx context.Context, scan *scanner, stream string, after, end int64, parts []int) ([]courante.Event, error) {
	doing := "read stream " + stream
	var missing []int
	for _, n := range parts {
		there, err := s.db.hasTable(ctx, s.schema, fmt.Sprintf("event_%d", n))
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, n)
			continue
		}
		rows, err := s.db.log.pool.Query(ctx, "select "+logColumns+" from "+s.partTable(n)+
			" where stream = $1 and version > $2 and version <= $3 order by version limit $4", inBinary, stream, after, end, streamPage)
		if err != nil {
			return nil, translate(doing, err)
		}
		events, err := scan.scanEvents(rows, nil)
		if err != nil {
			return nil, translate(doing, err)
		}
		if len(events) > 0 {
			if events[0].Version == after+1 {
				return events, nil
			}
			break
		}
	}
	return nil, fmt.Errorf("postgres: %s: %w", doing, &courante.ArchivedError{Log: s.name, Stream: stream, Version: end, Parts: missing})
}

// keepStates writes a snapshot of every stream of part n whose state would not
// be known without the part, folded by the service.
func (s *Store) keepStates(ctx context.Context, n int, svc *courante.Service) error {
	for after := ""; ; {
		rows, err := s.db.pool.Query(ctx, s.inSchema(`
			select e.stream, e.version, coalesce(t.version, 0), t.data, coalesce(r.version, 0)
			from (select stream, max(version) as version from `+s.partTable(n)+` where stream > $1 group by stream order by stream limit $2) e
			left join lateral (select version, data from {schema}.snapshot t where t.stream = e.stream order by t.version desc limit 1) t on true
			left join {schema}.state r on r.stream = e.stream
			order by e.stream`), after, keepAtOnce)
		if err != nil {
			return err
		}
		var stream string
		var last, snapshot, stored int64
		var data []byte
		var uncertain []string
		count := 0
		if _, err := pgx.ForEachRow(rows, []any{&stream, &last, &snapshot, &data, &stored}, func() error {
			count++
			after = stream
			if stored < last && (snapshot < last || !svc.Folded(stream, data)) {
				uncertain = append(uncertain, stream)
			}
			return nil
		}); err != nil || count == 0 {
			return err
		}
		if len(uncertain) == 0 {
			continue
		}
		states, err := svc.Baselines(ctx, s, uncertain)
		if err != nil {
			return err
		}
		if err := s.replaceSnapshots(ctx, states); err != nil {
			return err
		}
	}
}

// keepAtOnce is how many streams' events are in memory at once.
const keepAtOnce = 500

// replaceSnapshots writes snapshots, also over those that an older program has
// written of the same versions.
func (s *Store) replaceSnapshots(ctx context.Context, states []courante.State) error {
	w, err := newWrite(s, courante.Changes{Snapshots: states})
	if err != nil {
		return err
	}
	var versions []int64
	var streams []string
	var data, open [][]byte
	for i, state := range w.c.Snapshots {
		versions, streams = append(versions, state.Row), append(streams, state.Stream())
		data, open = append(data, state.Data), append(open, w.documents.snapshotOpen[i])
	}
	_, err = s.db.pool.Exec(ctx, s.inSchema(`
		with a as (
			select * from unnest($1::bigint[], $2::text[], $3::json[], $4::json[]) a(version, stream, data, open)
		), w as (
			insert into {schema}.snapshot (version, stream, data, open)
			select version, stream, data, open from a order by stream
			on conflict (stream, version) do update set data = excluded.data, open = excluded.open
		)
		delete from {schema}.snapshot s using a where s.stream = a.stream and s.version < a.version`),
		versions, streams, data, open)
	return err
}
