package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// step is what one invoice or record asks of the system. It is made in the
// order of the file; run waits its turn itself.
type step struct {
	line   int       // the first of its lines, which makes its idempotency key
	at     time.Time // when it happened, zero if the file does not say
	claims []claim
	order  bool   // takes a place among the orders under way
	id     string // of the order, if it is one and has one in the file

	// run sends it and enters its lines in the account. It calls answered as
	// soon as what waits for it may go on. The error is the replay's end.
	run func(ctx context.Context, e *engine, answered func()) error
}

func customerKey(id string) string { return "customer " + id }
func orderKey(id string) string    { return "order " + id }
func skuKey(sku string) string     { return "sku " + sku }

// encode makes a body. It cannot fail: the types are strings and numbers.
func encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return body
}

// placing is an order that is to be placed.
type placing struct {
	line    int
	order   *order
	body    []byte
	account map[string]int // lines by what they are accepted as
	buyer   string         // whose purchases these are, for the ledger; "" is nobody's
}

// run places the order and leaves the rest to the watcher.
func (p *placing) run(ctx context.Context, e *engine, _ func()) error {
	placed := false
	defer func() {
		if !placed {
			e.leave()
		}
	}()
	a, err := e.client.do(ctx, request{method: http.MethodPost, path: "/v1/orders", key: e.key(p.line), body: p.body})
	if err != nil {
		return err
	}
	lines := 0
	for _, n := range p.account {
		lines += n
	}
	if !a.ok() {
		e.account.refuse(refusedBy("order", a.status), lines, p.line, a.detail())
		e.ordersRefused.Add(1)
		return nil
	}
	var reply struct {
		OrderID string `json:"order_id"`
	}
	if err := json.Unmarshal(a.body, &reply); err != nil || reply.OrderID == "" {
		return fmt.Errorf("line %d: the answer to an order is not one of the contract: %s", p.line, a.says())
	}
	o, known := e.watcher.add(reply.OrderID, true)
	if known == ownOrder { // the file has it twice, and the system took both as one
		e.account.merge(lines)
		return nil
	}
	for as, n := range p.account {
		e.account.accept(as, n)
	}
	if p.buyer != "" {
		e.ledger.buy(p.buyer, o, p.order.Lines)
	}
	if known == foundOrder {
		return nil // it has ended: a return waited for it
	}
	placed = true
	e.background(ctx, func(ctx context.Context) error { return e.watcher.follow(ctx, o, a.token, e.leave) })
	return nil
}

// changing is a change that needs no order: stock that is received or adjusted.
type changing struct {
	line int
	sku  string
	what string // "receipt" or "adjustment", as the path has it in the plural
	as   string // how the account calls it
	body []byte
}

func (c *changing) run(ctx context.Context, e *engine, _ func()) error {
	a, err := e.client.do(ctx, request{
		method: http.MethodPost, path: "/v1/inventory/" + url.PathEscape(c.sku) + "/" + c.what + "s",
		key: e.key(c.line), body: c.body,
	})
	if err != nil {
		return err
	}
	if !a.ok() {
		e.account.refuse(refusedBy(c.what, a.status), 1, c.line, a.detail())
		return nil
	}
	e.account.accept(c.as, 1)
	return nil
}

// cancelling is an order that is to be cancelled.
type cancelling struct {
	line  int
	order string
	body  []byte
}

func (c *cancelling) run(ctx context.Context, e *engine, _ func()) error {
	a, err := e.client.do(ctx, request{
		method: http.MethodPost, path: "/v1/orders/" + url.PathEscape(c.order) + "/cancel", key: e.key(c.line), body: c.body,
	})
	if err != nil {
		return err
	}
	if !a.ok() {
		e.account.refuse(refusedBy("cancellation", a.status), 1, c.line, a.detail())
		return nil
	}
	e.account.accept(asCancel, 1)
	return nil
}
