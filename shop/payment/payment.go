package payment

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// Name is the name of the context, of its service and of its log.
const Name = "payment"

// Config says what can be chosen. The zero value of a field means its default.
type Config struct {
	// Provider takes the money. Required.
	Provider Provider

	// Deadline is how long the provider may take for a charge, all attempts
	// together, before the order is given up; default 10 s.
	Deadline time.Duration

	// Attempt is how long one call to the provider may take; default 5 s, and
	// never more than Deadline.
	Attempt time.Duration
}

// Context is the context of payment.
type Context struct {
	svc      *courante.Service
	cfg      Config
	payments *courante.Entity[payment]
	refunds  *courante.Entity[refund]
	charge   *courante.Effect[chargeRequest, chargeOutcome]
	void     *courante.Effect[voidRequest, voidOutcome]
	refund   *courante.Effect[refundRequest, struct{}]
}

// New declares the context.
func New(cfg Config) *Context {
	if cfg.Deadline == 0 {
		cfg.Deadline = 10 * time.Second
	}
	if cfg.Attempt == 0 {
		cfg.Attempt = 5 * time.Second
	}
	cfg.Attempt = min(cfg.Attempt, cfg.Deadline)
	c := &Context{svc: courante.NewService(Name), cfg: cfg}
	c.svc.Emits(courante.Critical, shop.PaymentProcessed{}, shop.PaymentDeclined{}, shop.PaymentSettled{}, shop.ReturnRefunded{})
	c.svc.Emits(courante.Private, orderNoted{}, reservationNoted{}, requested{}, voiding{}, voided{}, cancellationNoted{}, refundRequested{})
	c.payments = courante.Sourced(c.svc, "payment", evolutions()...)
	c.refunds = courante.Sourced(c.svc, "return", refundEvolutions()...)
	c.declareCharge()
	c.declareSettlement()
	c.declareReturns()
	return c
}

// Service is the declaration to hand to a runtime.
func (c *Context) Service() *courante.Service { return c.svc }

// Routes adds nothing: payment is only talked to by events.
func (c *Context) Routes(huma.API) {}
