package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/gateway"
	"github.com/courante-dev/courante/memory"
	"github.com/courante-dev/courante/shop/inventory"
	"github.com/courante-dev/courante/shop/notification"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
	"github.com/courante-dev/courante/shop/payment"
	"github.com/courante-dev/courante/shop/shipping"
)

// system is the whole shop in memory, called as its callers do, through HTTP.
// Its tests run in a synctest bubble: deadlines of a minute pass at once, and
// nothing is ever waited for by the wall clock.
type system struct {
	t        *testing.T
	gateway  *gateway.Gateway
	provider *outside.Provider
	down     atomic.Bool // the provider does not answer when money is to be given back
	carrier  *outside.Carrier
	db       *memory.Database
	mounts   []courante.Mount
	mails    string
}

// inShop runs a test against a shop of its own.
func inShop(t *testing.T, test func(s *system)) {
	t.Helper()
	t.Parallel()
	mails := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := newSystem(t, mails)
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		rt := s.start()
		go func() { stopped <- rt.Run(ctx) }()
		synctest.Wait()
		test(s)
		stop()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func newSystem(t *testing.T, mails string) *system {
	ledger := outside.NewMemoryLedger()
	return &system{
		t:        t,
		provider: outside.NewProvider(ledger, outside.Config{}),
		carrier:  outside.NewCarrier(ledger, outside.Config{}),
		db:       memory.New(memory.Config{}),
		mails:    mails,
	}
}

func (s *system) start() *courante.Runtime {
	s.t.Helper()
	folder, err := notification.NewFolder(s.mails)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.gateway, err = gateway.New(gateway.Config{Title: "The shop", Version: "test"}); err != nil {
		s.t.Fatal(err)
	}
	orders := ordering.New(ordering.Config{})
	stock := inventory.New(inventory.Config{})
	orders.Routes(s.gateway.API())
	stock.Routes(s.gateway.API())
	s.mounts = nil
	cfg := courante.Config{Database: s.db, Logger: slog.New(slog.NewTextHandler(s.t.Output(), nil))}
	for _, svc := range []*courante.Service{
		orders.Service(),
		stock.Service(),
		payment.New(payment.Config{Provider: stingy{s.provider, &s.down}}).Service(),
		shipping.New(shipping.Config{Carrier: s.carrier}).Service(),
		notification.New(notification.Config{Mailer: folder}).Service(),
	} {
		s.mounts = append(s.mounts, courante.Mount{Service: svc, Store: s.db.Store(svc.Name())})
	}
	cfg.Services = s.mounts
	rt, err := courante.NewRuntime(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return rt
}

// stingy is a provider that, while it is down, does not undo a charge, and
// loses the reply of each refund that it makes.
type stingy struct {
	*outside.Provider
	down *atomic.Bool
}

func (p stingy) Void(ctx context.Context, key string) (int64, error) {
	if p.down.Load() {
		return 0, errors.New("connection refused")
	}
	return p.Provider.Void(ctx, key)
}

func (p stingy) Refund(ctx context.Context, key, refund string, amount int64) error {
	if err := p.Provider.Refund(ctx, key, refund, amount); err != nil {
		return err
	}
	if p.down.Load() {
		return errors.New("connection reset before the reply")
	}
	return nil
}

// call sends a request and returns status, headers and body. headers are names
// and values.
func (s *system) call(method, path, body string, headers ...string) (int, http.Header, string) {
	r := httptest.NewRequest(method, path, bytes.NewBufferString(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.gateway.ServeHTTP(w, r)
	return w.Code, w.Header(), w.Body.String()
}

// must is call for what has to work; it decodes the answer into T.
func must[T any](s *system, want int, method, path, body string, headers ...string) T {
	s.t.Helper()
	status, _, answer := s.call(method, path, body, headers...)
	if status != want {
		s.t.Fatalf("%s %s: got %d %s, want %d", method, path, status, answer, want)
	}
	var v T
	if err := json.Unmarshal([]byte(answer), &v); err != nil {
		s.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
	}
	return v
}

// order is the body of an order for two SKUs over 1,510 pence in all.
func orderBody(id, token, country string) string {
	return fmt.Sprintf(`{"order_id":%q,"customer_id":"17850","currency":"GBP","lines":[
		{"sku":"85123A","quantity":4,"unit_price":255},{"sku":"71053","quantity":1,"unit_price":339},
		{"sku":"85123A","quantity":1,"unit_price":100},{"sku":"POST","quantity":1,"unit_price":51,"kind":"charge"}],
		"payment":{"method":"card","token":%q},
		"ship_to":{"country":%q,"city":"London","postal_code":"SW1A 1AA","address":"10 Example Street"}}`, id, token, country)
}

const orderTotal = 4*255 + 339 + 100 + 51

func (s *system) stock(sku string, quantity int) {
	s.t.Helper()
	must[inventory.Changed](s, 201, "POST", "/v1/inventory/"+sku+"/receipts", fmt.Sprintf(`{"quantity":%d}`, quantity))
}

func (s *system) get(id string) ordering.Order {
	s.t.Helper()
	return must[ordering.Order](s, 200, "GET", "/v1/orders/"+id, "")
}

// await lets time pass until the order has the status.
func (s *system) await(id, status string) ordering.Order {
	s.t.Helper()
	for range 3000 { // five minutes: more than all deadlines together
		if o := s.get(id); o.Status == status {
			return o
		}
		time.Sleep(100 * time.Millisecond) // of the bubble's time
	}
	o := s.get(id)
	s.t.Fatalf("order %s: status %s after five minutes, want %s; timeline %v", id, o.Status, status, o.Timeline)
	return o
}

func (s *system) wantLevel(sku string, onHand, reserved int64) {
	s.t.Helper()
	got := must[inventory.Level](s, 200, "GET", "/v1/inventory/"+sku, "")
	want := inventory.Level{SKU: sku, OnHand: onHand, Reserved: reserved, Available: onHand - reserved}
	if got != want {
		s.t.Errorf("stock of %s: got %+v, want %+v", sku, got, want)
	}
}

func (s *system) wantCharge(id string, state outside.ChargeState) {
	s.t.Helper()
	charges, err := s.provider.Charges(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if got := charges[payment.ChargeKey(id)].State; got != state {
		s.t.Errorf("the provider's books on %s: %q, want %q", id, got, state)
	}
}

func (s *system) wantBooking(id string, shipped bool) {
	s.t.Helper()
	bookings, err := s.carrier.Bookings(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	b := bookings[shipping.BookingKey(id)]
	if got := b.Tracking != "" && !b.Cancelled; got != shipped {
		s.t.Errorf("the carrier's books on %s: %+v, want shipped %v", id, b, shipped)
	}
}

// wantMails waits for the mails and compares their subjects, in any order.
func (s *system) wantMails(want ...string) {
	s.t.Helper()
	time.Sleep(time.Second) // of the bubble's time: mails follow the order's end
	files, err := filepath.Glob(filepath.Join(s.mails, "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			s.t.Fatal(err)
		}
		m, err := mail.ReadMessage(f)
		if err != nil {
			s.t.Fatalf("%s is no mail: %v", name, err)
		}
		got = append(got, m.Header.Get("Subject"))
		f.Close()
	}
	slices.Sort(got) // their files are named after keys
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("mails: got %q, want %q", got, want)
	}
}
