package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The streams of an order, and in which context they are.
const (
	ordering     = "ordering"
	inventory    = "inventory"
	payment      = "payment"
	shipping     = "shipping"
	notification = "notification"
)

var orderStreams = []struct{ log, category string }{
	{ordering, "order"}, {inventory, "reservation"}, {payment, "payment"}, {shipping, "shipment"}, {notification, "mail"},
}

// dossier is all that is known of one order.
type dossier struct {
	id       string
	events   [][]event // by stream, as in orderStreams
	pending  []pending // same
	past     [][]set   // same: what had happened before each event, and at last in all
	byID     map[string]spot
	charges  []ledgerRow
	bookings []ledgerRow
	stored   []storedState // of its reservation
	listed   []listedOrder

	facts facts
	waits []wait
	wrong bool // something that is reported explains why it does not go on
}

// spot is where in a dossier an event is.
type spot struct{ stream, at int }

// wait is something that an order waits for.
type wait struct {
	what    string
	overdue bool
}

// stream returns the events of the order in a context.
func (d *dossier) stream(log string) []event {
	for i, s := range orderStreams {
		if s.log == log {
			return d.events[i]
		}
	}
	return nil
}

func (d *dossier) open(log, effect string) bool {
	for i, s := range orderStreams {
		if s.log == log {
			return d.pending[i].open(effect)
		}
	}
	return false
}

// last is when something last happened to the order.
func (d *dossier) last() (at time.Time) {
	for _, events := range d.events {
		if n := len(events); n > 0 && events[n-1].at.After(at) {
			at = events[n-1].at
		}
	}
	return at
}

// orderCursors are the tables that have something of an order.
type orderCursors struct {
	events   []*cursor[event]
	charges  *cursor[ledgerRow]
	bookings *cursor[ledgerRow]
	stored   *cursor[storedState]
	listed   *cursor[listedOrder] // nil if there is no such table
	all      []reader
}

func (a *auditor) openOrders(ctx context.Context) (*orderCursors, error) {
	c := &orderCursors{}
	for _, s := range orderStreams {
		events, err := a.openEvents(ctx, a.logs[s.log], s.category)
		if err != nil {
			return nil, err
		}
		c.events, c.all = append(c.events, events), append(c.all, events)
	}
	var err error
	if c.charges, err = a.openLedger(ctx, "charges"); err != nil {
		return nil, err
	}
	if c.bookings, err = a.openLedger(ctx, "bookings"); err != nil {
		return nil, err
	}
	if c.stored, err = a.openStored(ctx, a.logs[inventory], "reservation"); err != nil {
		return nil, err
	}
	c.all = append(c.all, c.charges, c.bookings, c.stored)
	if c.listed, err = a.openList(ctx); err != nil {
		return nil, err
	}
	if c.listed != nil {
		c.all = append(c.all, c.listed)
	}
	return c, nil
}

// readOrders looks at one order after the other.
func (a *auditor) readOrders(ctx context.Context) error {
	for _, s := range orderStreams {
		if a.logs[s.log] == nil {
			return fmt.Errorf("the database has no log %s", s.log)
		}
	}
	c, err := a.openOrders(ctx)
	if err != nil {
		return err
	}
	d := &dossier{events: make([][]event, len(orderStreams)), past: make([][]set, len(orderStreams)), byID: map[string]spot{}}
	for n := 0; ; n++ {
		id, more, err := smallest(ctx, c.all)
		if err != nil || !more {
			return err
		}
		if err := a.collect(ctx, c, d, id); err != nil {
			return err
		}
		a.checkOrder(d)
		if a.cfg.Progress != nil && n%1000 == 999 {
			a.cfg.Progress(n + 1)
		}
	}
}

// collect fills the dossier with the order of the id.
func (a *auditor) collect(ctx context.Context, c *orderCursors, d *dossier, id string) (err error) {
	d.id, d.facts, d.waits, d.wrong = id, facts{}, d.waits[:0], false
	d.pending = make([]pending, len(orderStreams))
	clear(d.byID)
	for i, events := range c.events {
		if d.events[i], err = events.take(ctx, id, d.events[i][:0]); err != nil {
			return err
		}
	}
	if d.charges, err = c.charges.take(ctx, id, d.charges[:0]); err != nil {
		return err
	}
	if d.bookings, err = c.bookings.take(ctx, id, d.bookings[:0]); err != nil {
		return err
	}
	if d.stored, err = c.stored.take(ctx, id, d.stored[:0]); err != nil {
		return err
	}
	if c.listed != nil {
		d.listed, err = c.listed.take(ctx, id, d.listed[:0])
	}
	return err
}

// checkOrder looks at one order from all sides.
func (a *auditor) checkOrder(d *dossier) {
	for i := range d.events {
		for j := range d.events[i] {
			e := &d.events[i][j]
			d.byID[e.id] = spot{i, j}
			d.pending[i].add(e, a.checks.effects)
			d.pending[i].ends(e, a.checks.effects)
		}
	}
	a.checkReactions(d)
	a.checkOpen(d)
	d.facts = a.learn(d)
	if d.facts.created == nil {
		a.checkOrphan(d)
		return
	}
	a.checkMoney(d)
	a.checkShipment(d)
	a.checkReservation(d)
	a.checkList(d)
	a.checkMails(d)
	a.stock.order(a, d)
	a.place(d)
}

// checkOrphan reports what belongs to no order.
func (a *auditor) checkOrphan(d *dossier) {
	a.checks.orders.LookedAt++
	a.checks.orders.wrong("order "+d.id, "there is something of it, and no event shop.order_created")
	a.orders.Wrong++
	for _, c := range d.charges {
		a.checks.money.LookedAt++
		a.checks.money.wrong(c.name(), "there is no such order")
	}
	for _, b := range d.bookings {
		a.checks.shipments.LookedAt++
		a.checks.shipments.wrong(b.name(), "there is no such order")
	}
	for _, l := range d.listed {
		a.checks.lists.LookedAt++
		a.checks.lists.wrong(l.name(), "there is no such order")
	}
}

// storedState is a row of the stored states of a context.
type storedState struct {
	stream  string
	of      string
	row     int64
	version int64
	data    []byte
	open    []byte
	table   string
}

func (s storedState) key() string  { return s.of }
func (s storedState) name() string { return s.table + " " + s.stream }

// openStored reads stored states of a category by their keys.
func (a *auditor) openStored(ctx context.Context, l *eventLog, category string) (*cursor[storedState], error) {
	return open(ctx, a.q, "audit "+l.name+" states "+category,
		fmt.Sprintf("select stream, row_version, version, data::text, open::text from %s.state where stream >= %s and stream < %s order by stream",
			l.schema, quote(category+":"), quote(category+";")),
		func(row pgx.CollectableRow) (storedState, error) {
			s := storedState{table: l.schema + ".state"}
			err := row.Scan(&s.stream, &s.row, &s.version, &s.data, &s.open)
			s.of = s.stream[min(len(category)+1, len(s.stream)):]
			return s, err
		})
}
