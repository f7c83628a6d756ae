//go:build linux || darwin

package postgres_test

import (
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/postgres"
)

var (
	_ courante.Store    = (*postgres.Store)(nil)
	_ courante.Database = (*postgres.Database)(nil)
)

func TestStore(t *testing.T) {
	t.Parallel()
	courantetest.TestStore(t, func(t *testing.T) (courante.Database, func(log string) courante.Store) {
		config := postgres.NewTestConfig(t)
		config.Committers = 1
		open := func() *postgres.Database {
			db, err := postgres.Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(db.Close)
			return db
		}
		db := open()
		opened := make(map[string]bool)
		// The first handle of a log belongs to the database that ticks; each
		// further one is a process of its own, with its own connections.
		return db, func(log string) courante.Store {
			on := db
			if opened[log] {
				on = open()
			}
			opened[log] = true
			store, err := on.Store(t.Context(), log)
			if err != nil {
				t.Fatal(err)
			}
			return store
		}
	})
}
