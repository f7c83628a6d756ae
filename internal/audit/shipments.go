package audit

// booking is what the carrier's books say about one key.
type booking struct {
	Country   string `json:"country"`
	Tracking  string `json:"tracking"`
	Refused   string `json:"refused"`
	Cancelled bool   `json:"cancelled"`
}

// checkShipment compares the carrier's books on an order with what our events
// say of it.
func (a *auditor) checkShipment(d *dossier) {
	c := a.checks.shipments
	c.LookedAt++
	f, name := &d.facts, d.name()
	var b booking
	if len(d.bookings) > 0 {
		name = d.bookings[0].name()
		if err := readJSON(d.bookings[0].data, &b); err != nil {
			c.wrong(name, "it cannot be read: %v", err)
			return
		}
	}
	live := b.Tracking != "" && !b.Cancelled
	if b.Country != "" && b.Country != f.created.ShipTo.Country {
		c.wrong(name, "the carrier was told to go to %s and the order goes to %s", b.Country, f.created.ShipTo.Country)
	}
	if f.confirmed != nil && (f.arranged == nil || f.confirmed.Tracking != f.tracking) {
		c.wrong(d.name(), "it was confirmed with tracking number %q, and shipping says %q", f.confirmed.Tracking, f.tracking)
	}
	switch {
	case f.arranged != nil && f.shippingCancelled:
		c.wrong(d.name(), "shipping says both that it is on its way and that it never will be")
	case f.arranged != nil && f.created.hasGoods() && !live:
		c.wrong(name, "the order was shipped and the carrier has no booking for it")
	case f.arranged != nil && b.Tracking != f.tracking:
		c.wrong(name, "the carrier's tracking number is %q, and ours %q", b.Tracking, f.tracking)
	case f.arranged != nil && f.issued == nil && f.confirmed != nil:
		c.wrong(d.name(), "it was confirmed and its goods were never taken off the stock")
	case f.shippingCancelled && live:
		c.wrong(name, "the carrier has a booking for an order that was not shipped")
	}
}
