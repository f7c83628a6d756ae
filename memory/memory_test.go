package memory_test

import (
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
)

func TestStore(t *testing.T) {
	t.Parallel()
	courantetest.TestStore(t, func(t *testing.T) (courante.Database, func(string) courante.Store) {
		db := memory.New(memory.Config{})
		return db, func(log string) courante.Store { return db.Store(log) }
	})
}
