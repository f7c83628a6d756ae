package ordering

import (
	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// The order's own notes of what others did. Nobody else reads them: the others'
// events say the same.
type (
	orderReserved struct{}
	orderPaid     struct{}
	orderShipped  struct {
		Tracking string `json:"tracking,omitempty"`
	}
	goodsIssued    struct{}
	goodsReleased  struct{}
	paymentSettled struct {
		Refunded shop.Money `json:"refunded"`
	}
)

func (orderReserved) EventType() string  { return "ordering.order_reserved" }
func (orderPaid) EventType() string      { return "ordering.order_paid" }
func (orderShipped) EventType() string   { return "ordering.order_shipped" }
func (goodsIssued) EventType() string    { return "ordering.goods_issued" }
func (goodsReleased) EventType() string  { return "ordering.goods_released" }
func (paymentSettled) EventType() string { return "ordering.payment_settled" }

// placed is what decisions need of shop.OrderCreated. An order is loaded at
// each of its steps and may have 2,000 lines, so those are skipped here.
type placed struct {
	CustomerID  string     `json:"customer_id"`
	Total       shop.Money `json:"total"`
	Fingerprint string     `json:"fingerprint"`
}

func (placed) EventType() string { return shop.OrderCreated{}.EventType() }

// order is the fold of an order's stream.
type order struct {
	CustomerID  string        `json:"customer_id"`
	Total       shop.Money    `json:"total"`
	Fingerprint string        `json:"fingerprint"`
	Reason      string        `json:"reason,omitempty"` // why it is or was cancelled
	Tracking    string        `json:"tracking,omitempty"`
	Refunded    shop.Money    `json:"refunded"`
	Returned    map[int]int64 `json:"returned,omitempty"`   // pieces by line, counted from 1
	Returning   []string      `json:"returning,omitempty"`  // ids of the returns under way
	GoodsBack   bool          `json:"goods_back,omitempty"` // all of them are back or on their way
	Past        courante.Past `json:"past"`
}

func evolutions() []courante.Evolution[order] {
	return []courante.Evolution[order]{
		courante.Evolve(func(o *order, e placed) {
			o.CustomerID, o.Total, o.Fingerprint = e.CustomerID, e.Total, e.Fingerprint
			o.Refunded.Currency = e.Total.Currency
			o.Past.Add(e.EventType())
		}),
		happened[orderReserved](),
		happened[orderPaid](),
		courante.Evolve(func(o *order, e orderShipped) {
			o.Tracking = e.Tracking
			o.Past.Add(e.EventType())
		}),
		happened[goodsIssued](),
		happened[shop.OrderConfirmed](),
		courante.Evolve(func(o *order, e shop.OrderCancelling) {
			o.Reason = e.Reason
			o.Past.Add(e.EventType())
		}),
		happened[goodsReleased](),
		courante.Evolve(func(o *order, e paymentSettled) {
			o.Refunded.Amount = e.Refunded.Amount // its currency is the order's
			o.Past.Add(e.EventType())
		}),
		courante.Evolve(func(o *order, e shop.OrderCancelled) {
			o.Reason = e.Reason
			o.Past.Add(e.EventType())
		}),
		courante.Evolve((*order).requested),
		courante.Evolve((*order).closed),
		happened[shop.OrderReturned](),
	}
}

// happened is the evolution of an event of which only the fact counts.
func happened[P courante.Payload]() courante.Evolution[order] {
	return courante.Evolve(func(o *order, e P) { o.Past.Add(e.EventType()) })
}

// Statuses of an order.
const (
	Created    = "created"
	Reserved   = "reserved"
	Paid       = "paid"
	Shipped    = "shipped"
	Confirmed  = "confirmed"
	Cancelling = "cancelling"
	Cancelled  = "cancelled"
	Returned   = "returned" // all goods are back; a partial return stays confirmed
)

// ranks are the statuses with the event that brings an order there, the
// furthest first. Shipped comes before cancelling: an order that was shipped
// while somebody cancelled it goes on.
var ranks = []struct {
	event  courante.Payload
	status string
}{
	{shop.OrderCancelled{}, Cancelled},
	{shop.OrderReturned{}, Returned},
	{shop.OrderConfirmed{}, Confirmed},
	{orderShipped{}, Shipped},
	{shop.OrderCancelling{}, Cancelling},
	{orderPaid{}, Paid},
	{orderReserved{}, Reserved},
	{shop.OrderCreated{}, Created},
}

// status is the furthest that the order has come.
func (o order) status() string {
	for _, r := range ranks {
		if o.Past.Has(r.event.EventType()) {
			return r.status
		}
	}
	return Created
}
