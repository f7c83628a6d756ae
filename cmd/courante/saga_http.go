package main

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
)

// sagaView is a saga as its followers see it. It is an operator's view: which
// services dance it is an inner matter, so the names of steps are for reading
// and not for branching on.
type sagaView struct {
	Saga     string       `json:"saga"`
	OrderID  string       `json:"order_id,omitempty" doc:"Of the saga of an order"`
	ReturnID string       `json:"return_id,omitempty" doc:"Of the saga of a return"`
	State    string       `json:"state" enum:"running,completed,compensated,stuck"`
	Steps    []sagaStep   `json:"steps"`
	Waiting  *sagaWaiting `json:"waiting"`
	Cause    string       `json:"cause,omitempty" doc:"Why it is stuck"`
}

type sagaStep struct {
	Name    string    `json:"name"`
	Service string    `json:"service"`
	State   string    `json:"state" enum:"done,failed,undone,waiting"`
	At      time.Time `json:"at"`
	TraceID string    `json:"trace_id,omitempty"`
}

type sagaWaiting struct {
	For   string     `json:"for"`
	Until *time.Time `json:"until"`
}

type getSagaRequest struct {
	ID    string `path:"order_id" pattern:"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$" patternDescription:"1 to 64 letters and digits, and after the first also . _ : -" example:"first"`
	Token string `header:"Courante-Token" doc:"Answer at least as fresh as the command that gave the token"`
	Wait  int    `header:"Courante-Wait" default:"1000" minimum:"0" maximum:"30000" doc:"Milliseconds to wait for that"`
}

type getSagaResponse struct{ Body sagaView }

// sagaRoutes adds the saga's view to the API. It is made from the logs
// themselves, those of services that run elsewhere too; the first one runs here.
func sagaRoutes(api huma.API, g *courante.SagaGraph, mounts []courante.Mount) {
	here := mounts[0].Service
	huma.Register(api, huma.Operation{
		OperationID: "get-saga", Method: http.MethodGet, Path: "/v1/sagas/{order_id}",
		Summary: "Where an order's saga stands, step by step", Tags: []string{"sagas"},
		Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, r *getSagaRequest) (*getSagaResponse, error) {
		res := &getSagaResponse{}
		err := here.Read(ctx, r.Token, time.Duration(r.Wait)*time.Millisecond, func() error {
			status, _, err := courante.ReadSaga(ctx, g, mounts, r.ID, time.Now())
			res.Body = viewSaga(status)
			return err
		})
		if err != nil {
			return nil, err
		}
		return res, nil
	})
}

func viewSaga(s courante.SagaStatus) sagaView {
	v := sagaView{Saga: s.Saga, State: s.State, Cause: s.Cause, Steps: []sagaStep{}}
	if s.Saga == orderSaga {
		v.OrderID = s.ID
	} else {
		v.ReturnID = s.ID
	}
	for _, st := range s.Steps {
		v.Steps = append(v.Steps, sagaStep{st.Name, st.Service, st.State, st.At, st.TraceID})
	}
	if s.Waiting != nil {
		v.Waiting = &sagaWaiting{s.Waiting.For, s.Waiting.Until}
	}
	return v
}
