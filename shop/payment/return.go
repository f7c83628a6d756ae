package payment

import (
	"context"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

const refundEffect = "refund"

// RefundKey is the provider's key for the refund of a return. It depends on
// nothing but the ids, so that a return is refunded at most once even if our own
// memory of having asked were lost.
func RefundKey(orderID, returnID string) string {
	return ChargeKey(orderID) + "/return:" + returnID
}

// refundRequested: the refund of a return is on its way to the provider.
type refundRequested struct {
	OrderID string     `json:"order_id"`
	Amount  shop.Money `json:"amount"`
}

func (refundRequested) EventType() string { return "payment.refund_requested" }

// refund is the fold of a return's stream.
type refund struct {
	Past courante.Past `json:"past"`
}

func refundEvolutions() []courante.Evolution[refund] {
	return []courante.Evolution[refund]{
		courante.Evolve(func(r *refund, e refundRequested) { r.Past.Add(e.EventType()) }),
		courante.Evolve(func(r *refund, e shop.ReturnRefunded) { r.Past.Add(e.EventType()) }),
	}
}

type refundRequest struct {
	OrderID  string     `json:"order_id"`
	ReturnID string     `json:"return_id"`
	Amount   shop.Money `json:"amount"`
}

// declareReturns declares how the price of returned lines is given back. The
// goods are with us, so the provider is asked until it has done it.
func (c *Context) declareReturns() {
	begin := courante.Step{
		Name:   "refund what is returned",
		Unless: emits(refundRequested{}, shop.ReturnRefunded{}),
		Outcomes: []courante.Outcome{
			{Emits: emits(refundRequested{}), Asks: []string{refundEffect}},
			{Emits: emits(shop.ReturnRefunded{})}, // it cost nothing
		},
	}
	courante.On(c.svc, courante.Reaction[shop.ReturnRequested]{
		Step: begin,
		Keys: func(e shop.ReturnRequested) []courante.Key {
			return []courante.Key{c.refunds.Key(e.ReturnID), c.payments.Key(e.OrderID)}
		},
		Do: func(d *courante.Decision, e shop.ReturnRequested) error {
			r, p := c.refunds.Load(d, e.ReturnID), c.payments.Load(d, e.OrderID)
			switch {
			case !r.State.Past.Allows(begin):
			case e.Refund.Amount == 0:
				r.Emit(shop.ReturnRefunded{OrderID: e.OrderID, ReturnID: e.ReturnID, Amount: e.Refund})
			case !p.State.charged(e.Refund):
				// Asking the provider for it would be in vain for ever.
				return courante.Park(fmt.Errorf("return %s asks for %s, and order %s was charged %s", e.ReturnID, e.Refund, e.OrderID, p.State.Amount))
			default:
				r.Emit(refundRequested{OrderID: e.OrderID, Amount: e.Refund},
					c.refund.Ask(refundRequest{OrderID: e.OrderID, ReturnID: e.ReturnID, Amount: e.Refund}))
			}
			return nil
		},
	})

	done := courante.Step{
		Name:     "note that the return is refunded",
		Unless:   emits(shop.ReturnRefunded{}),
		Outcomes: []courante.Outcome{{Emits: emits(shop.ReturnRefunded{})}},
	}
	c.refund = courante.NewEffect(c.svc, courante.EffectSpec[refundRequest, struct{}]{
		Step: done, Effect: refundEffect, UntilAnswered: true, Timeout: c.cfg.Attempt,
		// Refunding again with the same key changes nothing: it need not be asked for.
		Perform: func(ctx context.Context, _ string, r refundRequest) (struct{}, error) {
			return struct{}{}, c.cfg.Provider.Refund(ctx, ChargeKey(r.OrderID), RefundKey(r.OrderID, r.ReturnID), r.Amount.Amount)
		},
		Then: func(d *courante.Decision, id string, req refundRequest, _ struct{}) error {
			if r := c.refunds.Load(d, id); r.State.Past.Allows(done) {
				r.Emit(shop.ReturnRefunded{OrderID: req.OrderID, ReturnID: req.ReturnID, Amount: req.Amount})
			}
			return nil
		},
	})
}

// charged reports whether so much, in that currency, was taken for the order.
// That several returns together stay within it, ordering and the provider see to.
func (p payment) charged(m shop.Money) bool {
	return p.Past.Has(shop.PaymentProcessed{}.EventType()) && p.Amount.Currency == m.Currency && p.Amount.Amount >= m.Amount
}
