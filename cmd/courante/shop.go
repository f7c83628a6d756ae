package main

import (
	"context"
	"errors"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop/inventory"
	"github.com/courante-dev/courante/shop/notification"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/payment"
	"github.com/courante-dev/courante/shop/shipping"
)

// orderSaga is the saga that begins with an order.
const orderSaga = "order"

// boundedContext is what every context of the shop offers to the program.
type boundedContext interface {
	Service() *courante.Service
	Routes(api huma.API)
}

// deadlines are how long parts of an order may take.
type deadlines struct {
	PaymentDeadline time.Duration `default:"10s" env:"COURANTE_PAYMENT_DEADLINE" help:"How long the payment provider may take before an order is cancelled (${env})."`
	CarrierDeadline time.Duration `default:"10s" env:"COURANTE_CARRIER_DEADLINE" help:"How long the carrier may take before an order is cancelled (${env})."`
	OrderDeadline   time.Duration `default:"60s" env:"COURANTE_ORDER_DEADLINE" help:"How long an order may take to be shipped before it is cancelled (${env})."`
}

func (d deadlines) check() error {
	if d.PaymentDeadline <= 0 || d.CarrierDeadline <= 0 || d.OrderDeadline <= 0 {
		return usageError{errors.New("a deadline must be longer than nothing, such as --payment-deadline 10s")}
	}
	return nil
}

// outsiders are the parties that the shop calls.
type outsiders struct {
	provider payment.Provider
	carrier  shipping.Carrier
	mailer   notification.Mailer
}

// newShop declares the contexts, in the order in which an order visits them.
func newShop(d deadlines, out outsiders) []boundedContext {
	return []boundedContext{
		ordering.New(ordering.Config{Deadline: d.OrderDeadline}),
		inventory.New(inventory.Config{}),
		payment.New(payment.Config{Provider: out.provider, Deadline: d.PaymentDeadline}),
		shipping.New(shipping.Config{Carrier: out.carrier, Deadline: d.CarrierDeadline}),
		notification.New(notification.Config{Mailer: out.mailer}),
	}
}

func services(contexts []boundedContext) []*courante.Service {
	list := make([]*courante.Service, len(contexts))
	for i, c := range contexts {
		list[i] = c.Service()
	}
	return list
}

// declaredShop is the shop as it is declared, for tools that look at
// declarations and at logs, and never call anybody outside.
func declaredShop() []*courante.Service {
	return services(newShop(deadlines{}, outsiders{noProvider{}, noCarrier{}, noMailer{}}))
}

// errNoOutside is the answer of outside parties that are not there.
var errNoOutside = errors.New("this tool calls nobody outside")

type noProvider struct{}

func (noProvider) Charge(context.Context, string, string, int64, string) (string, error) {
	return "", errNoOutside
}
func (noProvider) Lookup(context.Context, string) (string, bool, error) {
	return "", false, errNoOutside
}
func (noProvider) Void(context.Context, string) (int64, error) { return 0, errNoOutside }
func (noProvider) Refund(context.Context, string, string, int64) error {
	return errNoOutside
}

type noCarrier struct{}

func (noCarrier) Book(context.Context, string, string, string) (string, string, error) {
	return "", "", errNoOutside
}
func (noCarrier) Lookup(context.Context, string) (string, string, bool, error) {
	return "", "", false, errNoOutside
}
func (noCarrier) Cancel(context.Context, string) error { return errNoOutside }

type noMailer struct{}

func (noMailer) Send(context.Context, string, notification.Mail) error { return errNoOutside }
