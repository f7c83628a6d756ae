package shop_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop/inventory"
	"github.com/courante-dev/courante/shop/notification"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
	"github.com/courante-dev/courante/shop/payment"
	"github.com/courante-dev/courante/shop/shipping"
)

func TestMain(m *testing.M) { courantetest.Main(m) }

// town is what processes of the shop share that is not in the database.
type town struct {
	t        *testing.T
	provider *outside.Provider
	carrier  *outside.Carrier
	log      slog.Handler
}

func newTown(t *testing.T, cfg outside.Config) *town {
	ledger := outside.NewMemoryLedger()
	return &town{t: t, provider: outside.NewProvider(ledger, cfg), carrier: outside.NewCarrier(ledger, cfg), log: slog.NewTextHandler(t.Output(), nil)}
}

// process is the shop in one process.
type process struct {
	orders *ordering.Context
	stock  *inventory.Context
	rt     *courante.Runtime
}

// start builds a process on the database. Its provider and carrier are the
// town's, or what a test puts in front of them.
func (w *town) start(db courante.Database, open func(name string) courante.Store, cfg courante.Config, provider payment.Provider, carrier shipping.Carrier) *process {
	w.t.Helper()
	p := &process{orders: ordering.New(ordering.Config{}), stock: inventory.New(inventory.Config{})}
	cfg.Database, cfg.Logger = db, slog.New(w.log)
	for _, svc := range []*courante.Service{
		p.orders.Service(), p.stock.Service(),
		payment.New(payment.Config{Provider: provider}).Service(),
		shipping.New(shipping.Config{Carrier: carrier}).Service(),
		notification.New(notification.Config{Mailer: nobody{}}).Service(),
	} {
		cfg.Services = append(cfg.Services, courante.Mount{Service: svc, Store: open(svc.Name())})
	}
	var err error
	if p.rt, err = courante.NewRuntime(cfg); err != nil {
		w.t.Fatal(err)
	}
	if err := p.rt.Prepare(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// nobody reads the mails of these tests.
type nobody struct{}

func (nobody) Send(context.Context, string, notification.Mail) error { return nil }

// settled says what is wrong with an order that has ended, in the books of
// those outside.
func (w *town) settled(o ordering.Order) error {
	charges, err := w.provider.Charges(w.t.Context())
	if err != nil {
		return err
	}
	bookings, err := w.carrier.Bookings(w.t.Context())
	if err != nil {
		return err
	}
	charge, booking := charges[payment.ChargeKey(o.OrderID)], bookings[shipping.BookingKey(o.OrderID)]
	shipped := booking.Tracking != "" && !booking.Cancelled
	var kept int64
	switch o.Status {
	case ordering.Confirmed:
		kept = o.Total.Amount
	case ordering.Cancelled:
	default:
		return fmt.Errorf("order %s has not ended: %s", o.OrderID, o.Status)
	}
	if charge.Kept() != kept || len(charge.Refunds) > 0 || shipped != (o.Status == ordering.Confirmed) {
		return fmt.Errorf("order %s is %s, the provider says %+v, the carrier %+v", o.OrderID, o.Status, charge, booking)
	}
	return nil
}

func (w *town) wantLevel(stock *inventory.Context, sku string, onHand int64) {
	w.t.Helper()
	got, err := stock.Level(w.t.Context(), sku)
	if want := (inventory.Level{SKU: sku, OnHand: onHand, Available: onHand}); err != nil || got != want {
		w.t.Errorf("stock of %s: got %+v, %v, want %+v", sku, got, err, want)
	}
}
