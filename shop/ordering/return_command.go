package ordering

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// returning needs a confirmed order. That is of the order's saga and not of the
// return's, so the command asks for it and the declaration does not.
var returning = courante.Step{
	Name:     "request a return",
	Unless:   emits(shop.ReturnRequested{}),
	Outcomes: []courante.Outcome{{Emits: emits(shop.ReturnRequested{}, returnOpened{})}},
	Pivot:    true,
}

// ReturnOrder is the request to return something of an order.
type ReturnOrder struct {
	Lines []ReturnLine `json:"lines" minItems:"1" maxItems:"2000" nullable:"false"`
}

// ReturnLine says how much of what is returned: of one line of the order, or of
// a SKU, whichever lines it is on, the newest line first.
type ReturnLine struct {
	Line     int    `json:"line,omitempty" minimum:"1" maximum:"2000" doc:"Line of the order, counted from 1; or else sku" example:"1"`
	SKU      string `json:"sku,omitempty" minLength:"1" maxLength:"64" doc:"The newest line of that SKU first; or else line"`
	Quantity int64  `json:"quantity" minimum:"1" maximum:"2000000000" example:"1"`
}

// Problems says everything that is wrong with the request, whatever the order;
// nil if it can be tried.
func (r *ReturnOrder) Problems() []Problem {
	var found []Problem
	check := func(err error, pointer string, args ...any) {
		if err != nil {
			found = append(found, Problem{fmt.Sprintf(pointer, args...), err.Error()})
		}
	}
	check(between(int64(len(r.Lines)), 1, shop.MaxLines, "lines"), "/lines")
	for i, l := range r.Lines {
		switch {
		case (l.Line == 0) == (l.SKU == ""):
			check(errors.New("must name either a line or a sku"), "/lines/%d", i)
		case l.SKU != "":
			check(shop.CheckSKU(l.SKU), "/lines/%d/sku", i)
		default:
			check(between(int64(l.Line), 1, shop.MaxLines, ""), "/lines/%d/line", i)
		}
		check(between(l.Quantity, 1, shop.MaxLines*shop.MaxQuantity, ""), "/lines/%d/quantity", i)
	}
	return found
}

func (r *ReturnOrder) hash(orderID string) [32]byte { return hashOf([]any{orderID, r}) }

// ReturnAccepted is the answer to a return.
type ReturnAccepted struct {
	ReturnID string              `json:"return_id"`
	OrderID  string              `json:"order_id"`
	Version  int64               `json:"version"`
	Status   string              `json:"status" doc:"Of the order, when the return began"`
	Refund   shop.Money          `json:"refund"`
	Lines    []shop.ReturnedLine `json:"lines" nullable:"false" doc:"What is returned of which line of the order"`
	Token    courante.Token      `json:"token"`
}

type returnReply struct {
	ReturnAccepted
	Existed bool `json:"existed,omitempty"` // the return was there before this call
}

// NotReturnable is the error of a return that asks for what the order does not
// have, or not any more. It is also a *courante.Rejection with code "invalid".
type NotReturnable struct {
	Problems []Problem
}

func (e *NotReturnable) Error() string { return e.Unwrap().Error() }

// Unwrap is the rejection for those who do not need to know the places.
func (e *NotReturnable) Unwrap() error {
	return courante.Reject("invalid", "%s: %s", e.Problems[0].Pointer, e.Problems[0].Detail)
}

// Return gives back some of a confirmed order: the goods go back to the stock
// and their price to the customer. idempotency is the caller's key, "" if it
// has none. The error is *NotReturnable, or a *courante.Rejection with code
// "not_found", "conflict" (the order is not confirmed), or "key_reused".
func (c *Context) Return(ctx context.Context, idempotency, id string, request *ReturnOrder) (ReturnAccepted, error) {
	if err := shop.CheckID(id); err != nil {
		return ReturnAccepted{}, courante.Reject("invalid", "%v", err)
	}
	if found := request.Problems(); len(found) > 0 {
		return ReturnAccepted{}, &NotReturnable{found}
	}
	bought, err := c.purchase(ctx, id)
	if err != nil {
		return ReturnAccepted{}, err
	}
	returnID := strings.ToLower(rand.Text())
	if idempotency != "" {
		returnID = idFrom(idempotency)
	}
	hash := request.hash(id)
	fingerprint := hex.EncodeToString(hash[:16])
	res, err := c.giveBack.Do(ctx, courante.Call{
		Keys:        []courante.Key{c.orders.Key(id), c.returns.Key(returnID)},
		Correlation: returnID,
		Idempotency: idempotency,
		Hash:        hash,
		Do: func(d *courante.Decision) error {
			o, r := c.orders.Load(d, id), c.returns.Load(d, returnID)
			if r.Exists() {
				// The answer recorded for the key is forgotten after a while.
				if r.State.Fingerprint != fingerprint {
					return courante.Reject("key_reused", "the idempotency key was used before with another request")
				}
				d.Reply(returnReply{Existed: true})
				return nil
			}
			status := o.State.status()
			if status != Confirmed && status != Returned {
				return courante.Reject("conflict", "order %q is %s; only a confirmed order can be returned", id, status)
			}
			lines, problems := bought.take(o.State.Returned, request.Lines)
			if len(problems) > 0 {
				return &NotReturnable{problems}
			}
			e := shop.ReturnRequested{
				OrderID: id, ReturnID: returnID, CustomerID: o.State.CustomerID, Lines: lines,
				Refund: shop.Money{Currency: o.State.Total.Currency}, GoodsLeft: bought.goodsLeft(o.State.Returned, lines),
			}
			for _, l := range lines {
				e.Refund.Amount += l.Quantity * l.UnitPrice
			}
			o.Emit(e)
			r.Emit(returnOpened{OrderID: id, CustomerID: e.CustomerID, Refund: e.Refund, Fingerprint: fingerprint})
			d.Reply(returnReply{ReturnAccepted: ReturnAccepted{
				ReturnID: returnID, OrderID: id, Version: o.Version(), Status: status, Refund: e.Refund, Lines: lines,
			}})
			return nil
		},
	})
	if err != nil {
		return ReturnAccepted{}, err
	}
	var reply returnReply
	if err := json.Unmarshal(res.Reply, &reply); err != nil {
		return ReturnAccepted{}, fmt.Errorf("decode the reply of return %s: %w", returnID, err)
	}
	if reply.Existed {
		return c.returned(ctx, id, returnID)
	}
	reply.Token = res.Token
	return reply.ReturnAccepted, nil
}

// returned makes the first answer to a return again, from the order's history.
func (c *Context) returned(ctx context.Context, id, returnID string) (ReturnAccepted, error) {
	history, err := c.orders.History(ctx, id)
	if err != nil {
		return ReturnAccepted{}, err
	}
	answer := ReturnAccepted{ReturnID: returnID, OrderID: id, Status: Confirmed}
	for i := range history {
		switch e := &history[i]; e.Type {
		case shop.OrderReturned{}.EventType():
			answer.Status = Returned
		case shop.ReturnRequested{}.EventType():
			r, err := courante.Decode[shop.ReturnRequested](e)
			if err != nil {
				return ReturnAccepted{}, err
			}
			if r.ReturnID == returnID {
				answer.Version, answer.Refund, answer.Lines = e.Version, r.Refund, r.Lines
				answer.Token = courante.Token{Log: Name, Epoch: e.Epoch, Xid: e.Xid}
				return answer, nil
			}
		}
	}
	return ReturnAccepted{}, fmt.Errorf("return %s of order %s: %w", returnID, id, courante.ErrNotFound)
}
