package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
)

// orderList is the read model of orders.
const orderList = "ordering.order_list"

// listedOrder is a row of the order list.
type listedOrder struct {
	id, customer, status, currency string
	version, total                 int64
	lines                          int
	created                        time.Time
}

func (l listedOrder) key() string  { return l.id }
func (l listedOrder) name() string { return orderList + " " + l.id }

// openList reads the order list; nil if there is none to look at.
func (a *auditor) openList(ctx context.Context) (*cursor[listedOrder], error) {
	there, err := a.exists(ctx, orderList)
	if err != nil {
		return nil, err
	}
	live := false
	if there {
		if live, err = a.findList(ctx); err != nil {
			return nil, err
		}
	}
	if !live {
		a.checks.lists.Skipped = "it is not built; start \"courante up\""
		return nil, nil
	}
	return open(ctx, a.q, "audit list", `select order_id, customer_id, status, version, currency, total, lines, created_at
		from `+orderList+` order by order_id collate "C"`,
		func(row pgx.CollectableRow) (listedOrder, error) {
			var l listedOrder
			return l, row.Scan(&l.id, &l.customer, &l.status, &l.version, &l.currency, &l.total, &l.lines, &l.created)
		})
}

// findList reports whether there is a live list, and notes how far in the log it
// is: it follows the orders at a distance.
func (a *auditor) findList(ctx context.Context) (bool, error) {
	var n int64
	err := a.q.QueryRow(ctx, "select n from ordering.generation where projection = 'order_list' and state = 'live'").Scan(&n)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	of := subscription{fmt.Sprintf("projection order_list/%d", n), names[ordering]}
	a.listAt = a.lanes.last[courante.Lane{Subscriber: of.subscriber, Log: of.log, Epoch: len(a.lanes.epochs[of])}]
	return true, nil
}

// checkList compares an order's row in the list with a fold of its stream, as
// far as the list has come.
func (a *auditor) checkList(d *dossier) {
	if a.checks.lists.Skipped != "" {
		return
	}
	var seen []event
	for i := range d.order {
		if a.listAt.covers(&d.order[i]) {
			seen = append(seen, d.order[i])
		}
	}
	c := a.checks.lists
	c.LookedAt++
	name := orderList + " " + d.id
	if rows := min(len(seen), 1); len(d.listed) != rows {
		c.wrong(name, "there are %d rows, want %d", len(d.listed), rows)
		return
	}
	if len(seen) == 0 {
		return
	}
	f := &d.facts
	want := listedOrder{
		id: d.id, customer: f.created.CustomerID, status: status(seen), currency: f.created.Total.Currency,
		version: int64(len(seen)), total: f.created.Total.Amount, lines: len(f.created.Lines), created: f.createdAt.at,
	}
	if got := d.listed[0]; got.differs(want) {
		c.wrong(name, "it says %+v, and the log says %+v", got, want)
	}
}

func (l listedOrder) differs(want listedOrder) bool {
	same := l.created.Equal(want.created)
	l.created = want.created
	return !same || l != want
}

// statuses are the events that make an order's status, the last one first: it
// shows how far the order has come.
var statuses = []struct{ typ, status string }{
	{"shop.order_cancelled", "cancelled"},
	{"shop.order_returned", "returned"},
	{"shop.order_confirmed", "confirmed"},
	{"ordering.order_shipped", "shipped"},
	{"shop.order_cancelling", "cancelling"},
	{"ordering.order_paid", "paid"},
	{"ordering.order_reserved", "reserved"},
}

// status is that of an order after these events.
func status(events []event) string {
	for _, s := range statuses {
		for i := range events {
			if events[i].typ == s.typ {
				return s.status
			}
		}
	}
	return "created"
}
