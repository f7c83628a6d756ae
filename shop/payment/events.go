package payment

import (
	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// What payment notes for itself.
type (
	// orderNoted: the order is known, its stock is not reserved yet.
	orderNoted struct {
		OrderID    string     `json:"order_id"`
		CustomerID string     `json:"customer_id" personal:"true"`
		Token      string     `json:"token" personal:"true"`
		Amount     shop.Money `json:"amount"`
	}
	// reservationNoted: the stock is reserved, the order is not known yet.
	reservationNoted struct{}
	// requested: the charge is on its way to the provider. The payment token
	// rides on it, in the request of the effect.
	requested struct {
		CustomerID string     `json:"customer_id" personal:"true"`
		Amount     shop.Money `json:"amount"`
	}
	// voiding: the provider is told to undo the charge, whether or not it was
	// made. Nobody waits for the charge itself any more.
	voiding struct{}
	// voided: the provider has done so.
	voided struct {
		OrderID  string     `json:"order_id"`
		Refunded shop.Money `json:"refunded"`
	}
	// cancellationNoted: the order is cancelled; settle as soon as the charge
	// is voided.
	cancellationNoted struct{}
)

func (orderNoted) EventType() string        { return "payment.order_noted" }
func (reservationNoted) EventType() string  { return "payment.reservation_noted" }
func (requested) EventType() string         { return "payment.requested" }
func (voiding) EventType() string           { return "payment.voiding" }
func (voided) EventType() string            { return "payment.voided" }
func (cancellationNoted) EventType() string { return "payment.cancellation_noted" }

func (e voided) Order() string { return e.OrderID }

func (e orderNoted) PersonalKey() string { return e.CustomerID }
func (e requested) PersonalKey() string  { return e.CustomerID }

// payment is the fold of a payment's stream.
type payment struct {
	CustomerID string        `json:"customer_id,omitempty"`
	Token      string        `json:"token,omitempty"`
	Amount     shop.Money    `json:"amount"`
	Refunded   shop.Money    `json:"refunded"`
	Past       courante.Past `json:"past"`
}

func evolutions() []courante.Evolution[payment] {
	return []courante.Evolution[payment]{
		courante.Evolve(func(p *payment, e orderNoted) {
			p.CustomerID, p.Token, p.Amount = e.CustomerID, e.Token, e.Amount
			p.Past.Add(e.EventType())
		}),
		happened[reservationNoted](),
		courante.Evolve(func(p *payment, e requested) {
			p.CustomerID, p.Amount = e.CustomerID, e.Amount
			p.Past.Add(e.EventType())
		}),
		happened[shop.PaymentDeclined](),
		courante.Evolve(func(p *payment, e shop.PaymentProcessed) {
			p.Amount = e.Amount
			p.Past.Add(e.EventType())
		}),
		happened[voiding](),
		courante.Evolve(func(p *payment, e voided) {
			p.Refunded = e.Refunded
			p.Past.Add(e.EventType())
		}),
		happened[cancellationNoted](),
		courante.Evolve(func(p *payment, e shop.PaymentSettled) {
			p.Refunded = e.Refunded
			p.Past.Add(e.EventType())
		}),
	}
}

// happened is the evolution of an event of which only the fact counts.
func happened[P courante.Payload]() courante.Evolution[payment] {
	return courante.Evolve(func(p *payment, e P) { p.Past.Add(e.EventType()) })
}
