package ordering

import (
	"context"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/live"
)

// OrderChange is something that happened to an order, as those hear it who watch.
type OrderChange struct {
	OrderID string    `json:"order_id"`
	Status  string    `json:"status" enum:"created,reserved,paid,shipped,confirmed,cancelling,cancelled,returned" doc:"Since then"`
	Version int64     `json:"version"`
	Type    string    `json:"type" doc:"As in the timeline"`
	At      time.Time `json:"at"`
}

func (c *Context) declareWatch() {
	c.watch = courante.NewWatch(c.orders, courante.WatchSpec[order]{
		Of: c.views,
		Show: func(id string, o order, e *courante.Event) (any, error) {
			if strings.HasPrefix(e.Type, "courante.") {
				return nil, nil // the runtime's own bookkeeping
			}
			return OrderChange{id, o.status(), e.Version, e.Type, e.Time}, nil
		},
		// A confirmed order may still come back.
		Ended: func(o order) bool { return o.status() == Cancelled || o.status() == Returned },
	})
}

func (c *Context) watchRoutes(api huma.API) {
	huma.Register(api, live.Operation[Order, OrderChange](api, huma.Operation{
		OperationID: "watch-order", Path: "/v1/orders/{id}/events",
		Summary: "What happens to an order, live", Tags: []string{"orders"},
		Description: "Server-Sent Events: the order as it is, then each change, in order and none left out. " +
			"The stream ends when the order is cancelled or all of it is returned; coming back with the Last-Event-ID then gets 204.",
	}), c.watchOrder)
}

type watchOrderRequest struct {
	ID string `path:"id" pattern:"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$" patternDescription:"1 to 64 letters and digits, and after the first also . _ : -" example:"first"`
	live.Request
}

func (c *Context) watchOrder(ctx context.Context, r *watchOrderRequest) (*live.Response, error) {
	return live.Open(ctx, c.watch, r.ID, r.Request)
}
