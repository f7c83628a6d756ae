//go:build linux || darwin

package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

const benchStreams = 10_000

func benchEvent() courante.Event {
	return courante.Event{
		Type: "shop.order_created", Schema: 1, Time: time.Now(),
		Correlation: "order-0198c2f4", Causation: "create_order",
		Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Data:  json.RawMessage(`{"order":"0198c2f4","lines":[` + strings.Repeat(`{"sku":"A-1001","quantity":2},`, 8) + `{"sku":"B-7","quantity":1}]}`),
	}
}

// BenchmarkAppend is 64 callers that append one event each to one of 10,000
// streams, each waiting for its commit. Compare it with BenchmarkAppendLimit of
// the same run: how much of what the server can take reaches the callers.
func BenchmarkAppend(b *testing.B) {
	for _, committers := range []int{1, 2, 3, 4} {
		b.Run(fmt.Sprintf("committers=%d", committers), func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(400))
			_, store := openTest(b, func(c *Config) { c.Committers = committers; c.Logger = slog.New(slog.DiscardHandler) })
			const callers = 64
			event := benchEvent()
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for caller := range callers {
				wg.Go(func() {
					// Each caller has streams of its own, so nothing conflicts.
					streams := make([]string, 0, benchStreams/callers+1)
					for i := caller; i < benchStreams; i += callers {
						streams = append(streams, fmt.Sprintf("order:%05d", i))
					}
					for i := 0; next.Add(1) <= int64(b.N); i++ {
						stream, version := streams[i%len(streams)], int64(i/len(streams))
						if _, err := store.Append(context.Background(), stream, version, event); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			var commits int64
			if err := store.db.pool.QueryRow(context.Background(), store.sql("select count(distinct xid) from {schema}.event")).Scan(&commits); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/float64(commits), "events/commit")
		})
	}
}

// BenchmarkAppendLimit is what the server takes of such rows at most: inserts
// of 200 rows without any check, on 4 connections.
func BenchmarkAppendLimit(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	_, store := openTest(b)
	const group, conns = 200, 4
	event := benchEvent()
	sql, _, _ := strings.Cut(insertEvents(store.quoted, 1), "where")
	var next atomic.Int64
	var wg sync.WaitGroup
	inserters := make([]*inserter, conns)
	for i := range inserters {
		in, err := store.connectInserter(b.Context(), time.Second)
		if err != nil {
			b.Fatal(err)
		}
		defer in.close()
		inserters[i] = in
	}
	b.ResetTimer()
	for i, in := range inserters {
		wg.Go(func() {
			statement, err := in.conn.Prepare(context.Background(), "limit", sql)
			if err != nil {
				b.Error(err)
				return
			}
			for n := 0; next.Add(group) <= int64(b.N+group-1); n++ {
				in.rows.reset()
				for j := range group {
					k := n*group + j
					in.rows.add(&event, fmt.Sprintf("order:%d-%05d", i, k%(benchStreams/conns)), 0, int64(k/(benchStreams/conns))+1, nil)
				}
				_, err := in.conn.PgConn().ExecStatement(context.Background(), statement, in.rows.params(in.head[:]), binaryFormat, binaryFormat).Close()
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
