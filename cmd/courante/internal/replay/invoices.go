package replay

import (
	"iter"

	"github.com/courante-dev/courante/shop"
)

// currency of the file, and how its orders are paid: it has no payments.
const (
	pounds    = "GBP"
	method    = "card"
	goodToken = "tok_ok"
)

// invoice collects lines until the last one that the file has of it.
type invoice struct {
	first  int // its first line in the file
	buyer  string
	guest  bool
	orders []row
	back   []backLine
}

// add takes a line that was accepted so far.
func (in *invoice) add(r row) Cause {
	if in.buyer == "" {
		in.buyer, in.guest = r.buyer(), r.customer == ""
	}
	switch {
	case in.buyer != r.buyer():
		return otherCustomer
	case r.kind == returnLine:
		in.back = append(in.back, backLine{line: r.line, sku: r.sku, quantity: -r.quantity})
	case len(in.orders) == shop.MaxLines:
		return tooManyLines
	default:
		in.orders = append(in.orders, r)
	}
	return ""
}

// invoiceSteps reads the file again and makes a request of each invoice, when
// its last line is read, and of each adjustment. What is refused on the way is
// entered in the account.
func (o *outline) invoiceSteps(src *source, a *account) iter.Seq2[step, error] {
	return func(yield func(step, error) bool) {
		open := map[string]*invoice{}
		for r, err := range readRetail(src) {
			if err != nil {
				yield(step{}, err)
				return
			}
			if r.invoice == "" {
				a.refuse(r.cause, 1, r.line, "")
				continue
			}
			span, within := o.invoices[r.invoice]
			if !within {
				a.leaveBeyond()
				continue
			}
			in := open[r.invoice]
			if in == nil {
				in = &invoice{first: span.first}
				open[r.invoice] = in
			}
			if r.kind == adjustmentLine {
				if !yield(adjustmentStep(r), nil) {
					return
				}
			} else {
				if r.cause == "" {
					r.cause = in.add(r)
				}
				if r.cause != "" {
					a.refuse(r.cause, 1, r.line, "")
				}
			}
			if r.line < span.last {
				continue
			}
			delete(open, r.invoice)
			for _, s := range in.steps(r) {
				if !yield(s, nil) {
					return
				}
			}
		}
	}
}

// steps are what a complete invoice asks for: nothing, if all of its lines were
// refused. last is its last line, whose time counts.
func (in *invoice) steps(last row) []step {
	var list []step
	if len(in.orders) > 0 {
		list = append(list, in.orderStep(last))
	}
	if len(in.back) > 0 {
		m := &matching{line: in.first, customer: in.buyer, lines: in.back}
		list = append(list, step{line: in.first, at: last.at, claims: []claim{{key: customerKey(in.buyer)}}, run: m.run})
	}
	return list
}

func (in *invoice) orderStep(last row) step {
	body := &order{
		OrderID: last.invoice, CustomerID: in.buyer, Currency: pounds,
		Payment: payment{method, goodToken}, ShipTo: address{Country: countries[in.orders[0].country]},
	}
	p := &placing{line: in.first, order: body, account: map[string]int{}}
	s := step{line: in.first, at: last.at, order: true, id: last.invoice, run: p.run}
	if !in.guest {
		// A customer's orders are placed one after the other, so that "newest
		// first" is the same in every run.
		p.buyer = in.buyer
		s.claims = append(s.claims, claim{key: customerKey(in.buyer)})
	}
	for _, r := range in.orders {
		l := orderLine{SKU: r.sku, Description: r.description, Quantity: r.quantity, UnitPrice: r.minor, Kind: goodsKind}
		as := asOrder
		if r.kind == chargeLine {
			l.Kind, as = chargeKind, asCharge
		} else {
			s.claims = append(s.claims, claim{key: skuKey(r.sku), shared: true})
		}
		p.account[as]++
		body.Lines = append(body.Lines, l)
	}
	p.body = encode(body)
	return s
}

func adjustmentStep(r row) step {
	c := &changing{line: r.line, sku: r.sku, what: "adjustment", as: asAdjustment, body: encode(struct {
		Quantity int64  `json:"quantity"`
		Reason   string `json:"reason"`
	}{r.quantity, r.reason()})}
	return step{line: r.line, at: r.at, claims: []claim{{key: skuKey(r.sku)}}, run: c.run}
}
