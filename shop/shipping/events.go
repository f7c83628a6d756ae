package shipping

import (
	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// What shipping notes for itself.
type (
	// orderNoted: the order is known, it is not paid yet.
	orderNoted struct {
		CustomerID string       `json:"customer_id" personal:"true"`
		ShipTo     shop.Address `json:"ship_to"`
		HasGoods   bool         `json:"has_goods"`
	}
	// paymentNoted: the order is paid, but not known yet.
	paymentNoted struct{}
	// requested: the booking is on its way to the carrier. The address rides
	// on it, in the request of the effect.
	requested struct {
		CustomerID string `json:"customer_id" personal:"true"`
	}
	// nothingToCarry: the order is paid and has no goods.
	nothingToCarry struct {
		OrderID string `json:"order_id"`
	}
	// refused: the carrier does not take the order, so nothing is booked.
	refused struct{}
	// callingOff: the carrier is told to cancel the booking, whether or not it
	// was made. Nobody waits for the booking itself any more.
	callingOff struct{}
)

func (orderNoted) EventType() string     { return "shipping.order_noted" }
func (paymentNoted) EventType() string   { return "shipping.payment_noted" }
func (requested) EventType() string      { return "shipping.requested" }
func (nothingToCarry) EventType() string { return "shipping.nothing_to_carry" }
func (refused) EventType() string        { return "shipping.refused" }
func (callingOff) EventType() string     { return "shipping.calling_off" }

func (e nothingToCarry) Order() string { return e.OrderID }

func (e orderNoted) PersonalKey() string { return e.CustomerID }
func (e requested) PersonalKey() string  { return e.CustomerID }

// shipment is the fold of a shipment's stream.
type shipment struct {
	CustomerID string        `json:"customer_id,omitempty"`
	ShipTo     shop.Address  `json:"ship_to"`
	HasGoods   bool          `json:"has_goods,omitempty"`
	Past       courante.Past `json:"past"`
}

func evolutions() []courante.Evolution[shipment] {
	return []courante.Evolution[shipment]{
		courante.Evolve(func(s *shipment, e orderNoted) {
			s.CustomerID, s.ShipTo, s.HasGoods = e.CustomerID, e.ShipTo, e.HasGoods
			s.Past.Add(e.EventType())
		}),
		happened[paymentNoted](),
		happened[requested](),
		happened[nothingToCarry](),
		happened[shop.ShippingArranged](),
		happened[refused](),
		happened[shop.ShippingFailed](),
		happened[callingOff](),
		happened[shop.ShippingCancelled](),
	}
}

// happened is the evolution of an event of which only the fact counts.
func happened[P courante.Payload]() courante.Evolution[shipment] {
	return courante.Evolve(func(s *shipment, e P) { s.Past.Add(e.EventType()) })
}
