package shipping

import (
	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// deadline is by when the carrier must have answered.
const deadline = "carrier"

const (
	bookEffect    = "book"
	callOffEffect = "call_off"
)

// TimedOut is the reason of a shipment that the carrier did not answer in time.
const TimedOut = "timeout"

var emits = courante.Types

// asking is what may come of knowing both the order and its payment: a booking,
// or, when nothing of the order is shipped, none. None has an event of its own
// between, because the pivot must be a step of which that is the only outcome.
var asking = []courante.Outcome{
	{Emits: emits(requested{}), Asks: []string{bookEffect}, Sets: []string{deadline}},
	{Emits: emits(nothingToCarry{})},
}

// declareBooking declares the way forward: the order and its payment, in any
// order of arrival, then the carrier.
func (c *Context) declareBooking() {
	on(c, courante.Step{
		Name:     "note the order",
		Unless:   emits(orderNoted{}, paymentNoted{}, shop.ShippingCancelled{}),
		Outcomes: []courante.Outcome{{Emits: emits(orderNoted{})}},
	}, func(d *courante.Decision, s *courante.Ref[shipment], e shop.OrderCreated) {
		s.Emit(orderNoted{CustomerID: e.CustomerID, ShipTo: e.ShipTo, HasGoods: e.HasGoods()})
	})
	on(c, courante.Step{
		Name:     "ship, the order being the last to hear of",
		When:     emits(paymentNoted{}),
		Unless:   emits(requested{}, nothingToCarry{}, shop.ShippingCancelled{}),
		Outcomes: asking,
	}, func(d *courante.Decision, s *courante.Ref[shipment], e shop.OrderCreated) {
		c.ask(d, s, e.OrderID, e.CustomerID, e.ShipTo, e.HasGoods())
	})

	on(c, courante.Step{
		Name:     "note the payment",
		Unless:   emits(orderNoted{}, paymentNoted{}, shop.ShippingCancelled{}),
		Outcomes: []courante.Outcome{{Emits: emits(paymentNoted{})}},
	}, func(d *courante.Decision, s *courante.Ref[shipment], e shop.PaymentProcessed) {
		s.Emit(paymentNoted{})
	})
	on(c, courante.Step{
		Name:     "ship",
		When:     emits(orderNoted{}),
		Unless:   emits(requested{}, nothingToCarry{}, shop.ShippingCancelled{}),
		Outcomes: asking,
	}, func(d *courante.Decision, s *courante.Ref[shipment], e shop.PaymentProcessed) {
		c.ask(d, s, e.OrderID, s.State.CustomerID, s.State.ShipTo, s.State.HasGoods)
	})

	on(c, courante.Step{
		Name:     "arrange without a carrier",
		Unless:   emits(shop.ShippingArranged{}, shop.ShippingCancelled{}),
		Outcomes: []courante.Outcome{{Emits: emits(shop.ShippingArranged{})}},
		Pivot:    true,
	}, func(d *courante.Decision, s *courante.Ref[shipment], e nothingToCarry) {
		s.Emit(shop.ShippingArranged{OrderID: e.OrderID})
	})

	answered := courante.Step{
		Name:   "take the carrier's answer",
		Unless: emits(shop.ShippingArranged{}, shop.ShippingFailed{}, callingOff{}, shop.ShippingCancelled{}),
		Outcomes: []courante.Outcome{
			{Emits: emits(shop.ShippingArranged{}), Clears: []string{deadline}},
			{Emits: emits(refused{}, shop.ShippingFailed{}), Clears: []string{deadline}, Fails: true},
		},
		Pivot: true,
	}
	c.book = courante.NewEffect(c.svc, courante.EffectSpec[bookRequest, bookOutcome]{
		Step: answered, Effect: bookEffect, Timeout: c.cfg.Attempt,
		Perform: c.performBook,
		Resolve: c.lookupBooking,
		Then: func(d *courante.Decision, id string, r bookRequest, out bookOutcome) error {
			s := c.shipments.Load(d, id)
			switch {
			case !s.State.Past.Allows(answered):
			case out.Refused == "":
				s.Emit(shop.ShippingArranged{OrderID: id, Tracking: out.Tracking}, courante.Clear(deadline))
			default:
				s.Emit(refused{}, courante.Clear(deadline))
				s.Emit(shop.ShippingFailed{OrderID: id, Reason: out.Refused})
			}
			return nil
		},
	})

	// The booking may have been made: it is called off once the order is being
	// cancelled, which this leads to.
	late := courante.Step{
		Name:     "give up waiting for the carrier",
		Unless:   emits(shop.ShippingArranged{}, shop.ShippingFailed{}, callingOff{}, shop.ShippingCancelled{}),
		Outcomes: []courante.Outcome{{Emits: emits(shop.ShippingFailed{}), Drops: []string{bookEffect}, Fails: true}},
	}
	courante.OnDeadline(c.shipments, deadline, late, func(d *courante.Decision, id string) error {
		if s := c.shipments.Load(d, id); s.State.Past.Allows(late) {
			s.Emit(shop.ShippingFailed{OrderID: id, Reason: TimedOut}, c.book.Drop())
		}
		return nil
	})
}

func (c *Context) ask(d *courante.Decision, s *courante.Ref[shipment], id, customer string, to shop.Address, hasGoods bool) {
	if !hasGoods {
		s.Emit(nothingToCarry{OrderID: id})
		return
	}
	s.Emit(requested{CustomerID: customer},
		c.book.Ask(bookRequest{OrderID: id, ShipTo: to}),
		courante.Set(deadline, d.Now().Add(c.cfg.Deadline)))
}

// declareCancellation declares the way back, one step for each case. An order
// that has been shipped has none: it goes on. ShippingCancelled is also a
// tombstone: an order or a payment that arrives later finds it and does
// nothing.
func (c *Context) declareCancellation() {
	ended := []courante.Outcome{{Emits: emits(shop.ShippingCancelled{})}}
	cancel := func(_ *courante.Decision, s *courante.Ref[shipment], e shop.OrderCancelling) {
		s.Emit(shop.ShippingCancelled{OrderID: e.OrderID})
	}

	on(c, courante.Step{
		Name:     "cancel what was never booked",
		Unless:   emits(requested{}, shop.ShippingArranged{}, shop.ShippingCancelled{}),
		Outcomes: ended,
	}, cancel)
	on(c, courante.Step{
		Name:     "cancel what the carrier refused",
		When:     emits(refused{}),
		Unless:   emits(shop.ShippingCancelled{}),
		Outcomes: ended,
	}, cancel)
	on(c, courante.Step{
		Name:   "call the carrier off",
		When:   emits(requested{}),
		Unless: emits(refused{}, shop.ShippingArranged{}, callingOff{}, shop.ShippingCancelled{}),
		Outcomes: []courante.Outcome{
			{Emits: emits(callingOff{}), Drops: []string{bookEffect}, Asks: []string{callOffEffect}, Clears: []string{deadline}},
		},
	}, func(d *courante.Decision, s *courante.Ref[shipment], e shop.OrderCancelling) {
		s.Emit(callingOff{}, courante.Clear(deadline), c.book.Drop(), c.callOff.Ask(cancelRequest{OrderID: e.OrderID}))
	})

	calledOff := courante.Step{
		Name:     "cancel now that the carrier is called off",
		Unless:   emits(shop.ShippingCancelled{}),
		Outcomes: ended,
	}
	c.callOff = courante.NewEffect(c.svc, courante.EffectSpec[cancelRequest, struct{}]{
		Step: calledOff, Effect: callOffEffect, UntilAnswered: true, Timeout: c.cfg.Attempt,
		Perform: c.performCancel, // cancelling again gives the same answer: it need not be asked for
		Then: func(d *courante.Decision, id string, _ cancelRequest, _ struct{}) error {
			if s := c.shipments.Load(d, id); s.State.Past.Allows(calledOff) {
				s.Emit(shop.ShippingCancelled{OrderID: id})
			}
			return nil
		},
	})
}

// on declares a step of a shipment that an event sets off. The declaration is
// also the guard: do runs only when it allows.
func on[P shop.OrderEvent](c *Context, step courante.Step, do func(*courante.Decision, *courante.Ref[shipment], P)) {
	courante.On(c.svc, courante.Reaction[P]{
		Step: step,
		Keys: func(e P) []courante.Key { return []courante.Key{c.shipments.Key(e.Order())} },
		Do: func(d *courante.Decision, e P) error {
			if s := c.shipments.Load(d, e.Order()); s.State.Past.Allows(step) {
				do(d, s, e)
			}
			return nil
		},
	})
}
