package payment

import (
	"context"
	"errors"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// Provider is the payment provider. It is an interface because it is another
// company: production has a client of its API here, development a simulation.
//
// The same key always stands for the same charge, however often it is sent. An
// error means that there was no answer; the charge may have been made all the
// same, unless the error has a method NotDone() bool that says true.
type Provider interface {
	// Charge takes the money. declined says why not, "" if it did.
	Charge(ctx context.Context, key, token string, amount int64, currency string) (declined string, err error)

	// Lookup says what became of the charge with that key; found is false if
	// the provider has never heard of it.
	Lookup(ctx context.Context, key string) (declined string, found bool, err error)

	// Void undoes the charge with that key and says how much was given back.
	// The charge need not have arrived yet: if it comes later it is declined.
	Void(ctx context.Context, key string) (refunded int64, err error)

	// Refund gives back a part of the charge with that key, once for each
	// refund key. It is an error to ask for more than is left of the charge.
	Refund(ctx context.Context, key, refund string, amount int64) error
}

// ChargeKey is the provider's key for the charge of an order. It depends on
// nothing but the order's id, so that an order is charged at most once even if
// our own memory of having asked were lost.
func ChargeKey(orderID string) string { return "order:" + orderID }

type chargeRequest struct {
	OrderID string     `json:"order_id"`
	Token   string     `json:"token"`
	Amount  shop.Money `json:"amount"`
}

type chargeOutcome struct {
	Declined string // why; "" if the money was taken
}

type voidRequest struct {
	OrderID string `json:"order_id"`
}

type voidOutcome struct {
	Refunded int64
}

// charge asks the provider. The framework's own key for the call is not used:
// see ChargeKey.
func (c *Context) performCharge(ctx context.Context, _ string, r chargeRequest) (chargeOutcome, error) {
	declined, err := c.cfg.Provider.Charge(ctx, ChargeKey(r.OrderID), r.Token, r.Amount.Amount, r.Amount.Currency)
	return chargeOutcome{declined}, unlessNotDone(err)
}

func (c *Context) lookupCharge(ctx context.Context, _ string, r chargeRequest) (chargeOutcome, bool, error) {
	declined, found, err := c.cfg.Provider.Lookup(ctx, ChargeKey(r.OrderID))
	return chargeOutcome{declined}, found, err
}

func (c *Context) performVoid(ctx context.Context, _ string, r voidRequest) (voidOutcome, error) {
	refunded, err := c.cfg.Provider.Void(ctx, ChargeKey(r.OrderID))
	return voidOutcome{refunded}, err
}

// unlessNotDone marks an error as an unknown outcome, unless it says itself
// that nothing was done.
func unlessNotDone(err error) error {
	var e interface{ NotDone() bool }
	if errors.As(err, &e) && e.NotDone() {
		return err
	}
	return courante.Unknown(err)
}
