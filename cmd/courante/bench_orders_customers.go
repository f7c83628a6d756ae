package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/courante-dev/courante/shop/notification"
	"github.com/courante-dev/courante/shop/ordering"
)

// customers place orders and wait for the mail about their end. They are the
// shop's mailer, so they learn of it as customers do.
type customers struct {
	placed atomic.Int64 // also the number of the last order

	mu      sync.Mutex // guards what follows
	waiting map[string]chan struct{}
	ended   []endedOrder
}

// endedOrder is one whose mail has come.
type endedOrder struct {
	at   time.Time
	took time.Duration // since somebody wanted to place it
}

func newCustomers() *customers { return &customers{waiting: map[string]chan struct{}{}} }

// Send takes the mail about the end of an order.
func (c *customers) Send(_ context.Context, _ string, m notification.Mail) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if mail := c.waiting[m.OrderID]; mail != nil {
		delete(c.waiting, m.OrderID)
		close(mail)
	}
	return nil
}

func (c *customers) countEnded() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.ended)
}

func (c *customers) countUnderWay() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

func orderID(n int64) string { return fmt.Sprintf("b%08d", n) }

// orderNumber undoes orderID.
func orderNumber(id string) int64 {
	n, _ := strconv.ParseInt(id[1:], 10, 64)
	return n
}

// declined says how the order's card is: one in twenty is declined. Whoever
// checks the order asks again.
func declined(n int64) bool { return n%20 == 7 }

const maxLines = 5

// orderLines are those of an order: what is in it follows from its number.
func orderLines(n int64) []ordering.OrderLine {
	r := rand.New(rand.NewPCG(uint64(n), 0)) //nolint:gosec // every run has the same orders
	zipf := rand.NewZipf(r, 1.1, 1, skus-1)
	lines := make([]ordering.OrderLine, 1+r.IntN(maxLines))
	for i := range lines {
		lines[i] = ordering.OrderLine{SKU: skuName(int(zipf.Uint64())), Quantity: 1 + r.Int64N(3), UnitPrice: 100 + r.Int64N(2000)}
	}
	return lines
}

func newOrder(n int64) *ordering.PlaceOrder {
	token := "tok_ok"
	if declined(n) {
		token = "tok_declined"
	}
	return &ordering.PlaceOrder{
		OrderID: orderID(n), CustomerID: fmt.Sprintf("c%05d", n%50_000), Currency: "GBP",
		Lines:   orderLines(n),
		Payment: ordering.PaymentBy{Method: "card", Token: token},
		ShipTo:  ordering.ShipTo{Country: "GB", City: "London", PostalCode: "SW1A 1AA", Address: "10 Example Street"},
	}
}

// placing is orders being placed, until stop.
type placing struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	failed chan error
}

// place begins to place orders: so many under way all the time, or so many a
// second.
func (t *town) place(ctx context.Context, underWay int, rate float64, keys bool) *placing {
	ctx, cancel := context.WithCancel(ctx)
	p := &placing{cancel: cancel, failed: make(chan error, 1)}
	one := func(since time.Time) {
		if err := t.placeOne(context.WithoutCancel(ctx), since, keys); err != nil {
			select {
			case p.failed <- err:
			default:
			}
			cancel()
		}
	}
	if rate > 0 {
		p.done.Go(func() { p.arrive(ctx, rate, one) })
		return p
	}
	for range underWay {
		p.done.Go(func() {
			for ctx.Err() == nil {
				one(time.Now())
			}
		})
	}
	return p
}

// arrive begins orders when they are due, however long the others take. A late
// timer makes up for it, and the orders' time counts from when they were due.
func (p *placing) arrive(ctx context.Context, rate float64, one func(time.Time)) {
	start := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := start; ; n++ {
			if due = start.Add(time.Duration(float64(n) / rate * float64(time.Second))); due.After(time.Now()) {
				break
			}
			p.done.Go(func() { one(due) })
		}
	}
}

// placeOne places an order and waits until its mail comes.
func (t *town) placeOne(ctx context.Context, since time.Time, keys bool) error {
	c := t.customers
	order := newOrder(c.placed.Add(1))
	mail := make(chan struct{})
	c.mu.Lock()
	c.waiting[order.OrderID] = mail
	c.mu.Unlock()
	key := ""
	if keys {
		key = "bench/" + order.OrderID
	}
	if _, err := t.ordering.Place(ctx, key, order); err != nil {
		return fmt.Errorf("place order %s: %w", order.OrderID, err)
	}
	select {
	case <-mail:
	case <-time.After(patience):
		return fmt.Errorf("order %s did not end within %s", order.OrderID, patience)
	}
	now := time.Now()
	c.mu.Lock()
	c.ended = append(c.ended, endedOrder{now, now.Sub(since)})
	c.mu.Unlock()
	return nil
}

// patience is how long a customer waits for the end of an order. Its deadlines
// together are shorter.
const patience = 2 * time.Minute

// wait lets time pass, unless something fails.
func (p *placing) wait(ctx context.Context, d time.Duration) error {
	select {
	case err := <-p.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (p *placing) stop() { p.cancel() }

// finish stops placing and waits until all orders have ended.
func (p *placing) finish(ctx context.Context) error {
	p.cancel()
	ended := make(chan struct{})
	go func() {
		p.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.failed:
		return err
	default:
		return nil
	}
}
