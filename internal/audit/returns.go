package audit

// checkReturns checks that the returns of an order follow from its lines, and
// are no more than it has.
func (a *auditor) checkReturns(d *dossier) {
	f, c := &d.facts, a.checks.orders
	left := make([]int64, len(f.created.Lines))
	var goodsLeft int64
	for i, l := range f.created.Lines {
		left[i] = l.Quantity
		if l.Kind == goods {
			goodsLeft += l.Quantity
		}
	}
	hadGoods, done := goodsLeft > 0, true
	for _, r := range f.returns {
		c.LookedAt++
		name := r.thread.name(d)
		if r.requested == nil {
			c.wrong(name, "there is something of it, and no event shop.return_requested")
			continue
		}
		if f.confirmed == nil {
			c.wrong(name, "its order was never confirmed")
		}
		var refund int64
		for _, l := range r.requested.Lines {
			if l.Line < 1 || l.Line > len(left) {
				c.wrong(name, "the order has no line %d", l.Line)
				continue
			}
			bought := f.created.Lines[l.Line-1]
			if bought.SKU != l.SKU || bought.Kind != l.Kind || bought.UnitPrice != l.UnitPrice {
				c.wrong(name, "line %d is %+v, and was bought as %+v", l.Line, l.orderLine, bought)
			}
			if left[l.Line-1] -= l.Quantity; left[l.Line-1] < 0 {
				c.wrong(name, "of line %d, %d more are returned than were bought", l.Line, -left[l.Line-1])
			}
			if l.Kind == goods {
				goodsLeft -= l.Quantity
			}
			refund += l.Quantity * l.UnitPrice
		}
		if want := (amount{refund, f.created.Total.Currency}); r.requested.Refund != want {
			a.checks.money.wrong(name, "its refund is %s, and its lines cost %s", r.requested.Refund, want)
		}
		if r.refunded != nil && *r.refunded != r.requested.Refund {
			a.checks.money.wrong(name, "%s were given back, and its refund is %s", r.refunded, r.requested.Refund)
		}
		if r.completed != nil && (r.restocked == nil || r.refunded == nil) {
			c.wrong(name, "it is complete without its goods, or without its money")
		}
		done = done && r.closed != nil
	}
	if back := hadGoods && goodsLeft == 0; done && back != f.returned {
		c.wrong(d.name(), "pieces of goods that the customer still has: %d; and that all are returned was said: %t", goodsLeft, f.returned)
	}
}
