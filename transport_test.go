package courante_test

import (
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

func TestLogTransportKeepsTheContract(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, b base) {
		courantetest.TestTransport(t, func(t *testing.T) courantetest.TransportFixture {
			b := b.fresh(t)
			store := b.store("source")
			return courantetest.TransportFixture{
				Store: store, Transport: courante.LogTransport(store),
				Settle: func(t *testing.T) {
					t.Helper()
					if _, err := b.db.Tick(t.Context()); err != nil {
						t.Fatal(err)
					}
				},
			}
		})
	})
}
