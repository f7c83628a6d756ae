package ordering

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
)

func (c *Context) listRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-orders", Method: http.MethodGet, Path: "/v1/orders",
		Summary: "Orders, newest first", Tags: []string{"orders"}, Errors: []int{http.StatusConflict},
		Description: "The list follows the orders by about a quarter of a second; with a token it is at least as fresh as the command. Pages: ask again with next_cursor as cursor, and the same filters, until it is null; each order comes once, also while new ones are placed.",
	}, c.getOrders)
}

type getOrdersRequest struct {
	CustomerID string `query:"customer_id" pattern:"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$" patternDescription:"1 to 64 letters and digits, and after the first also . _ : -" example:"17850" doc:"Only orders of this customer"`
	Status     string `query:"status" enum:"created,reserved,paid,shipped,confirmed,cancelling,cancelled,returned" doc:"Only orders in this status"`
	Limit      int    `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"Orders a page"`
	Cursor     string `query:"cursor" doc:"next_cursor of the page before"`
	Token      string `header:"Courante-Token" doc:"Answer at least as fresh as the command that gave the token"`
	Wait       int    `header:"Courante-Wait" default:"1000" minimum:"0" maximum:"30000" doc:"Milliseconds to wait for that"`
}

// OrderPage is a page of the list of orders.
type OrderPage struct {
	Items      []ListedOrder `json:"items" nullable:"false"`
	NextCursor *string       `json:"next_cursor" doc:"null on the last page"`
}

type getOrdersResponse struct{ Body OrderPage }

func (c *Context) getOrders(ctx context.Context, r *getOrdersRequest) (*getOrdersResponse, error) {
	var list []ListedOrder
	var next string
	err := c.svc.Read(ctx, r.Token, time.Duration(r.Wait)*time.Millisecond, func() (err error) {
		list, next, err = c.List(ctx, ListQuery{CustomerID: r.CustomerID, Status: r.Status, Limit: r.Limit, Cursor: r.Cursor})
		return err
	}, listName)
	switch {
	case errors.Is(err, ErrBadCursor):
		return nil, huma.Error400BadRequest(err.Error())
	case errors.Is(err, courante.ErrNoSQL):
		return nil, huma.Error501NotImplemented("this shop keeps its orders in memory and has no list of them; run it on PostgreSQL")
	case err != nil:
		return nil, err
	}
	page := OrderPage{Items: list}
	if list == nil {
		page.Items = []ListedOrder{}
	}
	if next != "" {
		page.NextCursor = &next
	}
	return &getOrdersResponse{page}, nil
}
