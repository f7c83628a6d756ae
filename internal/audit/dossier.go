package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The contexts of the shop. How many there are is what arrays of a thread have
// room for.
const (
	ordering = iota
	inventory
	payment
	shipping
	notification
	contexts
)

// names are the names of the contexts and of their logs, and orderCategory is
// which streams of each are about orders.
var (
	names         = [contexts]string{"ordering", "inventory", "payment", "shipping", "notification"}
	orderCategory = [contexts]string{"order", "reservation", "payment", "shipment", "mail"}
)

// returnCategory is which streams are about returns, in every context.
const returnCategory = "return"

// dossier is all that is known of one order: what each context has of it and of
// its returns, and what the parties outside have.
type dossier struct {
	id       string
	order    []event  // its own stream, with what it has of returns
	threads  []thread // the first is the order's, the others are those of its returns
	byID     map[string]*event
	charges  []ledgerRow
	bookings []ledgerRow
	stored   []storedState // of its reservation and of its returns
	listed   []listedOrder

	facts facts
	waits []wait
	wrong bool // something that is reported explains why it does not go on
}

// thread is one saga, of an order or of a return: what each context did in it,
// in the order of its log. The events of a return are on streams of their own,
// but for those by which it begins and ends on the stream of its order.
type thread struct {
	returned string // id of the return; "" if it is the order's
	events   [contexts][]event
	pending  [contexts]pending
	past     [contexts][]set // what had happened before each event, and at last in all
}

// wait is something that an order waits for.
type wait struct {
	what    string
	overdue bool
}

func (d *dossier) name() string { return "order " + d.id }

func (t *thread) name(d *dossier) string {
	if t.returned == "" {
		return d.name()
	}
	return "return " + t.returned + " of order " + d.id
}

// last is when something last happened to it.
func (t *thread) last() (at time.Time) {
	for _, events := range t.events {
		if n := len(events); n > 0 && events[n-1].at.After(at) {
			at = events[n-1].at
		}
	}
	return at
}

// orderCursors are the tables that have something of an order, each in the order
// of the orders' ids.
type orderCursors struct {
	events   []*cursor[event] // of orders, then of returns
	charges  *cursor[ledgerRow]
	bookings *cursor[ledgerRow]
	stored   []*cursor[storedState]
	listed   *cursor[listedOrder] // nil if there is no such table
	all      []reader
}

func (a *auditor) openOrders(ctx context.Context) (*orderCursors, error) {
	c := &orderCursors{}
	for i, category := range orderCategory {
		events, err := a.openEvents(ctx, a.logs[names[i]], category)
		if err != nil {
			return nil, err
		}
		c.events, c.all = append(c.events, events), append(c.all, events)
	}
	for _, name := range names {
		events, err := a.openReturns(ctx, a.logs[name])
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
	reservations, err := a.openStored(ctx, a.logs[names[inventory]], orderCategory[inventory])
	if err != nil {
		return nil, err
	}
	returns, err := a.openStoredReturns(ctx, a.logs[names[inventory]])
	if err != nil {
		return nil, err
	}
	c.stored = append(c.stored, reservations, returns)
	c.all = append(c.all, c.charges, c.bookings, reservations, returns)
	if c.listed, err = a.openList(ctx); err != nil {
		return nil, err
	}
	if c.listed != nil {
		c.all = append(c.all, c.listed)
	}
	return c, nil
}

// ofReturns is SQL for the order of each return, by the return's stream.
func (a *auditor) ofReturns() string {
	return fmt.Sprintf(`(select stream, min(data->>'order_id') as of from %s.event where type = 'ordering.return_opened' and %s group by stream) r`,
		a.logs[names[ordering]].schema, inCategory("stream", returnCategory))
}

// openReturns reads the events of returns in the order of their orders' ids. One
// whose order is not known comes first, as of order "".
func (a *auditor) openReturns(ctx context.Context, l *eventLog) (*cursor[event], error) {
	return a.openEventsBy(ctx, l, "audit "+l.name+" returns", fmt.Sprintf(
		`select coalesce(r.of, ''), %s from %s.event e left join %s using (stream) where %s order by coalesce(r.of, '') collate "C", stream, version, part`,
		eventColumns, l.schema, a.ofReturns(), inCategory("stream", returnCategory)))
}

// readOrders looks at one order after the other.
func (a *auditor) readOrders(ctx context.Context) error {
	for _, name := range names {
		if a.logs[name] == nil {
			return fmt.Errorf("the database has no log %s", name)
		}
	}
	c, err := a.openOrders(ctx)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		id, more, err := smallest(ctx, c.all)
		if err != nil || !more {
			return err
		}
		d, err := c.collect(ctx, id)
		if err != nil {
			return err
		}
		a.checkOrder(d)
		if a.cfg.Progress != nil && n%1000 == 999 {
			a.cfg.Progress(n + 1)
		}
	}
}

