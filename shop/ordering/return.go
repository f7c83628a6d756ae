package ordering

import (
	"slices"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// A return is a saga of its own, because an order may have several. What is
// returned of which line is counted on the order's stream, where two returns of
// the same lines meet; how a return goes on is on a stream of the return.
type (
	// returnOpened begins the stream of a return.
	returnOpened struct {
		OrderID     string     `json:"order_id"`
		CustomerID  string     `json:"customer_id" personal:"true"`
		Refund      shop.Money `json:"refund"`
		Fingerprint string     `json:"fingerprint"` // hash of the request
	}
	goodsBack struct{} // inventory has restocked them
	moneyBack struct{} // the customer has it

	// returnClosed tells the order that one of its returns is complete.
	returnClosed struct {
		ReturnID string `json:"return_id"`
	}
)

func (returnOpened) EventType() string { return "ordering.return_opened" }
func (goodsBack) EventType() string    { return "ordering.goods_back" }
func (moneyBack) EventType() string    { return "ordering.money_back" }
func (returnClosed) EventType() string { return "ordering.return_closed" }

func (e returnOpened) PersonalKey() string { return e.CustomerID }

// goodsReturn is the fold of a return's stream.
type goodsReturn struct {
	OrderID     string        `json:"order_id"`
	CustomerID  string        `json:"customer_id"`
	Refund      shop.Money    `json:"refund"`
	Fingerprint string        `json:"fingerprint"`
	Past        courante.Past `json:"past"`
}

func returnEvolutions() []courante.Evolution[goodsReturn] {
	return []courante.Evolution[goodsReturn]{
		courante.Evolve(func(r *goodsReturn, e returnOpened) {
			r.OrderID, r.CustomerID, r.Refund, r.Fingerprint = e.OrderID, e.CustomerID, e.Refund, e.Fingerprint
		}),
		returnHappened[goodsBack](),
		returnHappened[moneyBack](),
		returnHappened[shop.ReturnCompleted](),
	}
}

func returnHappened[P courante.Payload]() courante.Evolution[goodsReturn] {
	return courante.Evolve(func(r *goodsReturn, e P) { r.Past.Add(e.EventType()) })
}

// requested is what a return changes of its order, at once: from here on these
// pieces cannot be returned again.
func (o *order) requested(e shop.ReturnRequested) {
	if o.Returned == nil {
		o.Returned = map[int]int64{}
	}
	goods := false
	for _, l := range e.Lines {
		o.Returned[l.Line] += l.Quantity
		goods = goods || l.Kind == shop.Goods
	}
	o.GoodsBack = o.GoodsBack || goods && e.GoodsLeft == 0
	o.Returning = append(o.Returning, e.ReturnID)
}

// closed says that a return of the order is complete.
func (o *order) closed(e returnClosed) {
	o.Returning = slices.DeleteFunc(o.Returning, func(id string) bool { return id == e.ReturnID })
}

// declareReturns declares the saga of a return. It has no way back: what a
// customer has handed in is his money's worth, so the request is the pivot.
func (c *Context) declareReturns() {
	c.svc.Saga(courante.Saga{
		Name:      "return",
		Starts:    shop.ReturnRequested{}.EventType(),
		Completed: emits(shop.ReturnCompleted{}),
		Keys:      []string{"order_id"},
		Within:    c.cfg.Deadline,
		Value: func(e *courante.Event) (int64, string) {
			requested, err := courante.Decode[shop.ReturnRequested](e)
			if err != nil {
				return 0, ""
			}
			return requested.Refund.Amount, requested.Refund.Currency
		},
	})
	c.giveBack = courante.NewCommand(c.svc, returning)

	// Goods and money, in any order of arrival.
	completed := emits(shop.ReturnCompleted{})
	complete := func(r *courante.Ref[goodsReturn], id string) {
		r.Emit(shop.ReturnCompleted{OrderID: r.State.OrderID, ReturnID: id, CustomerID: r.State.CustomerID, Refund: r.State.Refund})
	}
	onReturn(c, courante.Step{
		Name:     "note that the goods are back",
		Unless:   emits(goodsBack{}, moneyBack{}),
		Outcomes: []courante.Outcome{{Emits: emits(goodsBack{})}},
	}, func(r *courante.Ref[goodsReturn], e shop.ReturnRestocked) {
		r.Emit(goodsBack{})
	})
	onReturn(c, courante.Step{
		Name:     "complete the return, the goods being the last to hear of",
		When:     emits(moneyBack{}),
		Unless:   completed,
		Outcomes: []courante.Outcome{{Emits: completed}},
	}, func(r *courante.Ref[goodsReturn], e shop.ReturnRestocked) {
		complete(r, e.ReturnID)
	})
	onReturn(c, courante.Step{
		Name:     "note that the money is given back",
		Unless:   emits(goodsBack{}, moneyBack{}),
		Outcomes: []courante.Outcome{{Emits: emits(moneyBack{})}},
	}, func(r *courante.Ref[goodsReturn], e shop.ReturnRefunded) {
		r.Emit(moneyBack{})
	})
	onReturn(c, courante.Step{
		Name:     "complete the return, the money being the last to hear of",
		When:     emits(goodsBack{}),
		Unless:   completed,
		Outcomes: []courante.Outcome{{Emits: completed}},
	}, func(r *courante.Ref[goodsReturn], e shop.ReturnRefunded) {
		complete(r, e.ReturnID)
	})

	// Several returns of an order may be complete in any order; the last one
	// finds that nothing is under way any more.
	courante.On(c.svc, courante.Reaction[shop.ReturnCompleted]{
		Step: courante.Step{
			Name:   "close the return",
			Unless: emits(returnClosed{}),
			Outcomes: []courante.Outcome{
				{Emits: emits(returnClosed{})},
				{Emits: emits(returnClosed{}, shop.OrderReturned{})},
			},
		},
		Keys: func(e shop.ReturnCompleted) []courante.Key { return []courante.Key{c.orders.Key(e.OrderID)} },
		Do: func(d *courante.Decision, e shop.ReturnCompleted) error {
			o := c.orders.Load(d, e.OrderID)
			// The declared guard, in the words of an order with many returns.
			if !slices.Contains(o.State.Returning, e.ReturnID) {
				return nil
			}
			o.Emit(returnClosed{e.ReturnID})
			if o.State.GoodsBack && len(o.State.Returning) == 0 && !o.State.Past.Has(shop.OrderReturned{}.EventType()) {
				o.Emit(shop.OrderReturned{OrderID: e.OrderID})
			}
			return nil
		},
	})
}

// onReturn declares a step of a return that an event sets off. The declaration
// is also the guard: do runs only when it allows.
func onReturn[P shop.ReturnEvent](c *Context, step courante.Step, do func(*courante.Ref[goodsReturn], P)) {
	courante.On(c.svc, courante.Reaction[P]{
		Step: step,
		Keys: func(e P) []courante.Key { return []courante.Key{c.returns.Key(e.Return())} },
		Do: func(d *courante.Decision, e P) error {
			if r := c.returns.Load(d, e.Return()); r.State.Past.Allows(step) {
				do(r, e)
			}
			return nil
		},
	})
}
