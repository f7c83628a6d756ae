package main

import (
	"context"
	"slices"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

func TestMain(m *testing.M) { courantetest.Main(m) }

// TestLoanList runs the desk on PostgreSQL, where read models are.
func TestLoanList(t *testing.T) {
	t.Parallel()
	db, desk := courantetest.Postgres(t), NewDesk(period)
	rt, err := courante.NewRuntime(courante.Config{
		Database: db,
		Services: []courante.Mount{{Service: desk.Service(), Store: courantetest.PostgresStore(t, db, "loans")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, l := range []struct{ loan, book, reader string }{{"l1", "Emma", "Ann"}, {"l2", "Ivanhoe", "Ann"}, {"l3", "Dracula", "Bob"}} {
		if _, err := desk.Lend(ctx, l.loan, l.book, l.reader); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := desk.TakeBack(ctx, "l1"); err != nil {
		t.Fatal(err)
	}
	got, err := desk.LoansOf(ctx, "Ann")
	if want := []Listed{{"l1", "Emma", "returned"}, {"l2", "Ivanhoe", "lent"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Ann's loans are %v, %v; want %v", got, err, want)
	}
}
