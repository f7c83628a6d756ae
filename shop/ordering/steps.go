package ordering

import (
	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// deadline is by when an order must be on its way.
const deadline = "order"

var (
	emits = courante.Types

	// The two outcomes that more than one step has.
	cancelling = courante.Outcome{Emits: emits(shop.OrderCancelling{}), Fails: true}
	cancelled  = courante.Outcome{Emits: emits(shop.OrderCancelled{}), Clears: []string{deadline}}
)

// declareSteps declares what ordering does about the others' events. Where two
// events must both be in, each has two steps: the first to come is noted, and
// the second finds the note and goes on.
func (c *Context) declareSteps() {
	on(c, courante.Step{
		Name:     "note that stock is reserved",
		Unless:   emits(orderReserved{}, shop.OrderCancelled{}),
		Outcomes: []courante.Outcome{{Emits: emits(orderReserved{})}},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.InventoryReserved) {
		o.Emit(orderReserved{})
	})

	// Nothing is reserved and so nothing was charged: there is nothing to undo.
	// If the order is being cancelled already, that way ends it.
	on(c, courante.Step{
		Name:     "cancel for want of stock",
		Unless:   emits(shop.OrderCancelling{}, shop.OrderCancelled{}),
		Outcomes: []courante.Outcome{cancelled},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.InventoryRejected) {
		c.end(o, e.OrderID, "out of stock")
	})

	on(c, courante.Step{
		Name:     "note the payment",
		Unless:   emits(orderPaid{}, shop.OrderCancelled{}),
		Outcomes: []courante.Outcome{{Emits: emits(orderPaid{})}},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.PaymentProcessed) {
		o.Emit(orderPaid{})
	})

	on(c, courante.Step{
		Name:     "cancel for want of payment",
		Unless:   emits(shop.OrderCancelling{}, shop.OrderCancelled{}),
		Outcomes: []courante.Outcome{cancelling},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.PaymentDeclined) {
		o.Emit(shop.OrderCancelling{OrderID: e.OrderID, Reason: "payment declined: " + e.Reason})
	})

	on(c, courante.Step{
		Name:     "cancel for want of a carrier",
		Unless:   emits(shop.OrderCancelling{}, shop.OrderCancelled{}),
		Outcomes: []courante.Outcome{cancelling},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.ShippingFailed) {
		o.Emit(shop.OrderCancelling{OrderID: e.OrderID, Reason: "cannot be shipped: " + e.Reason})
	})

	// Whether the order is still in time is decided by shipping: if it has been
	// shipped and we do not know yet, it goes on.
	late := courante.Step{
		Name:     "cancel what takes too long",
		Unless:   emits(orderShipped{}, goodsIssued{}, shop.OrderConfirmed{}, shop.OrderCancelling{}, shop.OrderCancelled{}),
		Outcomes: []courante.Outcome{cancelling},
	}
	courante.OnDeadline(c.orders, deadline, late, func(d *courante.Decision, id string) error {
		if o := c.orders.Load(d, id); o.State.Past.Allows(late) {
			o.Emit(shop.OrderCancelling{OrderID: id, Reason: "not shipped in time"})
		}
		return nil
	})

	c.declareConfirmation()
	c.declareCancellation()
}

// declareConfirmation: shipped and off the stock, in any order of arrival.
func (c *Context) declareConfirmation() {
	confirmed := courante.Outcome{Emits: emits(shop.OrderConfirmed{}), Clears: []string{deadline}}
	confirm := func(o *courante.Ref[order], id string) {
		o.Emit(shop.OrderConfirmed{
			OrderID: id, CustomerID: o.State.CustomerID, Total: o.State.Total, Tracking: o.State.Tracking,
		}, courante.Clear(deadline))
	}

	on(c, courante.Step{
		Name:     "note the shipment",
		Unless:   emits(orderShipped{}, goodsIssued{}),
		Outcomes: []courante.Outcome{{Emits: emits(orderShipped{})}},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.ShippingArranged) {
		o.Emit(orderShipped{Tracking: e.Tracking})
	})
	on(c, courante.Step{
		Name:   "confirm, the shipment being the last to hear of",
		When:   emits(goodsIssued{}),
		Unless: emits(orderShipped{}),
		Outcomes: []courante.Outcome{
			{Emits: append(emits(orderShipped{}), confirmed.Emits...), Clears: confirmed.Clears},
		},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.ShippingArranged) {
		o.Emit(orderShipped{Tracking: e.Tracking})
		confirm(o, e.OrderID)
	})

	on(c, courante.Step{
		Name:     "note that the goods are off the stock",
		Unless:   emits(orderShipped{}, goodsIssued{}),
		Outcomes: []courante.Outcome{{Emits: emits(goodsIssued{})}},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.InventoryIssued) {
		o.Emit(goodsIssued{})
	})
	on(c, courante.Step{
		Name:     "confirm",
		When:     emits(orderShipped{}),
		Unless:   emits(shop.OrderConfirmed{}),
		Outcomes: []courante.Outcome{confirmed},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.InventoryIssued) {
		confirm(o, e.OrderID)
	})
}

// declareCancellation: nothing reserved and no money kept, in any order of
// arrival.
func (c *Context) declareCancellation() {
	on(c, courante.Step{
		Name:     "note that nothing is reserved",
		Unless:   emits(goodsReleased{}, paymentSettled{}),
		Outcomes: []courante.Outcome{{Emits: emits(goodsReleased{})}},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.InventoryReleased) {
		o.Emit(goodsReleased{})
	})
	on(c, courante.Step{
		Name:     "end the cancelled order, stock being the last to hear of",
		When:     emits(paymentSettled{}),
		Unless:   emits(shop.OrderCancelled{}),
		Outcomes: []courante.Outcome{cancelled},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.InventoryReleased) {
		c.end(o, e.OrderID, o.State.Reason)
	})

	on(c, courante.Step{
		Name:     "note that no money is kept",
		Unless:   emits(goodsReleased{}, paymentSettled{}),
		Outcomes: []courante.Outcome{{Emits: emits(paymentSettled{})}},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.PaymentSettled) {
		o.Emit(paymentSettled{Refunded: e.Refunded})
	})
	on(c, courante.Step{
		Name:   "end the cancelled order, money being the last to hear of",
		When:   emits(goodsReleased{}),
		Unless: emits(paymentSettled{}, shop.OrderCancelled{}),
		Outcomes: []courante.Outcome{
			{Emits: append(emits(paymentSettled{}), cancelled.Emits...), Clears: cancelled.Clears},
		},
	}, func(d *courante.Decision, o *courante.Ref[order], e shop.PaymentSettled) {
		o.Emit(paymentSettled{Refunded: e.Refunded})
		c.end(o, e.OrderID, o.State.Reason)
	})
}

func (c *Context) end(o *courante.Ref[order], id, reason string) {
	o.Emit(shop.OrderCancelled{
		OrderID: id, CustomerID: o.State.CustomerID, Total: o.State.Total, Refunded: o.State.Refunded, Reason: reason,
	}, courante.Clear(deadline))
}

// on declares a step of an order that an event sets off. The declaration is
// also the guard: do runs only when it allows.
func on[P shop.OrderEvent](c *Context, step courante.Step, do func(*courante.Decision, *courante.Ref[order], P)) {
	courante.On(c.svc, courante.Reaction[P]{
		Step: step,
		Keys: func(e P) []courante.Key { return []courante.Key{c.orders.Key(e.Order())} },
		Do: func(d *courante.Decision, e P) error {
			if o := c.orders.Load(d, e.Order()); o.State.Past.Allows(step) {
				do(d, o, e)
			}
			return nil
		},
	})
}
