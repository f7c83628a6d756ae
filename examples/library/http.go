package main

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
)

// Routes declares what is reached over HTTP. Commands answer with a token, and
// a query that is given it is at least that fresh.
func (desk *Desk) Routes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "lend", Method: http.MethodPost, Path: "/v1/loans", DefaultStatus: http.StatusCreated,
		Summary: "Lend a book", Errors: []int{http.StatusConflict},
	}, func(ctx context.Context, r *struct {
		Body struct {
			Loan   string `json:"loan" minLength:"1" maxLength:"64" doc:"A name for the loan, which makes it safe to repeat"`
			Book   string `json:"book" minLength:"1" maxLength:"64"`
			Reader string `json:"reader" minLength:"1" maxLength:"64"`
		}
	}) (*answer, error) {
		return answered(desk.Lend(ctx, r.Body.Loan, r.Body.Book, r.Body.Reader))
	})
	huma.Register(api, huma.Operation{
		OperationID: "take-back", Method: http.MethodPost, Path: "/v1/loans/{loan}/return",
		Summary: "Take a book back", Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, r *struct {
		Loan string `path:"loan"`
	}) (*answer, error) {
		return answered(desk.TakeBack(ctx, r.Loan))
	})
	huma.Register(api, huma.Operation{
		OperationID: "get-loan", Method: http.MethodGet, Path: "/v1/loans/{loan}",
		Summary: "What became of a loan", Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, desk.getLoan)
	desk.listRoute(api)
}

type answer struct {
	Token string `header:"Courante-Token"`
	Body  struct {
		Token string `json:"token"`
	}
}

func answered(token courante.Token, err error) (*answer, error) {
	a := &answer{Token: token.String()}
	a.Body.Token = a.Token
	return a, err
}

type loanRequest struct {
	Loan  string `path:"loan"`
	Token string `header:"Courante-Token"`
	Wait  int    `header:"Courante-Wait" default:"1000" minimum:"0" maximum:"30000" doc:"Milliseconds to wait for that"`
}

type loanResponse struct{ Body Loan }

func (desk *Desk) getLoan(ctx context.Context, r *loanRequest) (*loanResponse, error) {
	res := &loanResponse{}
	err := desk.svc.Read(ctx, r.Token, time.Duration(r.Wait)*time.Millisecond, func() (err error) {
		res.Body, _, err = desk.loans.Get(ctx, r.Loan)
		return err
	})
	return res, err
}
