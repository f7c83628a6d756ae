// Package shop is the published language of the reference system: the public
// events that its contexts exchange, the ids and the money they speak of, and
// the limits of what they accept. It has no behaviour.
//
// An order is danced by five contexts, and nobody conducts. Read down for the
// way to a confirmed order:
//
//	ordering      order_created
//	inventory       -> inventory_reserved | inventory_rejected
//	payment           -> payment_processed | payment_declined
//	shipping            -> shipping_arranged | shipping_failed    (the pivot)
//	inventory             -> inventory_issued
//	ordering                -> order_confirmed
//
// and for the way back, which begins with whatever says no:
//
//	ordering      order_cancelling
//	shipping        -> shipping_cancelled     (or nothing: the order has been shipped and goes on)
//	inventory         -> inventory_released
//	payment           -> payment_settled
//	ordering            -> order_cancelled
//
// Shipping alone decides between arranged and cancelled, so no order can be
// both shipped and refunded, whatever order messages arrive in.
//
// What is confirmed may be returned, in parts and several times. A return has no
// way back, and two services see to it side by side:
//
//	ordering      return_requested
//	inventory       -> return_restocked
//	payment         -> return_refunded
//	ordering          -> return_completed, and order_returned when all goods are back
//
// All events of one order carry the order's id as their correlation and are on
// streams whose key is the order's id. A return is a saga of its own, with the
// return's id in these places; only where it begins and where it ends the order,
// its events are on the order's stream.
package shop
