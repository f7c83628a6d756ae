package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

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

// insertGroups is one connection's part. What does not change from group to
// group is made once, so that the client costs as little as it can.
func insertGroups(ctx context.Context, conn *pgx.Conn, schema string, epoch int32, connection, n int, next *atomic.Int64) error {
	e := benchEvent()
	versions, streams := make([]int64, limitGroup), make([]string, limitGroup)
	sql := `insert into ` + schema + `.event_1 (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		select a.version, $1, 1, $2, 1, a.stream, $3, $4, $5, '', $6, $7 from unnest($8::bigint[], $9::text[]) as a(version, stream)`
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
		_, err := conn.Exec(ctx, sql, pgtype.Timestamptz{Time: e.Time, Valid: true}, epoch, e.Type, e.Correlation, e.Causation, e.Trace, e.Data,
			versions[:size], streams[:size])
		if err != nil {
			return err
		}
	}
}
