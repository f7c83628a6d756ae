package inventory

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

var emits = courante.Types

// declareSteps declares what inventory does about the others' events.
//
// A cancellation may overtake the order itself. Then the release is a
// tombstone: the order that comes later finds it and reserves nothing.
func (c *Context) declareSteps() {
	reserve := courante.Step{
		Name:   "reserve stock",
		Unless: emits(shop.InventoryReserved{}, shop.InventoryRejected{}, shop.InventoryReleased{}),
		Outcomes: []courante.Outcome{
			{Emits: emits(shop.InventoryReserved{})},
			{Emits: emits(shop.InventoryRejected{}), Fails: true},
		},
	}
	courante.On(c.svc, courante.Reaction[shop.OrderCreated]{
		Step: reserve,
		Keys: func(e shop.OrderCreated) []courante.Key {
			return append(c.stockKeys(wanted(e.Lines)), c.reservations.Key(e.OrderID))
		},
		Do: func(d *courante.Decision, e shop.OrderCreated) error {
			if r := c.reservations.Load(d, e.OrderID); r.State.Past.Allows(reserve) {
				c.reserve(d, r, e)
			}
			return nil
		},
	})

	on(c, courante.Step{
		Name:     "release stock",
		Unless:   emits(shop.InventoryReleased{}, shop.InventoryIssued{}),
		Undoes:   reserve.Name,
		Outcomes: []courante.Outcome{{Emits: emits(shop.InventoryReleased{})}},
	}, func(d *courante.Decision, r *courante.Ref[reservation], e shop.ShippingCancelled) {
		c.fetch(d, r)
		for _, it := range r.State.Items { // none if nothing was reserved
			st := c.stocks.Load(d, it.SKU)
			st.State.Reserved -= it.Quantity
			st.Put(st.State)
		}
		end(r, shop.InventoryReleased{OrderID: e.OrderID})
	})

	// Shipping follows payment, and payment follows the reservation, which is
	// ours and so is there whatever order the others' messages arrive in.
	on(c, courante.Step{
		Name:     "issue goods",
		When:     emits(shop.InventoryReserved{}),
		Unless:   emits(shop.InventoryReleased{}, shop.InventoryIssued{}),
		Outcomes: []courante.Outcome{{Emits: emits(shop.InventoryIssued{})}},
	}, func(d *courante.Decision, r *courante.Ref[reservation], e shop.ShippingArranged) {
		c.fetch(d, r)
		for _, it := range r.State.Items {
			st := c.stocks.Load(d, it.SKU)
			st.State.OnHand -= it.Quantity
			st.State.Reserved -= it.Quantity
			st.Put(st.State)
		}
		end(r, shop.InventoryIssued{OrderID: e.OrderID})
	})
}

// fetch has the stock of all items of a reservation loaded at once.
func (c *Context) fetch(d *courante.Decision, r *courante.Ref[reservation]) {
	skus := make([]string, len(r.State.Items))
	for i, it := range r.State.Items {
		skus[i] = it.SKU
	}
	c.stocks.Fetch(d, skus...)
}

// reserve sets everything aside or nothing. An order of charges alone wants
// nothing, and that is there.
func (c *Context) reserve(d *courante.Decision, r *courante.Ref[reservation], e shop.OrderCreated) {
	items := wanted(e.Lines)
	var short []shop.Short
	for _, it := range items {
		if st := c.stocks.Load(d, it.SKU); st.State.available() < it.Quantity {
			short = append(short, shop.Short{SKU: it.SKU, Wanted: it.Quantity, Available: st.State.available()})
		}
	}
	if len(short) > 0 {
		end(r, shop.InventoryRejected{OrderID: e.OrderID, Short: short})
		return
	}
	for _, it := range items {
		st := c.stocks.Load(d, it.SKU)
		st.State.Reserved += it.Quantity
		st.Put(st.State)
	}
	r.State.Items = items
	put(r, shop.InventoryReserved{OrderID: e.OrderID})
}

// wanted sums up the goods of an order by SKU, sorted.
func wanted(lines []shop.Line) []item {
	items := make([]item, 0, len(lines))
	for _, l := range lines {
		if l.Kind == shop.Goods {
			items = append(items, item{l.SKU, l.Quantity})
		}
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.SKU, b.SKU) })
	n := 0
	for i := range items {
		if n > 0 && items[n-1].SKU == items[i].SKU {
			items[n-1].Quantity += items[i].Quantity
			continue
		}
		items[n] = items[i]
		n++
	}
	return items[:n]
}

func (c *Context) stockKeys(items []item) []courante.Key {
	keys := make([]courante.Key, 0, len(items)+1)
	for _, it := range items {
		keys = append(keys, c.stocks.Key(it.SKU))
	}
	return keys
}

// end records what became of a reservation that holds nothing any more.
func end(r *courante.Ref[reservation], e courante.Payload) {
	r.State.Items = nil
	put(r, e)
}

// put stores a reservation with the event that tells of it.
func put(r *courante.Ref[reservation], e courante.Payload) {
	r.State.Past.Add(e.EventType())
	r.Put(r.State)
	r.Emit(e)
}

// on declares a step of a reservation that an event sets off. The declaration
// is also the guard: do runs only when it allows.
func on[P shop.OrderEvent](c *Context, step courante.Step, do func(*courante.Decision, *courante.Ref[reservation], P)) {
	courante.On(c.svc, courante.Reaction[P]{
		Step: step,
		Keys: func(e P) []courante.Key { return []courante.Key{c.reservations.Key(e.Order())} },
		Do: func(d *courante.Decision, e P) error {
			r := c.reservations.Load(d, e.Order())
			if r.State.Past.Allows(step) {
				do(d, r, e)
			}
			return nil
		},
	})
}

// problem says what is wrong with a number.
func problem(n, least, most int64) error {
	if n < least || n > most {
		return fmt.Errorf("must be %d to %d", least, most)
	}
	return nil
}
