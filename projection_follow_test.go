package courante_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/postgres"
)

// guests is a projection of the hotel that also reads the desk's log: how far
// each stay has come in both.
func guests() courante.Projection {
	return courante.Projection{
		Name: "guests", Version: 1, Async: true, Tables: []string{"guests"},
		Types: courante.Types(booked{}, kept{}, licensed{}),
		Apply: func(b *pgx.Batch, events []courante.Event) error {
			var ids []string
			for i := range events {
				ids = append(ids, events[i].Key())
			}
			b.Queue(`insert into {schema}.guests as g select id, count(*) from unnest($1::text[]) id group by id order by id
				on conflict (id) do update set steps = g.steps + excluded.steps`, ids)
			return nil
		},
	}
}

func hotelWithGuests() *domain {
	d := newDomain()
	d.hotel.Tables(tables("create table {schema}.guests (id text primary key, steps bigint not null)"))
	d.hotel.Project(guests())
	return d
}

func (d *domain) guest(ctx context.Context, id string) (steps int64, err error) {
	list, err := courante.Select(ctx, d.hotel, pgx.RowTo[int64], "select steps from {schema}.guests where id = $1", id)
	if err == nil && len(list) == 0 {
		return 0, courante.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return list[0], nil
}

// Who has a token reads what he wrote from a projection that follows at a
// distance, also from another service's log; and is told when it is paused.
func TestReadYourWritesFromAnAsyncProjection(t *testing.T) {
	t.Parallel()
	b := onPostgres(t)
	d := hotelWithGuests()
	d.run(t, b, 2)
	d.doOpen(t, "ritz", 1000)
	read := func(token string, id string, wait time.Duration) (steps int64, err error) {
		err = d.hotel.Read(t.Context(), token, wait, func() (err error) {
			steps, err = d.guest(t.Context(), id)
			return err
		}, "guests")
		return steps, err
	}
	for i := range 20 {
		id := fmt.Sprint("guest-", i)
		res, err := d.doBook(t.Context(), id, "ritz")
		if err != nil {
			t.Fatal(err)
		}
		if steps, err := read(res.Token.String(), id, 20*time.Second); err != nil || steps < 1 {
			t.Fatalf("%s has %d steps, error %v", id, steps, err)
		}
	}
	until(t, "all three steps of each", func() bool {
		steps, err := d.guest(t.Context(), "guest-19")
		return err == nil && steps == 3
	})

	store := b.store("hotel").(*postgres.Store)
	if err := store.PauseProjection(t.Context(), "guests", "anna"); err != nil {
		t.Fatal(err)
	}
	n := 100
	until(t, "a reader with a token to be told that it is paused", func() bool {
		n++
		res, err := d.doBook(t.Context(), fmt.Sprint("guest-", n), "ritz")
		if err != nil {
			t.Fatal(err)
		}
		_, err = read(res.Token.String(), fmt.Sprint("guest-", n), 20*time.Second)
		var no *courante.Rejection
		return errors.As(err, &no) && no.Code == "conflict" && strings.Contains(no.Error(), "paused")
	})
	if steps, err := read("", "guest-3", time.Second); err != nil || steps != 3 {
		t.Errorf("without a token: %d steps, error %v; want what it has", steps, err)
	}
	if err := store.ResumeProjection(t.Context(), "guests"); err != nil {
		t.Fatal(err)
	}
	until(t, "it to go on", func() bool {
		steps, err := d.guest(t.Context(), fmt.Sprint("guest-", n))
		return err == nil && steps == 3
	})
	if err := d.hotel.Read(t.Context(), "", time.Second, func() error { return nil }, "nobody"); err != nil {
		t.Errorf("without a token nothing is awaited: %v", err)
	}
	if err := d.hotel.Await(t.Context(), courante.Token{Log: "hotel"}, "nobody"); err == nil {
		t.Error("a projection that is not declared was awaited")
	}
}

// While a projection is built anew, compared and switched to, nobody outside is
// called again and no reaction runs again: only tables are filled.
func TestRebuildRepeatsNoEffectAndNoReaction(t *testing.T) {
	t.Parallel()
	b := onPostgres(t)
	d := hotelWithGuests()
	var calls atomic.Int64
	registry := d.registry
	d.registry = func(ctx context.Context, key, id string) (string, error) {
		calls.Add(1)
		return registry(ctx, key, id)
	}
	d.run(t, b, 2)
	d.doOpen(t, "ritz", 1000)
	for i := range 30 {
		if _, err := d.doBook(t.Context(), fmt.Sprint("guest-", i), "ritz"); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all bookings to be done", func() bool {
		for i := range 30 {
			if b, _, err := d.bookings.Get(t.Context(), fmt.Sprint("guest-", i)); err != nil || b.Status != "done" {
				return false
			}
		}
		return true
	})
	store := b.store("hotel").(*postgres.Store)
	counts := func() (n [3]int64) { // a reaction that ran again would have emitted again
		n[0] = calls.Load()
		for i, log := range []string{"desk", "hotel"} {
			s := b.store(log).(*postgres.Store)
			if err := b.db.(*postgres.Database).Pool().QueryRow(t.Context(), "select count(*) from "+s.Schema()+".event").Scan(&n[1+i]); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	before := counts()
	w, err := store.ProjectionWork(t.Context(), guests(), []string{"desk", "hotel"})
	if err != nil {
		t.Fatal(err)
	}
	generation, err := w.Build(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := w.Compare(t.Context(), generation); err != nil || !c.Same() || c.Tables[0].NewRows != 30 {
		t.Errorf("comparison %v, error %v", c, err)
	}
	until(t, "the switch", func() bool {
		err := w.Switch(t.Context(), generation)
		if err != nil && !errors.Is(err, courante.ErrTransient) {
			t.Fatal(err)
		}
		return err == nil
	})
	if _, err := d.doBook(t.Context(), "last", "ritz"); err != nil {
		t.Fatal(err)
	}
	until(t, "a booking after the switch", func() bool {
		steps, err := d.guest(t.Context(), "last")
		return err == nil && steps == 3
	})
	until(t, "it to be done", func() bool {
		b, _, err := d.bookings.Get(t.Context(), "last")
		return err == nil && b.Status == "done"
	})
	if after := counts(); after != [3]int64{before[0] + 1, before[1] + 2, before[2] + 2} {
		t.Errorf("calls, and events of both: %v, and before the rebuild %v; want what one booking adds", after, before)
	}
}
