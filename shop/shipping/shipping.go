package shipping

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// Name is the name of the context, of its service and of its log.
const Name = "shipping"

// Config says what can be chosen. The zero value of a field means its default.
type Config struct {
	// Carrier takes the parcels. Required.
	Carrier Carrier

	// Deadline is how long the carrier may take for a booking, all attempts
	// together, before the order is given up; default 10 s.
	Deadline time.Duration

	// Attempt is how long one call to the carrier may take; default 5 s, and
	// never more than Deadline.
	Attempt time.Duration
}

// Context is the context of shipping.
type Context struct {
	svc       *courante.Service
	cfg       Config
	shipments *courante.Entity[shipment]
	book      *courante.Effect[bookRequest, bookOutcome]
	callOff   *courante.Effect[cancelRequest, struct{}]
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
	c.svc.Emits(courante.Critical, shop.ShippingArranged{}, shop.ShippingFailed{}, shop.ShippingCancelled{})
	c.svc.Emits(courante.Private, orderNoted{}, paymentNoted{}, requested{}, nothingToCarry{}, refused{}, callingOff{})
	c.shipments = courante.Sourced(c.svc, "shipment", evolutions()...)
	c.declareBooking()
	c.declareCancellation()
	return c
}

// Service is the declaration to hand to a runtime.
func (c *Context) Service() *courante.Service { return c.svc }

// Routes adds nothing: shipping is only talked to by events.
func (c *Context) Routes(huma.API) {}
