package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

// town is what is outside of the library: its post office, and what its readers
// were told. It outlives every process of the simulation.
type town struct {
	posted map[string]Letter // by key
	lent   map[string]string // book by loan, of loans that were granted
}

// newTown builds the library and a town around it, to be run with one seed:
// some readers want the same few books, forget to bring them back, and call
// again when they got no answer.
func newTown() courantetest.Simulation[*Desk] {
	w := &town{posted: map[string]Letter{}, lent: map[string]string{}}
	return courantetest.Simulation[*Desk]{
		Start: func(p *courantetest.Process) (*Desk, []courante.Mount) {
			desk := NewDesk(10 * time.Second)
			letters := NewLetters(func(_ context.Context, key string, l Letter) error {
				_, err := courantetest.Outside(p, "post "+key, func() (struct{}, error) {
					w.posted[key] = l
					return struct{}{}, nil
				})
				return err
			})
			return desk, []courante.Mount{
				{Service: desk.Service(), Store: p.Store("loans")},
				{Service: letters, Store: p.Store("letters")},
			}
		},
		Clients: []func(*courantetest.Client[*Desk]){w.reader, w.reader, w.reader},
		Check:   w.check,
	}
}

func (w *town) reader(c *courantetest.Client[*Desk]) {
	for range 3 {
		id, book := c.NewID(), []string{"Emma", "Ulysses"}[c.IntN(2)]
		if c.Insist(func(desk *Desk) error {
			_, err := desk.Lend(context.Background(), id, book, "Ann")
			return err
		}, rejected) != nil {
			c.Sleep(time.Second)
			continue // somebody else has it
		}
		w.lent[id] = book
		c.Sleep(time.Duration(c.IntN(25_000)) * time.Millisecond)
		if c.IntN(4) > 0 {
			_ = c.Insist(func(desk *Desk) error { // it may be lost by now
				_, err := desk.TakeBack(context.Background(), id)
				return err
			}, rejected)
		}
	}
}

func rejected(err error) bool {
	var no *courante.Rejection
	return errors.As(err, &no)
}

// check looks at the end of a run, when nothing is left to do.
func (w *town) check(ctx context.Context, desk *Desk) error {
	held, late := map[string]string{}, 0
	for id, book := range w.lent {
		loan, _, err := desk.loans.Get(ctx, id)
		if err != nil {
			return err
		}
		events, err := desk.loans.History(ctx, id)
		if err != nil {
			return err
		}
		for _, e := range events {
			if e.Type == (Overdue{}).EventType() {
				late++
			}
		}
		switch loan.Status {
		case "returned":
		case "lost":
			if other := held[book]; other != "" {
				return fmt.Errorf("%s is lost with %s and with %s", book, other, id)
			}
			held[book] = id
		default:
			return fmt.Errorf("loan %s has not ended: it is %s", id, loan.Status)
		}
	}
	for _, book := range []string{"Emma", "Ulysses"} {
		b, _, err := desk.books.Get(ctx, book)
		if err != nil && !errors.Is(err, courante.ErrNotFound) {
			return err
		}
		if b.Loan != held[book] {
			return fmt.Errorf("%s is with %q, want %q", book, b.Loan, held[book])
		}
	}
	if len(w.posted) != late {
		return fmt.Errorf("%d letters were posted for %d loans that were late", len(w.posted), late)
	}
	return nil
}
