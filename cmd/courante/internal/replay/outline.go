package replay

import "errors"

// outline is what the first reading of a file finds out. It holds something of
// each invoice and each SKU, nothing of the lines.
type outline struct {
	format   format
	hash     string           // of the text: the beginning of every idempotency key
	lines    int              // all that the file has
	within   int              // those that are sent, or refused on the way
	requests int              // invoices or records within the limit
	first    string           // the id of the first order, "" if none has one
	invoices map[string]span  // within the limit
	demand   map[string]int64 // pieces of each SKU that orders and write-offs take
}

// span is where an invoice begins and ends; its lines need not be together.
type span struct{ first, last int }

// errChanged is a file that somebody writes to.
var errChanged = errors.New("the file changed while it was read: copy it, and replay the copy")

// scan reads the whole file once, so that a file that is cut off is found out
// before anything is sent: half an order would be an order. limit is how many
// invoices or records count; 0 is all.
func (f *file) scan(limit int) (*outline, error) {
	src, err := f.open()
	if err != nil {
		return nil, err
	}
	defer src.close()
	o := &outline{invoices: map[string]span{}, demand: map[string]int64{}}
	if o.format, err = src.format(); err != nil {
		return nil, err
	}
	if o.format == ndjson {
		err = o.scanRecords(src, limit)
	} else {
		err = o.scanInvoices(src, limit)
	}
	if err != nil {
		return nil, err
	}
	o.hash = src.sum()
	return o, nil
}

func (o *outline) scanInvoices(src *source, limit int) error {
	for r, err := range readRetail(src) {
		if err != nil {
			return err
		}
		o.lines++
		if r.invoice == "" {
			o.within++
			continue
		}
		s, known := o.invoices[r.invoice]
		if !known {
			if limit > 0 && len(o.invoices) == limit {
				continue
			}
			s.first = r.line
		}
		o.within++
		s.last = r.line
		o.invoices[r.invoice] = s
		switch r.kind {
		case goodsLine:
			o.demand[r.sku] += r.quantity
			o.noteOrder(r.invoice)
		case adjustmentLine:
			o.demand[r.sku] -= r.quantity
		}
	}
	o.requests = len(o.invoices)
	return nil
}

func (o *outline) scanRecords(src *source, limit int) error {
	for rec, err := range readRecords(src) {
		if err != nil {
			return err
		}
		o.lines++
		if limit > 0 && o.requests == limit {
			continue
		}
		o.requests++
		o.within++
		if rec.create == nil {
			continue
		}
		o.noteOrder(rec.create.OrderID)
		for _, l := range rec.create.Lines {
			if l.Kind != chargeKind && l.SKU != "" && l.Quantity > 0 {
				o.demand[l.SKU] += l.Quantity
			}
		}
	}
	return nil
}

func (o *outline) noteOrder(id string) {
	if o.first == "" {
		o.first = id
	}
}
