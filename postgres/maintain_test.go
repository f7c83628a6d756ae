//go:build linux || darwin

package postgres

import (
	"context"
	"testing"
	"time"
)

// Opening a store has to make a partition of a table that somebody has locked:
// it waits, and gives up only with its context.
func TestOpeningWaitsForALock(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, store := openConfig(t, config)
	day := "reply_" + time.Now().UTC().AddDate(0, 0, repliesAhead).Format(dayFormat)
	holder := testConn(t)
	mustExec(t, holder, store, "drop table {schema}."+day)
	mustExec(t, holder, store, "begin")
	mustExec(t, holder, store, "lock table {schema}.reply in access exclusive mode")

	db, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := db.Store(short, store.name); err == nil {
		t.Fatal("it was opened beside the lock")
	}
	opened := make(chan error, 1)
	go func() {
		_, err := db.Store(t.Context(), store.name)
		opened <- err
	}()
	// An attempt's transaction ends with its lock's timeout, so the second one
	// comes after a failure.
	watch := testConn(t)
	seen := make(map[string]bool)
	eventually(t, "it to try twice", func() bool {
		var attempt string
		err := watch.QueryRow(t.Context(), "select virtualtransaction from pg_locks where not granted and relation = $1::text::regclass::oid limit 1",
			store.quoted+".reply").Scan(&attempt)
		if err == nil {
			seen[attempt] = true
		}
		return len(seen) >= 2
	})
	mustExec(t, holder, store, "rollback")
	if err := <-opened; err != nil {
		t.Fatalf("after the lock was gone: %v", err)
	}
	mustExec(t, holder, store, "select from {schema}."+day)
}

// Another process that is changing the partitions may fail: who opens the store
// meanwhile waits and looks for himself.
func TestOpeningWaitsForWhoMaintains(t *testing.T) {
	t.Parallel()
	config := NewTestConfig(t)
	_, store := openConfig(t, config)
	day := "reply_" + time.Now().UTC().AddDate(0, 0, repliesAhead).Format(dayFormat)
	holder := testConn(t)
	mustExec(t, holder, store, "drop table {schema}."+day)
	mustExec(t, holder, store, "select pg_advisory_lock(hashtextextended($1, 0))", "courante.maintain."+store.schema)

	db, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := db.Store(short, store.name); err == nil {
		t.Fatal("it was opened although somebody else is at its partitions")
	}
	mustExec(t, holder, store, "select pg_advisory_unlock_all()")
	if _, err := db.Store(t.Context(), store.name); err != nil {
		t.Fatal(err)
	}
	mustExec(t, holder, store, "select from {schema}."+day)
}
