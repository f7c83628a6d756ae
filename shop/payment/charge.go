package payment

import (
	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// deadline is by when the provider must have answered.
const deadline = "payment"

const (
	chargeEffect = "charge"
	voidEffect   = "void"
)

// TimedOut is the reason of a payment that the provider did not answer in time.
const TimedOut = "timeout"

var emits = courante.Types

// asking is what may come of knowing both the order and its reservation: a
// charge, or, when there is nothing to pay, the end at once.
var asking = []courante.Outcome{
	{Emits: emits(requested{}), Asks: []string{chargeEffect}, Sets: []string{deadline}},
	{Emits: emits(shop.PaymentProcessed{})},
}

// declareCharge declares the way forward: the order and its reservation, in
// any order of arrival, then the charge.
func (c *Context) declareCharge() {
	on(c, courante.Step{
		Name:     "note the order",
		Unless:   emits(orderNoted{}, reservationNoted{}, shop.PaymentSettled{}),
		Outcomes: []courante.Outcome{{Emits: emits(orderNoted{})}},
	}, func(d *courante.Decision, p *courante.Ref[payment], e shop.OrderCreated) {
		p.Emit(orderNoted{OrderID: e.OrderID, CustomerID: e.CustomerID, Token: e.Payment.Token, Amount: e.Total})
	})
	on(c, courante.Step{
		Name:     "charge, the order being the last to hear of",
		When:     emits(reservationNoted{}),
		Unless:   emits(requested{}, shop.PaymentProcessed{}, shop.PaymentSettled{}),
		Outcomes: asking,
	}, func(d *courante.Decision, p *courante.Ref[payment], e shop.OrderCreated) {
		c.ask(d, p, e.OrderID, e.CustomerID, e.Payment.Token, e.Total)
	})

	on(c, courante.Step{
		Name:     "note the reservation",
		Unless:   emits(orderNoted{}, reservationNoted{}, shop.PaymentSettled{}),
		Outcomes: []courante.Outcome{{Emits: emits(reservationNoted{})}},
	}, func(d *courante.Decision, p *courante.Ref[payment], e shop.InventoryReserved) {
		p.Emit(reservationNoted{})
	})
	on(c, courante.Step{
		Name:     "charge",
		When:     emits(orderNoted{}),
		Unless:   emits(requested{}, shop.PaymentProcessed{}, shop.PaymentSettled{}),
		Outcomes: asking,
	}, func(d *courante.Decision, p *courante.Ref[payment], e shop.InventoryReserved) {
		c.ask(d, p, e.OrderID, p.State.CustomerID, p.State.Token, p.State.Amount)
	})

	answered := courante.Step{
		Name:   "take the provider's answer",
		Unless: emits(shop.PaymentProcessed{}, shop.PaymentDeclined{}, voiding{}, shop.PaymentSettled{}),
		Outcomes: []courante.Outcome{
			{Emits: emits(shop.PaymentProcessed{}), Clears: []string{deadline}},
			{Emits: emits(shop.PaymentDeclined{}), Clears: []string{deadline}, Fails: true},
		},
	}
	c.charge = courante.NewEffect(c.svc, courante.EffectSpec[chargeRequest, chargeOutcome]{
		Step: answered, Effect: chargeEffect, Timeout: c.cfg.Attempt,
		Perform: c.performCharge,
		Resolve: c.lookupCharge,
		Then: func(d *courante.Decision, id string, r chargeRequest, out chargeOutcome) error {
			p := c.payments.Load(d, id)
			switch {
			case !p.State.Past.Allows(answered):
			case out.Declined == "":
				p.Emit(shop.PaymentProcessed{OrderID: id, Amount: r.Amount}, courante.Clear(deadline))
			default:
				p.Emit(shop.PaymentDeclined{OrderID: id, Reason: out.Declined}, courante.Clear(deadline))
			}
			return nil
		},
	})

	late := courante.Step{
		Name:   "give up waiting for the provider",
		Unless: emits(shop.PaymentProcessed{}, shop.PaymentDeclined{}, voiding{}, shop.PaymentSettled{}),
		Undoes: "charge",
		Outcomes: []courante.Outcome{
			{Emits: emits(shop.PaymentDeclined{}, voiding{}), Drops: []string{chargeEffect}, Asks: []string{voidEffect}},
		},
	}
	courante.OnDeadline(c.payments, deadline, late, func(d *courante.Decision, id string) error {
		if p := c.payments.Load(d, id); p.State.Past.Allows(late) {
			p.Emit(shop.PaymentDeclined{OrderID: id, Reason: TimedOut}, c.charge.Drop())
			p.Emit(voiding{}, c.void.Ask(voidRequest{OrderID: id}))
		}
		return nil
	})
}

func (c *Context) ask(d *courante.Decision, p *courante.Ref[payment], id, customer, token string, amount shop.Money) {
	if amount.Amount == 0 {
		p.Emit(shop.PaymentProcessed{OrderID: id, Amount: amount})
		return
	}
	p.Emit(requested{CustomerID: customer, Amount: amount},
		c.charge.Ask(chargeRequest{OrderID: id, Token: token, Amount: amount}),
		courante.Set(deadline, d.Now().Add(c.cfg.Deadline)))
}

// on declares a step of a payment that an event sets off. The declaration is
// also the guard: do runs only when it allows.
func on[P shop.OrderEvent](c *Context, step courante.Step, do func(*courante.Decision, *courante.Ref[payment], P)) {
	courante.On(c.svc, courante.Reaction[P]{
		Step: step,
		Keys: func(e P) []courante.Key { return []courante.Key{c.payments.Key(e.Order())} },
		Do: func(d *courante.Decision, e P) error {
			if p := c.payments.Load(d, e.Order()); p.State.Past.Allows(step) {
				do(d, p, e)
			}
			return nil
		},
	})
}
