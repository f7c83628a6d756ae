package ordering

import (
	"context"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// Order is an order as its customer sees it.
type Order struct {
	OrderID      string     `json:"order_id"`
	CustomerID   string     `json:"customer_id"`
	Status       string     `json:"status" enum:"created,reserved,paid,shipped,confirmed,cancelling,cancelled,returned"`
	Version      int64      `json:"version"`
	Currency     string     `json:"currency"`
	Total        shop.Money `json:"total"`
	Lines        []LineView `json:"lines" nullable:"false"`
	CancelReason string     `json:"cancel_reason,omitempty"`
	Timeline     []Moment   `json:"timeline" nullable:"false"`
}

// LineView is one line of an order.
type LineView struct {
	Line             int    `json:"line" doc:"Counted from 1"`
	SKU              string `json:"sku"`
	Description      string `json:"description"`
	Quantity         int64  `json:"quantity"`
	UnitPrice        int64  `json:"unit_price"`
	Kind             string `json:"kind"`
	ReturnedQuantity int64  `json:"returned_quantity"`
}

// Moment is something that happened to an order.
type Moment struct {
	Type    string    `json:"type"`
	At      time.Time `json:"at"`
	Version int64     `json:"version"`
}

// Order reads an order from the source of truth.
func (c *Context) Order(ctx context.Context, id string) (Order, error) {
	state, history, err := c.orders.GetHistory(ctx, id)
	if err != nil {
		return Order{}, err
	}
	return orderView(id, state, history)
}

// orderDocument is the order's document, whose readers need no Order but its JSON.
func orderDocument(id string, state order, history []courante.Event) (any, error) {
	return orderView(id, state, history)
}

func orderView(id string, state order, history []courante.Event) (Order, error) {
	view := Order{
		OrderID: id, CustomerID: state.CustomerID, Status: state.status(), Version: int64(len(history)),
		Currency: state.Total.Currency, Total: state.Total, CancelReason: state.Reason,
		Lines: []LineView{}, Timeline: []Moment{},
	}
	for i := range history {
		e := &history[i]
		if strings.HasPrefix(e.Type, "courante.") {
			continue // the runtime's own bookkeeping
		}
		view.Timeline = append(view.Timeline, Moment{e.Type, e.Time, e.Version})
		if e.Type != (shop.OrderCreated{}).EventType() {
			continue
		}
		created, err := courante.Decode[shop.OrderCreated](e)
		if err != nil {
			return Order{}, err
		}
		for n, l := range created.Lines {
			view.Lines = append(view.Lines, LineView{
				Line: n + 1, SKU: l.SKU, Description: l.Description, Quantity: l.Quantity, UnitPrice: l.UnitPrice, Kind: l.Kind,
				ReturnedQuantity: state.Returned[n+1],
			})
		}
	}
	return view, nil
}
