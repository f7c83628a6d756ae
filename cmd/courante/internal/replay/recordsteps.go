package replay

import "iter"

// recordSteps reads an NDJSON file again and makes a request of each record
// within the limit.
func (o *outline) recordSteps(src *source, limit int, a *account) iter.Seq2[step, error] {
	return func(yield func(step, error) bool) {
		n := 0
		for r, err := range readRecords(src) {
			if err != nil {
				yield(step{}, err)
				return
			}
			if n++; limit > 0 && n > limit {
				a.leaveBeyond()
				continue
			}
			if r.cause != "" {
				a.refuse(r.cause, 1, r.line, r.said)
				continue
			}
			if !yield(r.step(), nil) {
				return
			}
		}
	}
}

// step makes the request that a record stands for.
func (r *record) step() step {
	s := step{line: r.line, at: r.at}
	switch {
	case r.create != nil:
		s.order, s.id = true, r.create.OrderID
		if r.create.OrderID != "" {
			s.claims = append(s.claims, claim{key: orderKey(r.create.OrderID)})
		}
		s.claims = append(s.claims, claim{key: customerKey(r.create.CustomerID)})
		for _, l := range r.create.Lines {
			s.claims = append(s.claims, claim{key: skuKey(l.SKU), shared: true})
		}
		s.run = (&placing{line: r.line, order: r.create, body: r.body, account: map[string]int{asOrderRecord: 1}}).run
	case r.cancel != nil:
		s.claims = []claim{{key: orderKey(r.cancel.OrderID)}}
		body := struct {
			Reason string `json:"reason,omitempty"`
		}{r.cancel.Reason}
		s.run = (&cancelling{line: r.line, order: r.cancel.OrderID, body: encode(body)}).run
	case r.returns != nil:
		s.claims = []claim{{key: orderKey(r.returns.OrderID)}}
		s.run = (&returning{line: r.line, order: r.returns.OrderID, body: encode(returned{r.returns.Lines})}).run
	case r.receive != nil:
		body := struct {
			Quantity int64 `json:"quantity"`
		}{r.receive.Quantity}
		s.claims = []claim{{key: skuKey(r.receive.SKU)}}
		s.run = (&changing{line: r.line, sku: r.receive.SKU, what: "receipt", as: asReceipt, body: encode(body)}).run
	default:
		body := struct {
			Quantity int64  `json:"quantity"`
			Reason   string `json:"reason"`
		}{r.adjust.Quantity, r.adjust.Reason}
		s.claims = []claim{{key: skuKey(r.adjust.SKU)}}
		s.run = (&changing{line: r.line, sku: r.adjust.SKU, what: "adjustment", as: asAdjustment, body: encode(body)}).run
	}
	return s
}
