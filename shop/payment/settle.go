package payment

import (
	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// declareSettlement declares the way back. Shipping has said that the order
// will never be shipped; what is to be done depends on how far the charge has
// come, and there is one step for each case. Settling is also a tombstone: an
// order or a reservation that arrives later finds it and does nothing.
func (c *Context) declareSettlement() {
	settled := []courante.Outcome{{Emits: emits(shop.PaymentSettled{})}}

	on(c, courante.Step{
		Name:     "settle what was never charged",
		Undoes:   "charge",
		Unless:   emits(requested{}, shop.PaymentSettled{}),
		Outcomes: settled,
	}, settle)
	on(c, courante.Step{
		Name:     "settle what the provider declined",
		Undoes:   "charge",
		When:     emits(shop.PaymentDeclined{}),
		Unless:   emits(voiding{}, shop.PaymentSettled{}),
		Outcomes: settled,
	}, settle)
	on(c, courante.Step{
		Name:     "settle what is voided",
		Undoes:   "charge",
		When:     emits(voided{}),
		Unless:   emits(shop.PaymentSettled{}),
		Outcomes: settled,
	}, settle)

	// The charge was made, or is under way and may be made: both are undone
	// alike, by the key.
	on(c, courante.Step{
		Name:   "take the charge back",
		When:   emits(requested{}),
		Unless: emits(shop.PaymentDeclined{}, voiding{}, shop.PaymentSettled{}),
		Undoes: "charge",
		Outcomes: []courante.Outcome{{
			Emits: emits(cancellationNoted{}, voiding{}), Drops: []string{chargeEffect}, Asks: []string{voidEffect}, Clears: []string{deadline},
		}},
	}, func(d *courante.Decision, p *courante.Ref[payment], e shop.ShippingCancelled) {
		p.Emit(cancellationNoted{}, courante.Clear(deadline), c.charge.Drop())
		p.Emit(voiding{}, c.void.Ask(voidRequest{OrderID: e.OrderID}))
	})
	on(c, courante.Step{
		Name:     "wait for the void",
		When:     emits(voiding{}),
		Unless:   emits(voided{}, cancellationNoted{}, shop.PaymentSettled{}),
		Outcomes: []courante.Outcome{{Emits: emits(cancellationNoted{})}},
	}, func(d *courante.Decision, p *courante.Ref[payment], e shop.ShippingCancelled) {
		p.Emit(cancellationNoted{})
	})

	done := courante.Step{
		Name:     "note that the charge is voided",
		Unless:   emits(voided{}),
		Outcomes: []courante.Outcome{{Emits: emits(voided{})}},
	}
	c.void = courante.NewEffect(c.svc, courante.EffectSpec[voidRequest, voidOutcome]{
		Step: done, Effect: voidEffect, UntilAnswered: true, Timeout: c.cfg.Attempt,
		Perform: c.performVoid, // voiding again gives the same answer: it need not be asked for
		Then: func(d *courante.Decision, id string, _ voidRequest, out voidOutcome) error {
			p := c.payments.Load(d, id)
			if !p.State.Past.Allows(done) {
				return nil
			}
			p.Emit(voided{OrderID: id, Refunded: shop.Money{Amount: out.Refunded, Currency: p.State.Amount.Currency}})
			return nil
		},
	})
	on(c, courante.Step{
		Name:     "settle now that it is voided",
		When:     emits(cancellationNoted{}),
		Unless:   emits(shop.PaymentSettled{}),
		Outcomes: settled,
	}, func(d *courante.Decision, p *courante.Ref[payment], e voided) { p.Emit(settlement(p, e.OrderID)) })
}

func settle(_ *courante.Decision, p *courante.Ref[payment], e shop.ShippingCancelled) {
	p.Emit(settlement(p, e.OrderID))
}

func settlement(p *courante.Ref[payment], id string) shop.PaymentSettled {
	refunded := p.State.Refunded
	refunded.Currency = p.State.Amount.Currency
	return shop.PaymentSettled{OrderID: id, Refunded: refunded}
}
