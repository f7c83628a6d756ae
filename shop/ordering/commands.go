package ordering

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

var (
	placing = courante.Step{
		Name:     "place order",
		Unless:   emits(shop.OrderCreated{}),
		Outcomes: []courante.Outcome{{Emits: emits(shop.OrderCreated{}), Sets: []string{deadline}}},
	}
	cancellingByCustomer = courante.Step{
		Name:     "cancel order",
		When:     emits(shop.OrderCreated{}),
		Unless:   emits(orderShipped{}, goodsIssued{}, shop.OrderConfirmed{}, shop.OrderCancelling{}, shop.OrderCancelled{}),
		Outcomes: []courante.Outcome{cancelling},
	}
)

func (c *Context) declareCommands() {
	c.place = courante.NewCommand(c.svc, placing)
	c.cancel = courante.NewCommand(c.svc, cancellingByCustomer)
}

// Placed is the answer to a placed order. An order placed again, by the same
// request, has the first answer.
type Placed struct {
	OrderID string         `json:"order_id"`
	Version int64          `json:"version"`
	Status  string         `json:"status"`
	Total   shop.Money     `json:"total"`
	Token   courante.Token `json:"token"`
}

type placeReply struct {
	Placed
	Existed bool `json:"existed,omitempty"` // the order was there before this call
}

// Place takes an order. idempotency is the caller's key, "" if it has none.
// The error is a *courante.Rejection with code "invalid", "conflict" (the id is
// another order's) or "key_reused".
func (c *Context) Place(ctx context.Context, idempotency string, p *PlaceOrder) (Placed, error) {
	if found := p.Problems(); len(found) > 0 {
		return Placed{}, courante.Reject("invalid", "%s: %s", found[0].Pointer, found[0].Detail)
	}
	id := p.OrderID
	switch {
	case id != "":
	case idempotency != "":
		id = idFrom(idempotency)
	default:
		id = strings.ToLower(rand.Text())
	}
	hash := p.hash()
	created := p.event(id, hash)
	res, err := c.place.Do(ctx, courante.Call{
		Keys:        []courante.Key{c.orders.Key(id)},
		Idempotency: idempotency,
		Hash:        hash,
		Do: func(d *courante.Decision) error {
			o := c.orders.Load(d, id)
			existed := o.Exists()
			switch {
			case !existed:
				o.Emit(created, courante.Set(deadline, d.Now().Add(c.cfg.Deadline)))
			case o.State.Fingerprint != created.Fingerprint:
				return courante.Reject("conflict", "order %q exists and is another one", id)
			}
			d.Reply(placeReply{Placed{OrderID: id, Version: 1, Status: Created, Total: created.Total}, existed})
			return nil
		},
	})
	if err != nil {
		return Placed{}, err
	}
	var reply placeReply
	if err := json.Unmarshal(res.Reply, &reply); err != nil {
		return Placed{}, fmt.Errorf("decode the reply of order %s: %w", id, err)
	}
	reply.Token = res.Token
	if reply.Existed {
		// The first answer carried the token of the commit that placed it.
		if reply.Token, err = c.tokenOf(ctx, id, 1); err != nil {
			return Placed{}, err
		}
	}
	return reply.Placed, nil
}

// tokenOf is the token of the commit that wrote a version of an order.
func (c *Context) tokenOf(ctx context.Context, id string, version int64) (courante.Token, error) {
	e, err := c.orders.Event(ctx, id, version)
	if err != nil {
		return courante.Token{}, err
	}
	return courante.Token{Log: Name, Epoch: e.Epoch, Xid: e.Xid}, nil
}

// Cancellation is the answer to a cancelled order.
type Cancellation struct {
	OrderID string         `json:"order_id"`
	Version int64          `json:"version"`
	Status  string         `json:"status"`
	Token   courante.Token `json:"token"`
}

type cancelReply struct {
	Cancellation
	Already bool `json:"already,omitempty"`
}

// Cancel asks for an order to be cancelled. already says that it was being, or
// had been, cancelled before. The answer is a wish granted as far as ordering
// knows: an order that is just being shipped may still go on. The error is a
// *courante.Rejection with code "not_found", "conflict" (it has been shipped)
// or "key_reused".
func (c *Context) Cancel(ctx context.Context, idempotency, id, reason string) (_ Cancellation, already bool, _ error) {
	if err := errors.Join(shop.CheckID(id), shop.CheckText(reason, shop.MaxText)); err != nil {
		return Cancellation{}, false, courante.Reject("invalid", "%v", err)
	}
	why := "cancelled by the customer"
	if reason != "" {
		why = reason
	}
	res, err := c.cancel.Do(ctx, courante.Call{
		Keys:        []courante.Key{c.orders.Key(id)},
		Idempotency: idempotency,
		Hash:        hashOf([]string{id, reason}),
		Do: func(d *courante.Decision) error {
			o := c.orders.Load(d, id)
			status := o.State.status()
			already := status == Cancelling || status == Cancelled
			switch {
			case !o.Exists():
				return courante.Reject("not_found", "there is no order %q", id)
			case already:
			case !o.State.Past.Allows(cancellingByCustomer):
				return courante.Reject("conflict", "order %q has been shipped", id)
			default:
				o.Emit(shop.OrderCancelling{OrderID: id, Reason: why})
			}
			d.Reply(cancelReply{Cancellation{OrderID: id, Version: o.Version(), Status: o.State.status()}, already})
			return nil
		},
	})
	if err != nil {
		return Cancellation{}, false, err
	}
	var reply cancelReply
	if err := json.Unmarshal(res.Reply, &reply); err != nil {
		return Cancellation{}, false, fmt.Errorf("decode the reply of order %s: %w", id, err)
	}
	reply.Token = res.Token
	if reply.Already {
		if reply.Token, err = c.tokenOf(ctx, id, reply.Version); err != nil {
			return Cancellation{}, false, err
		}
	}
	return reply.Cancellation, reply.Already, nil
}
