package audit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// stock is the fold of all that changed the stock.
type stock struct {
	skus    map[string]int32 // numbers of SKUs
	names   []string
	changes []change
}

// change is what one event did: it added onHand and reserved times the pieces.
// A year of orders has millions of pieces in their lines, so the events of an
// order share them.
type change struct {
	tick, position   int64 // of the event
	epoch            int32
	xid              uint64
	first            int64 // smallest position of the transaction, set before the fold
	event            string
	pieces           []pieces
	onHand, reserved int64
	level            *level // what the event says that there are after it; may be nil
}

// pieces are some of one SKU.
type pieces struct {
	sku int32
	n   int64
}

// level is how much there is of a SKU.
type level struct {
	OnHand   int64 `json:"on_hand"`
	Reserved int64 `json:"reserved"`
}

// unsound reports whether there cannot be such a level.
func (l level) unsound() bool { return l.OnHand < 0 || l.Reserved < 0 || l.OnHand < l.Reserved }

func (l level) String() string { return fmt.Sprintf("%d on hand, %d reserved", l.OnHand, l.Reserved) }

func (s *stock) number(sku string) int32 {
	if s.skus == nil {
		s.skus = map[string]int32{}
	}
	n, ok := s.skus[sku]
	if !ok {
		n = int32(len(s.names))
		s.skus[sku], s.names = n, append(s.names, sku)
	}
	return n
}

func (s *stock) add(e *event, moved []pieces, onHand, reserved int64, told *level) {
	if e != nil && len(moved) > 0 {
		s.changes = append(s.changes, change{
			tick: e.tick, position: e.position, epoch: e.epoch, xid: e.xid, event: e.id,
			pieces: moved, onHand: onHand, reserved: reserved, level: told,
		})
	}
}

// order adds what an order and its returns did to the stock. The events of
// inventory name the order; how many pieces of what it wants is in its own event.
func (s *stock) order(d *dossier) {
	f := &d.facts
	if f.reserved != nil {
		var wanted []pieces
		for sku, n := range f.created.wanted() {
			wanted = append(wanted, pieces{s.number(sku), n})
		}
		s.add(f.reserved, wanted, 0, 1, nil)
		s.add(f.released, wanted, 0, -1, nil)
		s.add(f.issued, wanted, -1, -1, nil)
	}
	for _, r := range f.returns {
		if r.restocked == nil || r.requested == nil {
			continue
		}
		var back []pieces
		for _, l := range r.requested.Lines {
			if l.Kind == goods {
				back = append(back, pieces{s.number(l.SKU), l.Quantity})
			}
		}
		s.add(r.restocked, back, 1, 0, nil)
	}
}

// readStock reads the log of the stock, folds it with what the orders did, and
// compares the end with what is stored.
func (a *auditor) readStock(ctx context.Context) error {
	l := a.logs[names[inventory]]
	stored, err := a.openStored(ctx, l, "stock")
	if err != nil {
		return err
	}
	events, err := a.openEvents(ctx, l, "stock")
	if err != nil {
		return err
	}
	versions := map[string]storedState{}
	var list []event
	var rows []storedState
	for {
		sku, more, err := smallest(ctx, []reader{stored, events})
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if list, err = events.take(ctx, sku, list[:0]); err != nil {
			return err
		}
		if rows, err = stored.take(ctx, sku, rows[:0]); err != nil {
			return err
		}
		var p pending
		for i := range list {
			p.add(&list[i], a.checks.effects)
			a.changed(sku, list[:i+1])
		}
		a.stock.number(sku)
		for _, row := range rows {
			a.checkStored(&row, list, &p)
			versions[sku] = row
		}
	}
	a.fold(l, versions)
	return nil
}

// changed takes in the last event of a SKU's stream.
func (a *auditor) changed(sku string, stream []event) {
	e := &stream[len(stream)-1]
	p := decode[struct {
		SKU      string `json:"sku"`
		Quantity int64  `json:"quantity"`
		level
	}](a, e)
	for i := range stream[:len(stream)-1] {
		if stream[i].cause == e.cause && stream[i].typ == e.typ {
			a.checks.reactions.wrong(e.id, "%s came of %s before: it was handled twice", e.typ, e.cause)
		}
	}
	switch {
	case e.typ != "shop.stock_received" && e.typ != "shop.stock_adjusted":
		a.checks.stock.wrong(e.id, "nothing is known of events of type %s on a stock", e.typ)
	case p.SKU != sku:
		a.checks.stock.wrong(e.id, "it is of SKU %q, and its stream of %q", p.SKU, sku)
	default:
		a.stock.add(e, []pieces{{a.stock.number(sku), p.Quantity}}, 1, 0, &level{p.OnHand, p.Reserved})
	}
}

// fold replays all changes in the log's order. Orders that are decided in one
// transaction stand in it by their names and not by the order of the decisions,
// so what there is of a SKU counts when the transaction is over.
func (a *auditor) fold(l *eventLog, stored map[string]storedState) {
	c := a.checks.stock
	changes := a.stock.changes
	type transaction struct {
		epoch int32
		xid   uint64
	}
	first := map[transaction]int64{}
	for i := range changes {
		t := transaction{changes[i].epoch, changes[i].xid}
		if at, ok := first[t]; !ok || changes[i].position < at {
			first[t] = changes[i].position
		}
	}
	for i := range changes {
		changes[i].first = first[transaction{changes[i].epoch, changes[i].xid}]
	}
	slices.SortFunc(changes, func(x, y change) int {
		return cmp.Or(cmp.Compare(x.tick, y.tick), cmp.Compare(x.epoch, y.epoch), cmp.Compare(x.first, y.first), cmp.Compare(x.position, y.position))
	})
	levels := make([]level, len(a.stock.names))
	bad := map[int32]bool{} // reported once
	for i := 0; i < len(changes); {
		end := i
		for end < len(changes) && changes[end].xid == changes[i].xid && changes[end].epoch == changes[i].epoch {
			ch := &changes[end]
			for _, p := range ch.pieces {
				l := &levels[p.sku]
				l.OnHand += ch.onHand * p.n
				l.Reserved += ch.reserved * p.n
				if ch.level != nil && *ch.level != *l {
					c.wrong(ch.event, "it says that there are %s, and the log says %s", ch.level, l)
				}
			}
			end++
		}
		for ; i < end; i++ {
			for _, p := range changes[i].pieces {
				if l := levels[p.sku]; l.unsound() && !bad[p.sku] {
					bad[p.sku] = true
					c.wrong("SKU "+a.stock.names[p.sku], "after %s there were %s", changes[i].event, l)
				}
			}
		}
	}
	for n, sku := range a.stock.names {
		c.LookedAt++
		row, ok := stored[sku]
		if !ok {
			c.wrong(l.label+".state stock:"+sku, "it is missing; the log says %s", levels[n])
			continue
		}
		var got level
		if err := readJSON(row.data, &got); err != nil {
			c.wrong(row.name(), "it cannot be read: %v", err)
		} else if got != levels[n] {
			c.wrong(row.name(), "there are %s, and the log says %s", got, levels[n])
		}
		if got.unsound() {
			c.wrong(row.name(), "there are %s: nothing may be negative, or reserved that is not there", got)
		}
	}
}
