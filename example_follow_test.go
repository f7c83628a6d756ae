package courante_test

import (
	"context"
	"fmt"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
)

type Sold struct {
	Currency string `json:"currency"`
	Amount   int64  `json:"amount"`
}

func (Sold) EventType() string { return "till.sold" }

type Sale struct {
	Day      time.Time
	Currency string
	Amount   int64
}

// salesOf makes rows of events, one array for each column.
func salesOf(events []courante.Event) (days []time.Time, currencies []string, amounts []int64, err error) {
	for i := range events {
		e, err := courante.Decode[Sold](&events[i])
		if err != nil {
			return nil, nil, nil, err
		}
		days, currencies, amounts = append(days, events[i].Time), append(currencies, e.Currency), append(amounts, e.Amount)
	}
	return days, currencies, amounts, nil
}

// A projection that follows the log at a distance: a query that is given a
// token and the projection's name waits until it has come so far.
func ExampleProjection() {
	svc := courante.NewService("reports")
	svc.Emits(courante.Private, Sold{})
	migrations := fstest.MapFS{"001_sales.sql": {Data: []byte("create table {schema}.sales (day date, currency text, amount bigint, primary key (day, currency))")}}
	svc.Tables(migrations) // create table {schema}.sales (day date, currency text, amount bigint, primary key (day, currency))
	svc.Project(courante.Projection{
		Name: "sales", Version: 1, Async: true, Tables: []string{"sales"},
		Types: courante.Types(Sold{}), // none: all of the service's own
		Apply: func(b *pgx.Batch, events []courante.Event) error {
			days, currencies, amounts, err := salesOf(events)
			b.Queue(`insert into {schema}.sales as s
				select day, currency, sum(amount) from unnest($1::date[], $2::text[], $3::bigint[]) as a(day, currency, amount) group by 1, 2 order by 1, 2
				on conflict (day, currency) do update set amount = s.amount + excluded.amount`, days, currencies, amounts)
			return err
		},
	})
	querySales := func(ctx context.Context) ([]Sale, error) {
		return courante.Select(ctx, svc, pgx.RowToStructByPos[Sale], "select day, currency, amount from {schema}.sales")
	}
	read := func(ctx context.Context, token string, wait time.Duration) (sales []Sale, err error) {
		err = svc.Read(ctx, token, wait, func() error { sales, err = querySales(ctx); return err }, "sales")
		return sales, err
	}
	_, err := read(context.Background(), "", time.Second)
	fmt.Println(err) // a runtime on package postgres has to run
	// Output:
	// query of reports: the service has no runtime; hand it to NewRuntime first
}
