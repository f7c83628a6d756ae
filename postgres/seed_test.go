//go:build linux || darwin

package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

// A lane that is declared when the others are millions of batches further has
// to be able to record its progress: the ranges of small numbers are gone.
func TestNewLaneBeginsWhereProgressHasRoom(t *testing.T) {
	t.Parallel()
	_, store := openTest(t)
	busy := courante.LaneEpoch{Subscriber: "busy", Log: "orders", N: 1, Lanes: 1}
	if err := store.AddLaneEpoch(t.Context(), busy); err != nil {
		t.Fatal(err)
	}
	conn := testConn(t)
	for n := int64(1); n <= 3; n++ { // as if it had filled three ranges
		mustExec(t, conn, store, fmt.Sprintf(`insert into {schema}.progress (n, epoch, lane_epoch, k, tick, position, hash, subscriber, log)
			values (%d, 1, 1, 0, 1, 1, 1, 'busy', 'orders')`, n*progressSpan))
		if err := store.Maintain(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	first, _, err := store.progressRange(t.Context())
	if err != nil || first == 0 {
		t.Fatalf("progress begins at %d, %v; the test wants the first range dropped", first, err)
	}

	late := courante.LaneEpoch{Subscriber: "late", Log: "orders", N: 1, Lanes: 2}
	if err := store.AddLaneEpoch(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	lane := courante.Lane{Subscriber: "late", Log: "orders", Epoch: 1, K: 1}
	p, err := store.Progress(t.Context(), lane)
	if err != nil {
		t.Fatal(err)
	}
	record := func(n int64) error {
		unit, err := store.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer unit.Rollback(t.Context())
		_, err = unit.Commit(t.Context(), courante.Changes{Progress: []courante.Progress{{Lane: lane, N: n}}})
		return err
	}
	if err := record(p.N + 1); err != nil {
		t.Errorf("the lane's first record after %d: %v", p.N, err)
	}
	if err := record(p.N + 1); !errors.Is(err, courante.ErrFenced) {
		t.Errorf("a second owner's first record: %v, want ErrFenced", err)
	}
}
