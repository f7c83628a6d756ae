// Package shipping sends paid orders on their way. It is the arbiter of the
// saga: it alone decides whether an order is shipped or cancelled, and whatever
// the others undo, they undo on its word.
//
// A shipment is event-sourced, one for each order. It calls a carrier, which is
// somebody else's system: a booking has a key that is derived from the order's
// id, the carrier is asked by that key what became of a call, and a booking
// that nobody waits for any more is cancelled by it, before the shipment says
// that it is cancelled.
package shipping
