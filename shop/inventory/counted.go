package inventory

import (
	"errors"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// stockCounted is what a warehouse says of a SKU that somebody counted, in a
// CloudEvent of type "warehouse.stock_counted". Warehouses are programs of
// others, in whatever language.
type stockCounted struct {
	SKU    string `json:"sku"`
	OnHand int64  `json:"on_hand"`
	Place  string `json:"place"` // where, for people; may be empty
}

// declareCounts has counts of warehouses correct the stock. A count is of the
// moment at which it is handled; one that leaves less than what is reserved is
// refused, because a person has to decide whose order is not served.
func (c *Context) declareCounts() {
	courante.OnInbound(c.svc, courante.Inbound[stockCounted]{
		Type: "warehouse.stock_counted",
		Step: courante.Step{Name: "take a count", Outcomes: []courante.Outcome{{Emits: emits(shop.StockAdjusted{})}, {}}},
		Keys: func(m stockCounted) []courante.Key { return []courante.Key{c.stocks.Key(m.SKU)} },
		Do: func(d *courante.Decision, m stockCounted) error {
			err := errors.Join(shop.CheckSKU(m.SKU), problem(m.OnHand, 0, shop.MaxStock))
			if m.Place != "" {
				err = errors.Join(err, shop.CheckText(m.Place, shop.MaxText/2))
			}
			if err != nil {
				return courante.Reject("invalid", "%v", err)
			}
			st := c.stocks.Load(d, m.SKU)
			difference := m.OnHand - st.State.OnHand
			if st.Exists() && difference == 0 {
				return nil
			}
			reason := "counted"
			if m.Place != "" {
				reason = fmt.Sprintf("counted at %s", m.Place)
			}
			event, err := correct(st, m.SKU, difference, reason)
			if err != nil {
				return err
			}
			st.Put(st.State)
			st.Emit(event)
			return nil
		},
	})
}
