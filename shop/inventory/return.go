package inventory

import (
	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// restocking is what inventory remembers of one return.
type restocking struct {
	Past courante.Past `json:"past"`
}

// declareReturns puts what customers return back on hand. The goods had left
// the stock when the order was shipped, so nothing is reserved for it any more.
func (c *Context) declareReturns() {
	restock := courante.Step{
		Name:     "restock what is returned",
		Unless:   emits(shop.ReturnRestocked{}),
		Outcomes: []courante.Outcome{{Emits: emits(shop.ReturnRestocked{})}},
	}
	courante.On(c.svc, courante.Reaction[shop.ReturnRequested]{
		Step: restock,
		Keys: func(e shop.ReturnRequested) []courante.Key {
			return append(c.stockKeys(handedIn(e.Lines)), c.returns.Key(e.ReturnID))
		},
		Do: func(d *courante.Decision, e shop.ReturnRequested) error {
			r := c.returns.Load(d, e.ReturnID)
			if !r.State.Past.Allows(restock) {
				return nil
			}
			for _, it := range handedIn(e.Lines) { // none if it is of charges alone
				st := c.stocks.Load(d, it.SKU)
				st.State.OnHand += it.Quantity
				st.Put(st.State)
			}
			restocked := shop.ReturnRestocked{OrderID: e.OrderID, ReturnID: e.ReturnID}
			r.State.Past.Add(restocked.EventType())
			r.Put(r.State)
			r.Emit(restocked)
			return nil
		},
	})
}

// handedIn sums up the goods of a return by SKU, sorted.
func handedIn(lines []shop.ReturnedLine) []item {
	goods := make([]shop.Line, len(lines))
	for i, l := range lines {
		goods[i] = shop.Line{SKU: l.SKU, Quantity: l.Quantity, Kind: l.Kind}
	}
	return wanted(goods)
}
