package audit

import (
	"encoding/json"
	"fmt"
	"slices"
)

// amount is money in minor units of a currency.
type amount struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

func (m amount) String() string { return fmt.Sprintf("%d %s", m.Amount, m.Currency) }

type orderCreated struct {
	OrderID    string      `json:"order_id"`
	CustomerID string      `json:"customer_id"`
	Lines      []orderLine `json:"lines"`
	Total      amount      `json:"total"`
	Payment    struct {
		Token string `json:"token"`
	} `json:"payment"`
	ShipTo struct {
		Country string `json:"country"`
	} `json:"ship_to"`
}

type orderLine struct {
	SKU       string `json:"sku"`
	Quantity  int64  `json:"quantity"`
	UnitPrice int64  `json:"unit_price"`
	Kind      string `json:"kind"`
}

// goods is the kind of a line that comes from stock and is shipped.
const goods = "goods"

type orderEnded struct {
	Total    amount `json:"total"`
	Tracking string `json:"tracking"`
	Refunded amount `json:"refunded"`
}

type returnRequested struct {
	ReturnID  string         `json:"return_id"`
	Lines     []returnedLine `json:"lines"`
	Refund    amount         `json:"refund"`
	GoodsLeft int64          `json:"goods_left"`
}

type returnedLine struct {
	Line int `json:"line"` // of the order, counted from 1
	orderLine
}

// facts is what the events of an order say, whoever's they are. What did not
// happen is nil.
type facts struct {
	created   *orderCreated
	createdAt *event
	confirmed *orderEnded
	cancelled *orderEnded
	returned  bool

	reserved, released, issued *event

	requested bool // of the provider
	processed *amount
	voided    *amount
	settled   *amount

	arranged          *event
	tracking          string
	shippingCancelled bool

	returns []returnFacts
}

// returnFacts is what the events say of one return.
type returnFacts struct {
	thread    *thread
	requested *returnRequested
	restocked *event
	refunded  *amount
	completed *event
	closed    *event
}

// learn adds what a thread says.
func (f *facts) learn(a *auditor, t *thread) {
	var r *returnFacts
	if t.returned != "" {
		f.returns = append(f.returns, returnFacts{thread: t})
		r = &f.returns[len(f.returns)-1]
	}
	for i := range t.events {
		for j := range t.events[i] {
			e := &t.events[i][j]
			if r != nil {
				r.learn(a, e)
				f.returned = f.returned || e.typ == "shop.order_returned"
			} else {
				f.learnOf(a, e)
			}
		}
	}
}

func (f *facts) learnOf(a *auditor, e *event) {
	switch e.typ {
	case "shop.order_created":
		f.created, f.createdAt = decode[orderCreated](a, e), e
	case "shop.order_confirmed":
		f.confirmed = decode[orderEnded](a, e)
	case "shop.order_cancelled":
		f.cancelled = decode[orderEnded](a, e)
	case "shop.inventory_reserved":
		f.reserved = e
	case "shop.inventory_released":
		f.released = e
	case "shop.inventory_issued":
		f.issued = e
	case "payment.requested":
		f.requested = true
	case "shop.payment_processed":
		f.processed = &decode[struct{ Amount amount }](a, e).Amount
	case "payment.voided":
		f.voided = &decode[orderEnded](a, e).Refunded
	case "shop.payment_settled":
		f.settled = &decode[orderEnded](a, e).Refunded
	case "shop.shipping_arranged":
		f.arranged, f.tracking = e, decode[orderEnded](a, e).Tracking
	case "shop.shipping_cancelled":
		f.shippingCancelled = true
	}
}

func (r *returnFacts) learn(a *auditor, e *event) {
	switch e.typ {
	case "shop.return_requested":
		r.requested = decode[returnRequested](a, e)
	case "shop.return_restocked":
		r.restocked = e
	case "shop.return_refunded":
		r.refunded = &decode[struct{ Amount amount }](a, e).Amount
	case "shop.return_completed":
		r.completed = e
	case "ordering.return_closed":
		r.closed = e
	}
}

// decode reads an event's payload. One that cannot be read is reported, and
// what was read of it is likely to be reported as well.
func decode[T any](a *auditor, e *event) *T {
	v := new(T)
	if err := readJSON(e.data, v); err != nil {
		a.checks.streams.wrong(e.id, "its data cannot be read: %v", err)
	}
	return v
}

func readJSON(data []byte, v any) error { return json.Unmarshal(data, v) }

// wanted sums up the goods of an order by SKU.
func (o *orderCreated) wanted() map[string]int64 {
	items := map[string]int64{}
	for _, l := range o.Lines {
		if l.Kind == goods {
			items[l.SKU] += l.Quantity
		}
	}
	return items
}

func (o *orderCreated) hasGoods() bool {
	return slices.ContainsFunc(o.Lines, func(l orderLine) bool { return l.Kind == goods })
}

func (o *orderCreated) sum() (sum int64) {
	for _, l := range o.Lines {
		sum += l.Quantity * l.UnitPrice
	}
	return sum
}
