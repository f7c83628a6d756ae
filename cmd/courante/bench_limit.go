package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/postgres"
)

const (
	limitGroup = 200 // rows an insert; more saves next to nothing
	limitConns = 4
)

// insertLimit is how many rows like ours the server takes a second: inserts of
// many rows from arrays, into a table like the log's, asking nothing.
func (b *benchDatabase) insertLimit(ctx context.Context, n int) (float64, error) {
	store, err := b.fresh(ctx, "limit")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := b.insertMany(ctx, store, n); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// insertMany writes n events in groups, past the store's checks.
func (b *benchDatabase) insertMany(ctx context.Context, store *postgres.Store, n int) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, limitConns)
	for i := range limitConns {
		conn, err := pgx.ConnectConfig(ctx, b.db.Pool().Config().ConnConfig)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		wg.Go(func() { errs[i] = insertGroups(ctx, conn, store.Schema(), b.db.Epoch(), i, n, &next) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// insertGroups is one connection's part. Every row is sent with all its
// columns, as events that differ have to be. What does not change from group
// to group is made once, so that the client costs as little as it can.
func insertGroups(ctx context.Context, conn *pgx.Conn, schema string, epoch int32, connection, n int, next *atomic.Int64) error {
	e := benchEvent()
	versions, streams := make([]int64, limitGroup), make([]string, limitGroup)
	at := slices.Repeat([]time.Time{e.Time}, limitGroup)
	types, data := slices.Repeat([]string{e.Type}, limitGroup), slices.Repeat([]json.RawMessage{e.Data}, limitGroup)
	correlations, causations := slices.Repeat([]string{e.Correlation}, limitGroup), slices.Repeat([]string{e.Causation}, limitGroup)
	traces := slices.Repeat([]string{e.Trace}, limitGroup)
	sql := `insert into ` + schema + `.event_1 (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		select a.version, a.at, 1, $1, 1, a.stream, a.type, a.correlation, a.causation, '', a.trace, a.data
		from unnest($2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::json[])
			as a(version, at, stream, type, correlation, causation, trace, data)`
	for group := 0; ; group++ {
		left := int64(n) - next.Add(limitGroup) + limitGroup
		if left <= 0 {
			return nil
		}
		size := min(limitGroup, int(left))
		for j := range size {
			k := group*limitGroup + j
			streams[j] = fmt.Sprintf("order:%d-%05d", connection, k%(benchStreams/limitConns))
			versions[j] = int64(k/(benchStreams/limitConns)) + 1
		}
		_, err := conn.Exec(ctx, sql, epoch, versions[:size], at[:size], streams[:size], types[:size],
			correlations[:size], causations[:size], traces[:size], data[:size])
		if err != nil {
			return err
		}
	}
}