// collect makes the dossier of the order of the id.
func (c *orderCursors) collect(ctx context.Context, id string) (d *dossier, err error) {
	d = &dossier{id: id, threads: make([]thread, 1), byID: map[string]*event{}}
	for i, events := range c.events {
		list, err := events.take(ctx, id, nil)
		if err != nil {
			return nil, err
		}
		if i == ordering {
			d.order = list
		}
		for _, e := range list {
			t := d.thread(e.returned())
			t.events[i%contexts] = append(t.events[i%contexts], e)
		}
	}
	for i := range d.threads {
		t := &d.threads[i]
		if t.returned != "" {
			// The only context with two streams of one return.
			slices.SortStableFunc(t.events[ordering], inLogOrder)
		}
		for _, events := range t.events {
			for j := range events {
				d.byID[events[j].id] = &events[j]
			}
		}
	}
	if d.charges, err = c.charges.take(ctx, id, nil); err != nil {
		return nil, err
	}
	if d.bookings, err = c.bookings.take(ctx, id, nil); err != nil {
		return nil, err
	}
	for _, stored := range c.stored {
		if d.stored, err = stored.take(ctx, id, d.stored); err != nil {
			return nil, err
		}
	}
	if c.listed != nil {
		d.listed, err = c.listed.take(ctx, id, nil)
	}
	return d, err
}

// thread is the thread of a return; of "", the order's.
func (d *dossier) thread(returned string) *thread {
	for i := range d.threads {
		if d.threads[i].returned == returned {
			return &d.threads[i]
		}
	}
	d.threads = append(d.threads, thread{returned: returned})
	return &d.threads[len(d.threads)-1]
}

// returned is the return that an event belongs to: by its stream, by what it
// says, or by what led to it; "" if it belongs to the order itself.
func (e *event) returned() string {
	category, id, _ := strings.Cut(e.stream, ":")
	if category == returnCategory {
		return id
	}
	if e.typ == "shop.return_requested" {
		var p returnRequested
		if readJSON(e.data, &p) == nil {
			return p.ReturnID
		}
	}
	_, stream, _ := strings.Cut(e.cause, "/")
	if id, ok := strings.CutPrefix(stream, returnCategory+":"); ok {
		id, _, _ = strings.Cut(id, "@")
		return id
	}
	return ""
}

// checkOrder looks at one order from all sides.
func (a *auditor) checkOrder(d *dossier) {
	for i := range d.threads {
		t := &d.threads[i]
		for c := range t.events {
			for j := range t.events[c] {
				t.pending[c].add(&t.events[c][j], a.checks.effects)
				t.pending[c].ends(&t.events[c][j], a.checks.effects)
			}
		}
		a.checkReactions(d, t)
		a.checkOpen(d, t)
		d.facts.learn(a, t)
	}
	if d.facts.created == nil {
		a.checkOrphan(d)
		return
	}
	a.checkReturns(d)
	a.checkMoney(d)
	a.checkShipment(d)
	a.checkStates(d)
	a.checkList(d)
	a.checkMails(d)
	a.stock.order(d)
	a.place(d)
}

// checkOrphan reports what belongs to no order.
func (a *auditor) checkOrphan(d *dossier) {
	report := func(c *Check, row string) {
		c.LookedAt++
		c.wrong(row, "there is no such order")
	}
	for _, t := range d.threads {
		for _, events := range t.events {
			if len(events) > 0 {
				report(a.checks.orders, events[0].id)
			}
		}
	}
	for _, c := range d.charges {
		report(a.checks.money, c.name())
	}
	for _, b := range d.bookings {
		report(a.checks.shipments, b.name())
	}
	for _, s := range d.stored {
		report(a.checks.states, s.name())
	}
	for _, l := range d.listed {
		report(a.checks.lists, l.name())
	}
}
