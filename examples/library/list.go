package main

import (
	"context"
	"embed"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
)

//go:embed *.sql
var tables embed.FS

// Listed is a line of the list of loans.
type Listed struct {
	Loan   string `json:"loan"`
	Book   string `json:"book"`
	Status string `json:"status"`
}

// loanList is a read model, for what no key answers: which loans a reader has.
// Its table changes in the transaction of the events.
func loanList() courante.Projection {
	return courante.Projection{
		Name: "loan_list", Version: 1, Tables: []string{"loan_list"},
		Types: courante.Types(Lent{}, Overdue{}, Returned{}, Lost{}),
		Apply: func(b *pgx.Batch, events []courante.Event) error {
			var loans, books, readers []string
			status := map[string]string{} // the last one of each loan
			for i := range events {
				e := &events[i]
				if e.Type == (Lent{}).EventType() {
					lent, err := courante.Decode[Lent](e)
					if err != nil {
						return err
					}
					loans, books, readers = append(loans, lent.Loan), append(books, lent.Book), append(readers, lent.Reader)
				}
				_, loan, _ := strings.Cut(e.Stream, ":")
				status[loan] = strings.TrimPrefix(e.Type, "loans.")
			}
			changed := slices.Sorted(maps.Keys(status))
			statuses := make([]string, len(changed))
			for i, loan := range changed {
				statuses[i] = status[loan]
			}
			// Two statements for however many events.
			b.Queue(`insert into {schema}.loan_list select *, '' from unnest($1::text[], $2::text[], $3::text[])`, loans, books, readers)
			b.Queue(`update {schema}.loan_list l set status = s.status from unnest($1::text[], $2::text[]) as s (loan, status)
				where l.loan = s.loan`, changed, statuses)
			return nil
		},
	}
}

// LoansOf lists a reader's loans.
func (desk *Desk) LoansOf(ctx context.Context, reader string) ([]Listed, error) {
	return courante.Select(ctx, desk.svc, pgx.RowToStructByPos[Listed],
		"select loan, book, status from {schema}.loan_list where reader = $1 order by loan", reader)
}

// listRoute declares where the list is.
func (desk *Desk) listRoute(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-loans", Method: http.MethodGet, Path: "/v1/readers/{reader}/loans",
		Summary: "What a reader has borrowed", Errors: []int{http.StatusConflict},
	}, func(ctx context.Context, r *struct {
		Reader string `path:"reader"`
		Token  string `header:"Courante-Token"`
		Wait   int    `header:"Courante-Wait" default:"1000" minimum:"0" maximum:"30000" doc:"Milliseconds to wait for that"`
	}) (*listResponse, error) {
		res := &listResponse{}
		err := desk.svc.Read(ctx, r.Token, time.Duration(r.Wait)*time.Millisecond, func() (err error) {
			res.Body, err = desk.LoansOf(ctx, r.Reader)
			return err
		})
		return res, err
	})
}

type listResponse struct{ Body []Listed }
