package audit

import (
	"encoding/json"
	"slices"
)

// amount is money in minor units of a currency.
type amount struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

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

const goods = "goods"

type orderEnded struct {
	Total    amount `json:"total"`
	Tracking string `json:"tracking"`
	Refunded amount `json:"refunded"`
}

// facts is what the events of an order say, whoever's they are. What did not
// happen is nil.
type facts struct {
	created   *orderCreated
	createdAt *event
	confirmed *orderEnded
	cancelled *orderEnded
	returned  bool

	reserved, rejected, released, issued *event

	requested bool
	processed *amount
	declined  bool
	voided    *amount
	settled   *amount

	arranged          *event
	tracking          string
	shippingCancelled bool
	past              [][]string // types by stream, each once, in order
}

// learn reads the facts from the events.
func (a *auditor) learn(d *dossier) (f facts) {
	f.past = make([][]string, len(d.events))
	for i := range d.events {
		for j := range d.events[i] {
			e := &d.events[i][j]
			if !slices.Contains(f.past[i], e.typ) {
				f.past[i] = append(f.past[i], e.typ)
			}
			f.learn(a, e)
		}
	}
	return f
}

func (f *facts) learn(a *auditor, e *event) {
	var p struct {
		Amount   amount `json:"amount"`
		Refunded amount `json:"refunded"`
		Tracking string `json:"tracking"`
	}
	switch e.typ {
	case "shop.order_created":
		f.created, f.createdAt = decode[orderCreated](a, e), e
	case "shop.order_confirmed":
		f.confirmed = decode[orderEnded](a, e)
	case "shop.order_cancelled":
		f.cancelled = decode[orderEnded](a, e)
	case "shop.order_returned":
		f.returned = true
	case "shop.inventory_reserved":
		f.reserved = e
	case "shop.inventory_rejected":
		f.rejected = e
	case "shop.inventory_released":
		f.released = e
	case "shop.inventory_issued":
		f.issued = e
	case "payment.requested":
		f.requested = true
	case "shop.payment_processed":
		decodeTo(a, e, &p)
		f.processed = &p.Amount
	case "shop.payment_declined":
		f.declined = true
	case "payment.voided":
		decodeTo(a, e, &p)
		f.voided = &p.Refunded
	case "shop.payment_settled":
		decodeTo(a, e, &p)
		f.settled = &p.Refunded
	case "shop.shipping_arranged":
		decodeTo(a, e, &p)
		f.arranged, f.tracking = e, p.Tracking
	case "shop.shipping_cancelled":
		f.shippingCancelled = true
	}
}

// decode reads an event's payload; nil if that fails.
func decode[T any](a *auditor, e *event) *T {
	v := new(T)
	if !decodeTo(a, e, v) {
		return nil
	}
	return v
}

func decodeTo(a *auditor, e *event, v any) bool {
	if err := json.Unmarshal(e.data, v); err != nil {
		a.checks.streams.wrong(e.id, "its data cannot be read: %v", err)
		return false
	}
	return true
}

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
