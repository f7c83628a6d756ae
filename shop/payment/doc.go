// Package payment takes the money for orders whose stock is reserved, and gives
// it back when they are cancelled, or a part of it when something is returned.
//
// A payment is event-sourced, one for each order. It calls a payment provider,
// which is somebody else's system: a call may fail, may have been carried out
// although it failed, or may never be answered. So each charge has a key that
// is derived from the order's id, the provider is asked by that key what became
// of a call, and a charge that nobody waits for any more is voided by it: the
// provider then refuses the charge if it comes late, or gives the money back.
package payment
