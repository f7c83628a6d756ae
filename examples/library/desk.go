package main

import (
	"context"
	"time"

	"github.com/courante-dev/courante"
)

// The events. Their stored names are written by hand, so that a Go type can be
// renamed and what is stored stays readable.
type (
	Lent struct {
		Loan   string    `json:"loan"`
		Book   string    `json:"book"`
		Reader string    `json:"reader"`
		Due    time.Time `json:"due"`
	}
	Overdue struct {
		Loan   string `json:"loan"`
		Book   string `json:"book"`
		Reader string `json:"reader"`
	}
	Returned struct {
		Loan string `json:"loan"`
	}
	Lost struct { // nobody hopes for the book any more
		Loan string `json:"loan"`
	}
)

func (Lent) EventType() string     { return "loans.lent" }
func (Overdue) EventType() string  { return "loans.overdue" }
func (Returned) EventType() string { return "loans.returned" }
func (Lost) EventType() string     { return "loans.lost" }

// Loan is what the events of a loan amount to.
type Loan struct {
	Book   string    `json:"book"`
	Reader string    `json:"reader"`
	Due    time.Time `json:"due"`
	Status string    `json:"status"` // lent, overdue, returned or lost
}

// Book is kept as it is: two readers who want the same one meet on this row.
type Book struct {
	Loan string `json:"loan"` // "" if it is on the shelf
}

// Desk is the service that lends books.
type Desk struct {
	svc      *courante.Service
	loans    *courante.Entity[Loan]
	books    *courante.Entity[Book]
	lend     *courante.Command
	takeBack *courante.Command
	period   time.Duration
}

// NewDesk declares the service "loans". A book is lent for the period, and lost
// when it is not back after another one.
func NewDesk(period time.Duration) *Desk {
	types := courante.Types
	desk := &Desk{svc: courante.NewService("loans"), period: period}
	desk.svc.Emits(courante.Private, Lent{}) // nobody else needs it
	desk.svc.Emits(courante.Critical, Overdue{}, Returned{}, Lost{})
	desk.books = courante.Stored[Book](desk.svc, "book")
	desk.loans = courante.Sourced(desk.svc, "loan",
		courante.Evolve(func(l *Loan, e Lent) { *l = Loan{Book: e.Book, Reader: e.Reader, Due: e.Due, Status: "lent"} }),
		courante.Evolve(func(l *Loan, _ Overdue) { l.Status = "overdue" }),
		courante.Evolve(func(l *Loan, _ Returned) { l.Status = "returned" }),
		courante.Evolve(func(l *Loan, _ Lost) { l.Status = "lost" }))

	desk.lend = courante.NewCommand(desk.svc, courante.Step{
		Name: "lend", Unless: types(Lent{}),
		Outcomes: []courante.Outcome{{Emits: types(Lent{}), Sets: []string{"due"}}},
	})
	desk.takeBack = courante.NewCommand(desk.svc, courante.Step{
		Name: "take back", When: types(Lent{}), Unless: types(Returned{}, Lost{}),
		Outcomes: []courante.Outcome{{Emits: types(Returned{}), Clears: []string{"due", "lost"}}},
	})
	courante.OnDeadline(desk.loans, "due", courante.Step{
		Name: "note that it is late", Unless: types(Returned{}),
		Outcomes: []courante.Outcome{{Emits: types(Overdue{}), Sets: []string{"lost"}}},
	}, func(d *courante.Decision, id string) error {
		loan := desk.loans.Load(d, id)
		loan.Emit(Overdue{id, loan.State.Book, loan.State.Reader}, courante.Set("lost", d.Now().Add(period)))
		return nil
	})
	courante.OnDeadline(desk.loans, "lost", courante.Step{
		Name: "write off", Unless: types(Returned{}),
		Outcomes: []courante.Outcome{{Emits: types(Lost{})}},
	}, func(d *courante.Decision, id string) error {
		desk.loans.Load(d, id).Emit(Lost{id})
		return nil
	})
	desk.svc.Saga(courante.Saga{Name: "loan", Starts: Lent{}.EventType(), Completed: types(Returned{}, Lost{})})
	desk.svc.Tables(tables)
	desk.svc.Project(loanList())
	return desk
}

// Service is the declaration to hand to a runtime.
func (desk *Desk) Service() *courante.Service { return desk.svc }

// Lend lends a book. The caller names the loan, so that it is safe to repeat.
func (desk *Desk) Lend(ctx context.Context, id, book, reader string) (courante.Token, error) {
	res, err := desk.lend.Do(ctx, courante.Call{
		Keys: []courante.Key{desk.loans.Key(id), desk.books.Key(book)},
		Do: func(d *courante.Decision) error {
			loan, copies := desk.loans.Load(d, id), desk.books.Load(d, book)
			switch {
			case loan.State.Book == book && loan.State.Reader == reader:
				return nil // it was said before
			case loan.Exists():
				return courante.Reject("conflict", "loan %s is of another book or reader", id)
			case copies.State.Loan != "":
				return courante.Reject("conflict", "%s is lent out", book)
			}
			copies.Put(Book{Loan: id})
			due := d.Now().Add(desk.period)
			loan.Emit(Lent{id, book, reader, due}, courante.Set("due", due))
			return nil
		},
	})
	return res.Token, err
}

// TakeBack takes a book back, early or late.
func (desk *Desk) TakeBack(ctx context.Context, id string) (courante.Token, error) {
	res, err := desk.takeBack.Do(ctx, courante.Call{
		Keys: []courante.Key{desk.loans.Key(id)},
		Do: func(d *courante.Decision) error {
			loan := desk.loans.Load(d, id)
			switch loan.State.Status {
			case "":
				return courante.Reject("not_found", "there is no loan %s", id)
			case "returned":
				return nil
			case "lost":
				return courante.Reject("conflict", "%s was written off", loan.State.Book)
			}
			loan.Emit(Returned{id}, courante.Clear("due"), courante.Clear("lost"))
			desk.books.Load(d, loan.State.Book).Put(Book{})
			return nil
		},
	})
	return res.Token, err
}
