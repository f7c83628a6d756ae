package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/app"
	"github.com/courante-dev/courante/shop/inventory"
	"github.com/courante-dev/courante/shop/notification"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
	"github.com/courante-dev/courante/shop/payment"
	"github.com/courante-dev/courante/shop/shipping"
)

// orderSaga is the saga that begins with an order.
const orderSaga = "order"

// databaseName is the database of the shop on the embedded server.
const databaseName = "shop"

// deadlines are how long parts of an order may take.
type deadlines struct {
	PaymentDeadline time.Duration `default:"10s" env:"COURANTE_PAYMENT_DEADLINE" help:"How long the payment provider may take before an order is cancelled (${env})."`
	CarrierDeadline time.Duration `default:"10s" env:"COURANTE_CARRIER_DEADLINE" help:"How long the carrier may take before an order is cancelled (${env})."`
	OrderDeadline   time.Duration `default:"60s" env:"COURANTE_ORDER_DEADLINE" help:"How long an order may take to be shipped before it is cancelled (${env})."`
}

// Check refuses deadlines that cannot be met.
func (d *deadlines) Check() error {
	if d.PaymentDeadline <= 0 || d.CarrierDeadline <= 0 || d.OrderDeadline <= 0 {
		return errors.New("a deadline must be longer than nothing, such as --payment-deadline 10s")
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
func newShop(d deadlines, out outsiders) []app.Context {
	return []app.Context{
		ordering.New(ordering.Config{Deadline: d.OrderDeadline}),
		inventory.New(inventory.Config{}),
		payment.New(payment.Config{Provider: out.provider, Deadline: d.PaymentDeadline}),
		shipping.New(shipping.Config{Carrier: out.carrier, Deadline: d.CarrierDeadline}),
		notification.New(notification.Config{Mailer: out.mailer}),
	}
}

// openShop opens the shop with simulated parties outside, whose books are in
// the same database, and with mails that go to files.
func openShop(ctx context.Context, env *app.Env, d deadlines) ([]app.Context, error) {
	ledger, err := outside.OpenLedger(ctx, env.DatabaseURL)
	if err != nil {
		return nil, err
	}
	env.OnStop(ledger.Close)
	mails, err := notification.NewFolder(filepath.Join(env.Data, "mail"))
	if err != nil {
		return nil, err
	}
	// A charge that comes late has to come after the deadline to be late.
	manners := outside.Config{Late: d.PaymentDeadline + 5*time.Second}
	contexts := newShop(d, outsiders{outside.NewProvider(ledger, manners), outside.NewCarrier(ledger, manners), mails})
	saga, err := courante.BuildSaga(services(contexts), orderSaga)
	if err != nil {
		return nil, err
	}
	env.Routes(func(api huma.API, mounts []courante.Mount) { sagaRoutes(api, saga, mounts) })
	return contexts, nil
}

func services(contexts []app.Context) []*courante.Service {
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
