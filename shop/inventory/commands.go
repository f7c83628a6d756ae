package inventory

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

func (c *Context) declareCommands() {
	c.receive = courante.NewCommand(c.svc, courante.Step{
		Name: "receive stock", Outcomes: []courante.Outcome{{Emits: emits(shop.StockReceived{})}},
	})
	c.adjust = courante.NewCommand(c.svc, courante.Step{
		Name: "adjust stock", Outcomes: []courante.Outcome{{Emits: emits(shop.StockAdjusted{})}},
	})
}

// Level is how much there is of a SKU.
type Level struct {
	SKU       string `json:"sku"`
	OnHand    int64  `json:"on_hand"`
	Reserved  int64  `json:"reserved"`
	Available int64  `json:"available" doc:"on_hand - reserved"`
}

// Changed is the answer to a change of the stock.
type Changed struct {
	Level
	Token courante.Token `json:"token"`
}

// Receive adds goods that came in; it creates the SKU. idempotency is the
// caller's key, "" if it has none. The error is a *courante.Rejection with code
// "invalid", "conflict" (more than can be counted) or "key_reused".
func (c *Context) Receive(ctx context.Context, idempotency, sku string, quantity int64) (Changed, error) {
	if err := errors.Join(shop.CheckSKU(sku), problem(quantity, 1, shop.MaxStockChange)); err != nil {
		return Changed{}, courante.Reject("invalid", "%v", err)
	}
	return c.change(ctx, c.receive, idempotency, sku, []any{sku, quantity}, func(st *courante.Ref[stock]) (courante.Payload, error) {
		if st.State.OnHand > shop.MaxStock-quantity {
			return nil, courante.Reject("conflict", "there would be more of %q than can be counted", sku)
		}
		st.State.OnHand += quantity
		return shop.StockReceived{SKU: sku, Quantity: quantity, OnHand: st.State.OnHand, Reserved: st.State.Reserved}, nil
	})
}

// Adjust corrects the stock by a signed quantity. The error is a
// *courante.Rejection with code "invalid", "not_found", "conflict" (less than
// is reserved would be left) or "key_reused".
func (c *Context) Adjust(ctx context.Context, idempotency, sku string, quantity int64, reason string) (Changed, error) {
	err := errors.Join(shop.CheckSKU(sku), problem(quantity, -shop.MaxStockChange, shop.MaxStockChange), shop.CheckText(reason, shop.MaxText))
	if err != nil || quantity == 0 {
		return Changed{}, courante.Reject("invalid", "%v", errors.Join(err, errors.New("the quantity must not be 0")))
	}
	return c.change(ctx, c.adjust, idempotency, sku, []any{sku, quantity, reason}, func(st *courante.Ref[stock]) (courante.Payload, error) {
		return correct(st, sku, quantity, reason)
	})
}

// correct changes what is on hand by a signed quantity.
func correct(st *courante.Ref[stock], sku string, quantity int64, reason string) (courante.Payload, error) {
	left := st.State.OnHand + quantity
	switch {
	case !st.Exists():
		return nil, courante.Reject("not_found", "there is no SKU %q", sku)
	case left < st.State.Reserved:
		return nil, courante.Reject("conflict", "of %q, %d are reserved; %d would be left", sku, st.State.Reserved, left)
	case left > shop.MaxStock:
		return nil, courante.Reject("conflict", "there would be more of %q than can be counted", sku)
	}
	st.State.OnHand = left
	return shop.StockAdjusted{SKU: sku, Quantity: quantity, Reason: reason, OnHand: left, Reserved: st.State.Reserved}, nil
}

func (c *Context) change(ctx context.Context, command *courante.Command, idempotency, sku string, request []any,
	decide func(*courante.Ref[stock]) (courante.Payload, error)) (Changed, error) {
	data, err := json.Marshal(request)
	if err != nil {
		return Changed{}, err
	}
	res, err := command.Do(ctx, courante.Call{
		Keys:        []courante.Key{c.stocks.Key(sku)},
		Idempotency: idempotency,
		Hash:        sha256.Sum256(data),
		Do: func(d *courante.Decision) error {
			st := c.stocks.Load(d, sku)
			event, err := decide(st)
			if err != nil {
				return err
			}
			st.Put(st.State)
			st.Emit(event)
			d.Reply(level(sku, st.State))
			return nil
		},
	})
	if err != nil {
		return Changed{}, err
	}
	changed := Changed{Token: res.Token}
	if err := json.Unmarshal(res.Reply, &changed.Level); err != nil {
		return Changed{}, fmt.Errorf("decode the reply about %s: %w", sku, err)
	}
	return changed, nil
}

// Level reads how much there is of a SKU from the source of truth.
func (c *Context) Level(ctx context.Context, sku string) (Level, error) {
	st, _, err := c.stocks.Get(ctx, sku)
	if err != nil {
		return Level{}, err
	}
	return level(sku, st), nil
}

func level(sku string, st stock) Level {
	return Level{SKU: sku, OnHand: st.OnHand, Reserved: st.Reserved, Available: st.available()}
}
