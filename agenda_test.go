package courante_test

import (
	"context"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

// shortPages is a store that returns one event at a time.
type shortPages struct{ courante.Store }

func (s shortPages) ReadLog(ctx context.Context, after courante.Cursor, _ int) ([]courante.Event, courante.Cursor, error) {
	return s.Store.ReadLog(ctx, after, 1)
}

// stepped starts the domain on the database, to be stepped by hand.
func (d *domain) stepped(t *testing.T, db *memory.Database, now func() time.Time) *courante.Runtime {
	t.Helper()
	rt, err := courante.NewRuntime(courante.Config{
		Database: db, Stepped: true, Lanes: 1, Performers: 1, Now: now,
		Services: []courante.Mount{{Service: d.desk, Store: shortPages{db.Store("desk")}}, {Service: d.hotel, Store: shortPages{db.Store("hotel")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// settle steps all actors, in the order of the names that come first in
// favoured, until none finds anything to do.
func settle(t *testing.T, db *memory.Database, rt *courante.Runtime, favoured ...string) {
	t.Helper()
	var actors []*courante.Actor
	for _, name := range favoured {
		for _, a := range rt.Actors() {
			if a.Name == name {
				actors = append(actors, a)
			}
		}
	}
	actors = append(actors, rt.Actors()...)
	for worked := true; worked; {
		moved, err := db.Tick(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		worked = len(moved) > 0
		for _, a := range actors {
			did, err := a.Step(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", a.Name, err)
			}
			worked = worked || did
		}
	}
}

func TestEffectThatWasCarriedOutLongAgoIsNotCalledForAfterAStart(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	db := memory.New(memory.Config{Now: clock})
	calls := 0
	start := func() (*domain, *courante.Runtime) {
		d := newDomain()
		d.registry = func(context.Context, string, string) (string, error) { calls++; return "licence", nil }
		rt := d.stepped(t, db, clock)
		return d, rt
	}
	d, rt := start()
	d.doOpen(t, "ritz", 3)
	for _, id := range []string{"1", "2", "3"} {
		if _, err := d.doBook(t.Context(), id, "ritz"); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, db, rt)
	if calls != 3 {
		t.Fatalf("the registry was called %d times, want 3", calls)
	}

	// The process is gone before its agenda was recorded. Its successor reads
	// that three licences were asked for, and only later that they were given;
	// performers are as fast as they can be meanwhile.
	now = now.Add(48 * time.Hour)
	_, rt = start()
	settle(t, db, rt, "agenda hotel/0", "agenda hotel/1", "agenda hotel/2", "agenda hotel/3", "performer hotel/0")
	if calls != 3 {
		t.Errorf("after the restart the registry was called %d times more", calls-3)
	}
}
