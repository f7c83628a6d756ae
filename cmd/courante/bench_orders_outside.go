package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/shop/outside"
)

// books are those of a payment provider and a carrier that are other companies:
// on machines of their own, so that what they cost is not ours. They keep
// idempotency keys and answer at once; for parties that fail and lose replies
// there is package outside. Entries are small, because they stay in memory
// until they are written down to be checked.
type books struct {
	mu       sync.Mutex // guards what follows
	charges  map[int64]benchCharge
	bookings map[int64]bool // true: cancelled
}

type benchCharge struct {
	amount int64
	state  outside.ChargeState
}

func newBooks() *books {
	return &books{charges: map[int64]benchCharge{}, bookings: map[int64]bool{}}
}

// number is that of the order that a key stands for.
func number(key string) int64 { return orderNumber(strings.TrimPrefix(key, "order:")) }

type provider struct{ *books }

// Charge takes the money, unless the card is declined.
func (p provider) Charge(_ context.Context, key, token string, amount int64, _ string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, known := p.charges[number(key)]
	if !known {
		c = benchCharge{amount, outside.Approved}
		if token == "tok_declined" {
			c.state = outside.Declined
		}
		p.charges[number(key)] = c
	}
	return c.declined(), nil
}

func (c benchCharge) declined() string {
	switch c.state {
	case outside.Declined:
		return "card declined"
	case outside.Voided, outside.Refunded:
		return "voided"
	}
	return ""
}

// Lookup says what became of a charge.
func (p provider) Lookup(_ context.Context, key string) (string, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, known := p.charges[number(key)]
	return c.declined(), known, nil
}

// Void undoes a charge, also one that comes later.
func (p provider) Void(_ context.Context, key string) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.charges[number(key)]
	switch c.state {
	case outside.Approved:
		c.state = outside.Refunded
	case "":
		c.state = outside.Voided
	}
	p.charges[number(key)] = c
	if c.state == outside.Refunded {
		return c.amount, nil
	}
	return 0, nil
}

// Refund is for returns, of which the bench has none.
func (provider) Refund(_ context.Context, key, _ string, _ int64) error {
	return fmt.Errorf("refund %s: the bench has no returns", key)
}

type carrier struct{ *books }

// Book books the transport.
func (c carrier) Book(_ context.Context, key, _, _ string) (tracking, refused string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bookings[number(key)] {
		return "", "cancelled", nil
	}
	c.bookings[number(key)] = false
	return trackingOf(key), "", nil
}

func trackingOf(key string) string { return "T" + strings.TrimPrefix(key, "order:") }

// Lookup says what became of a booking.
func (c carrier) Lookup(_ context.Context, key string) (tracking, refused string, found bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cancelled, known := c.bookings[number(key)]
	if cancelled {
		return "", "cancelled", true, nil
	}
	return trackingOf(key), "", known, nil
}

// Cancel undoes a booking, also one that comes later.
func (c carrier) Cancel(_ context.Context, key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bookings[number(key)] = true
	return nil
}

// write writes the books down where the reference system's parties have them
// and "verify" looks for them.
func (b *books) write(ctx context.Context, d *ordersDatabase) error {
	ledger, err := outside.OpenLedger(ctx, d.url)
	if err != nil {
		return err
	}
	ledger.Close() // it has made the table
	b.mu.Lock()
	defer b.mu.Unlock()
	var rows [][]any
	for n, c := range b.charges {
		charge := outside.Charge{State: c.state, Token: "tok_ok", Amount: c.amount, Currency: "GBP"}
		if c.state == outside.Declined {
			charge.Token, charge.Reason = "tok_declined", c.declined()
		}
		rows = append(rows, []any{"charges", "order:" + orderID(n), charge})
	}
	for n, cancelled := range b.bookings {
		booking := outside.Booking{Cancelled: cancelled}
		if !cancelled {
			booking.Country, booking.Tracking = "GB", trackingOf(orderID(n))
		}
		rows = append(rows, []any{"bookings", "order:" + orderID(n), booking})
	}
	_, err = d.pool.CopyFrom(ctx, pgx.Identifier{"outside", "ledger"}, []string{"book", "key", "row"}, pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
		row, err := json.Marshal(rows[i][2])
		return []any{rows[i][0], rows[i][1], row}, err
	}))
	if err != nil {
		return fmt.Errorf("write the books down: %w", err)
	}
	return nil
}
