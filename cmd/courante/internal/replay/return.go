package replay

import (
	"context"
	"net/http"
	"net/url"
)

// matching is a cancel invoice: lines that a customer gives back, of orders
// that it does not name.
type matching struct {
	line     int
	customer string
	lines    []backLine
}

// backLine is a line of a cancel invoice and what becomes of it.
type backLine struct {
	line     int
	sku      string
	quantity int64

	accepted int64  // pieces that the system took back
	cause    Cause  // why some were not, the first that was met
	said     string // by the system
}

// run matches the lines as soon as the customer's earlier orders are answered,
// and returns each part when its order has ended.
func (m *matching) run(ctx context.Context, e *engine, answered func()) error {
	var orders []*watch
	wanted := map[*watch]*wantedReturn{}
	for i := range m.lines {
		l := &m.lines[i]
		parts, known := e.ledger.giveBack(m.customer, l.sku, l.quantity)
		matched := int64(0)
		for _, p := range parts {
			w := wanted[p.order]
			if w == nil {
				w = &wantedReturn{pieces: map[int]int64{}}
				wanted[p.order] = w
				orders = append(orders, p.order)
			}
			w.add(p, l)
			matched += p.quantity
		}
		switch {
		case !known:
			l.refuse(neverBought, "")
		case matched < l.quantity:
			l.refuse(alreadyReturned, "")
		}
	}
	answered()
	for _, o := range orders {
		w := wanted[o]
		cause, said, err := e.giveBack(ctx, o, e.key(m.line), encode(returned{w.lines()}))
		if err != nil {
			return err
		}
		for _, share := range w.shares {
			if cause == "" {
				share.of.accepted += share.quantity
			} else {
				share.of.refuse(cause, said)
			}
		}
	}
	for i := range m.lines {
		m.lines[i].enter(e.account)
	}
	return nil
}

func (l *backLine) refuse(c Cause, said string) {
	if l.cause == "" {
		l.cause, l.said = c, said
	}
}

// enter enters the line in the account: as returned, as returned in part, or
// as refused if nothing of it was.
func (l *backLine) enter(a *account) {
	a.pieces(l.accepted, l.quantity-l.accepted)
	switch l.accepted {
	case l.quantity:
		a.accept(asReturn, 1)
	case 0:
		a.refuse(l.cause, 1, l.line, l.said)
	default:
		a.accept(asPartOfReturn, 1)
	}
}

// wantedReturn is all that one cancel invoice gives back of one order. The API
// takes each line of the order once.
type wantedReturn struct {
	order  []int // lines as they were met
	pieces map[int]int64
	shares []share
}

// share is how much of it belongs to which line of the file.
type share struct {
	of       *backLine
	quantity int64
}

func (w *wantedReturn) add(p part, of *backLine) {
	if w.pieces[p.line] == 0 {
		w.order = append(w.order, p.line)
	}
	w.pieces[p.line] += p.quantity
	w.shares = append(w.shares, share{of, p.quantity})
}

func (w *wantedReturn) lines() []returnedLine {
	var list []returnedLine
	for _, line := range w.order {
		list = append(list, returnedLine{Line: line, Quantity: w.pieces[line]})
	}
	return list
}

// giveBack asks for a return as soon as its order has ended. The cause says why
// it was not accepted.
func (e *engine) giveBack(ctx context.Context, o *watch, key string, body []byte) (Cause, string, error) {
	select {
	case <-o.ended:
	case <-ctx.Done():
		return "", "", ctx.Err()
	}
	cause, said := o.open()
	if cause == "" {
		a, err := e.client.do(ctx, request{
			method: http.MethodPost, path: "/v1/orders/" + url.PathEscape(o.id) + "/returns", key: key, body: body,
		})
		if err != nil {
			return "", "", err
		}
		if a.ok() {
			e.watcher.returned(o)
			e.account.returned("")
			return "", "", nil
		}
		cause, said = refusedBy("return", a.status), a.detail()
	}
	e.account.returned(cause)
	return cause, said, nil
}

// open says why nothing can be returned of an order that has ended; no cause if
// it can be tried.
func (o *watch) open() (Cause, string) {
	switch {
	case o.status == absent:
		return orderAbsent, ""
	case o.given:
		return orderDoesNotEnd, "its status is " + o.status
	case o.status == "cancelled":
		return orderCancelled, ""
	}
	return "", ""
}

// returning is a return that names its order.
type returning struct {
	line  int
	order string
	body  []byte
}

func (r *returning) run(ctx context.Context, e *engine, _ func()) error {
	o, known := e.watcher.add(r.order, false)
	if known == newOrder { // an order of an earlier file, or of none
		if err := e.watcher.follow(ctx, o, "", func() {}); err != nil {
			return err
		}
		if o.status == absent {
			e.watcher.forget(o.id)
		}
	}
	cause, said, err := e.giveBack(ctx, o, e.key(r.line), r.body)
	if err != nil {
		return err
	}
	if cause != "" {
		e.account.refuse(cause, 1, r.line, said)
		return nil
	}
	e.account.accept(asReturn, 1)
	return nil
}
