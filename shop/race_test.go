package shop_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/postgres"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
	"github.com/courante-dev/courante/shop/payment"
)

// twoProcesses runs the shop twice on one PostgreSQL. Both believe that they
// own every lane, so each decision is also a race between them.
func twoProcesses(t *testing.T, w *town) [2]*process {
	t.Helper()
	cfg := courantetest.PostgresConfig(t)
	var both [2]*process
	for i := range both {
		db, err := postgres.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		open := func(name string) courante.Store { return courantetest.PostgresStore(t, db, name) }
		both[i] = w.start(db, open, courante.Config{Lanes: 4}, w.provider, w.carrier)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, p := range both {
		wg.Go(func() {
			if err := p.rt.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	return both
}

// until polls until the condition holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	late := time.After(time.Minute)
	for !holds() {
		select {
		case <-poll.C:
		case <-late:
			t.Fatalf("after a minute still not: %s", what)
		}
	}
}

// receive takes goods in, by both processes and yet once; by then both run.
func receive(t *testing.T, both [2]*process, sku string, quantity int64) {
	t.Helper()
	for _, p := range both {
		until(t, "stock is received", func() bool {
			_, err := p.stock.Receive(t.Context(), "receive "+sku, sku, quantity)
			return err == nil
		})
	}
}

// await polls until the order has one of the statuses.
func await(t *testing.T, p *process, id string, statuses ...string) (o ordering.Order) {
	t.Helper()
	until(t, fmt.Sprintf("order %s is %v", id, statuses), func() bool {
		var err error
		o, err = p.orders.Order(t.Context(), id)
		return err == nil && slices.Contains(statuses, o.Status)
	})
	return o
}

// deadlocks hands a log on and keeps what speaks of a deadlock. The database
// breaks deadlocks and the runtime tries again, so without a look at the log
// nobody would see that locks are taken in different orders.
type deadlocks struct {
	slog.Handler
	mu   *sync.Mutex
	seen *[]string
}

func (h deadlocks) Handle(ctx context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	if strings.Contains(text, "deadlock") {
		h.mu.Lock()
		*h.seen = append(*h.seen, text)
		h.mu.Unlock()
	}
	return h.Handler.Handle(ctx, r)
}

func (h deadlocks) WithAttrs(attrs []slog.Attr) slog.Handler {
	return deadlocks{h.Handler.WithAttrs(attrs), h.mu, h.seen}
}

func (h deadlocks) WithGroup(name string) slog.Handler {
	return deadlocks{h.Handler.WithGroup(name), h.mu, h.seen}
}

// TestHotStock has 64 customers at once want the same few things, each in
// another order, and there is enough for some of them only.
func TestHotStock(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule   string
		tokens []string
	}{
		{"what is there is sold, and no piece twice", []string{"tok_ok"}},
		{"what some cannot pay for is there for others", []string{"tok_ok", "tok_declined"}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			w := newTown(t, outside.Config{})
			var mu sync.Mutex
			var found []string
			w.log = deadlocks{w.log, &mu, &found}
			both := twoProcesses(t, w)
			skus := []string{"cup", "pot", "spoon", "tea"}
			const received, customers = 40, 64
			for _, sku := range skus {
				receive(t, both, sku, received)
			}
			var wg sync.WaitGroup
			for i := range customers {
				wg.Go(func() {
					order := &ordering.PlaceOrder{
						OrderID: fmt.Sprintf("o-%d", i), CustomerID: "anna", Currency: "GBP", ShipTo: ordering.ShipTo{Country: "GB"},
						Payment: ordering.PaymentBy{Method: "card", Token: tt.tokens[i%len(tt.tokens)]},
					}
					for j := range 3 { // of four, beginning anywhere, forwards or backwards
						at := i + j
						if i/4%2 == 1 {
							at = i + 4 - j
						}
						order.Lines = append(order.Lines, ordering.OrderLine{SKU: skus[at%4], Quantity: int64(1 + (i+j)%3), UnitPrice: 250})
					}
					if _, err := both[i%2].orders.Place(context.Background(), "", order); err != nil {
						t.Errorf("place %s: %v", order.OrderID, err)
					}
				})
			}
			wg.Wait()
			left := map[string]int64{}
			for _, sku := range skus {
				left[sku] = received
			}
			var refused []ordering.Order
			sold := 0
			for i := range customers {
				o := await(t, both[i%2], fmt.Sprintf("o-%d", i), ordering.Confirmed, ordering.Cancelled)
				if err := w.settled(o); err != nil {
					t.Error(err)
				}
				if o.Status == ordering.Cancelled {
					if strings.Contains(o.CancelReason, "out of stock") {
						refused = append(refused, o)
					}
					continue
				}
				sold++
				for _, l := range o.Lines {
					left[l.SKU] -= l.Quantity // of all lines: an order is served whole or not at all
				}
			}
			for _, sku := range skus {
				if left[sku] < 0 {
					t.Errorf("%d pieces of %s were sold and %d received", received-left[sku], sku, received)
				}
				w.wantLevel(both[0].stock, sku, left[sku])
			}
			if sold == 0 || len(refused) == 0 {
				t.Errorf("%d orders are served and %d refused, want some of both", sold, len(refused))
			}
			if len(tt.tokens) == 1 { // nothing came back: who was refused is short of something to this day
				for _, o := range refused {
					short := false
					for _, l := range o.Lines {
						short = short || l.Quantity > left[l.SKU]
					}
					if !short {
						t.Errorf("order %s was refused %v, and %v is left", o.OrderID, o.Lines, left)
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if len(found) > 0 {
				t.Errorf("%d deadlocks, such as %s", len(found), found[0])
			}
		})
	}
}

// TestReturnsOfTheSameLinesRace has many return the same pieces at once,
// through two processes.
func TestReturnsOfTheSameLinesRace(t *testing.T) {
	t.Parallel()
	w := newTown(t, outside.Config{})
	both := twoProcesses(t, w)
	const received, bought, each = 9, 5, 2
	receive(t, both, "tea", received)
	order := &ordering.PlaceOrder{
		OrderID: "o", CustomerID: "anna", Currency: "GBP", ShipTo: ordering.ShipTo{Country: "GB"},
		Payment: ordering.PaymentBy{Method: "card", Token: "tok_ok"},
		Lines:   []ordering.OrderLine{{SKU: "tea", Quantity: bought, UnitPrice: 250}},
	}
	if _, err := both[0].orders.Place(t.Context(), "", order); err != nil {
		t.Fatal(err)
	}
	await(t, both[0], "o", ordering.Confirmed)

	var mu sync.Mutex // guards accepted
	accepted := map[string]int64{}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			r := &ordering.ReturnOrder{Lines: []ordering.ReturnLine{{SKU: "tea", Quantity: each}}}
			got, err := both[i%2].orders.Return(context.Background(), fmt.Sprintf("key-%d", i), "o", r)
			var no *ordering.NotReturnable
			switch {
			case err == nil:
				mu.Lock()
				defer mu.Unlock()
				accepted[payment.RefundKey("o", got.ReturnID)] = got.Refund.Amount
			case !errors.As(err, &no):
				t.Errorf("return %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if len(accepted) != bought/each {
		t.Fatalf("of %d pieces %d returns of %d were accepted, want %d", bought, len(accepted), each, bought/each)
	}
	// The last piece follows, and the order is returned when all have been.
	last, err := both[1].orders.Return(t.Context(), "last", "o", &ordering.ReturnOrder{Lines: []ordering.ReturnLine{{Line: 1, Quantity: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	accepted[payment.RefundKey("o", last.ReturnID)] = last.Refund.Amount
	o := await(t, both[0], "o", ordering.Returned)
	if o.Lines[0].ReturnedQuantity != bought {
		t.Errorf("%d of %d pieces are returned", o.Lines[0].ReturnedQuantity, bought)
	}
	w.wantLevel(both[0].stock, "tea", received)
	charges, err := w.provider.Charges(t.Context())
	if c := charges[payment.ChargeKey("o")]; err != nil || c.Kept() != 0 || fmt.Sprint(c.Refunds) != fmt.Sprint(accepted) {
		t.Errorf("the provider says %+v, %v; want refunds %v", c, err, accepted)
	}
}
