//go:build linux || darwin

package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// TestStatusCountsWhatALaneHasNotHandled puts a lane on every place of a log,
// also in the midst of a tick and behind a transaction that was open meanwhile,
// and compares with reading on from there.
func TestStatusCountsWhatALaneHasNotHandled(t *testing.T) {
	t.Parallel()
	db, s := openTest(t)
	write := func(round int) {
		for i := range 5 {
			if _, err := s.Append(t.Context(), fmt.Sprintf("order:%d.%d", round, i), 0, courante.Event{Type: "shop.order_placed", Schema: 1, Time: time.Now()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(1)
	mustTick(t, db)
	// A transaction that gets its id now and commits after the next tick.
	late, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Rollback(t.Context()) //nolint:errcheck // it is committed below
	if _, err := late.Exec(t.Context(), "select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	write(2)
	mustTick(t, db)
	if _, err := late.Exec(t.Context(), "insert into "+pgx.Identifier{s.Schema()}.Sanitize()+`.event
		(version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		values (1, now(), 1, $1, 1, 'order:late', 'shop.order_placed', '', '', '', '', '{}')`, db.epoch); err != nil {
		t.Fatal(err)
	}
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(3)
	mustTick(t, db)

	all, end := readOn(t, s, courante.Cursor{}, 2)
	places := []courante.Cursor{{}, end}
	for i := range all {
		places = append(places, all[i].Cursor())
	}
	const lanes = 2
	for i, at := range places {
		subscriber := fmt.Sprintf("subscriber%d", i)
		if err := s.AddLaneEpoch(t.Context(), courante.LaneEpoch{Subscriber: subscriber, Log: s.Log(), N: 1, From: at, Types: []string{"shop.order_placed"}, Lanes: lanes}); err != nil {
			t.Fatal(err)
		}
	}
	status, err := db.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]SubscriptionStatus{}
	for _, sub := range status.Subscriptions {
		got[sub.Subscriber] = sub
	}
	for i, at := range places {
		rest, _ := readOn(t, s, at, 100)
		sub := got[fmt.Sprintf("subscriber%d", i)]
		if sub.Pending != int64(len(rest)) || sub.Oldest.IsZero() != (len(rest) == 0) {
			t.Errorf("at %s: got %d pending since %s, want %d", at, sub.Pending, sub.Oldest, len(rest))
		}
	}
	if len(status.Logs) != 1 || status.Logs[0].Ticked.IsZero() || status.Server.MaxConnections == 0 || status.Server.Size == 0 || status.Server.WAL == 0 {
		t.Errorf("got %+v", status)
	}
}

// TestStatusNamesTheOldestTransaction holds one open.
func TestStatusNamesTheOldestTransaction(t *testing.T) {
	t.Parallel()
	db, _ := openTest(t)
	conn, err := pgx.Connect(t.Context(), db.config.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	status, err := db.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Other tests have transactions in the same database; ours is at least as old as itself.
	if oldest := status.Server.OldestTransaction; oldest.Age <= 0 {
		t.Errorf("got %+v, want a transaction", oldest)
	}
}
