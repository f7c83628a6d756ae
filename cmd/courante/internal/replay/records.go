package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode/utf8"
)

// Kinds of lines as the API calls them.
const (
	goodsKind  = "goods"
	chargeKind = "charge"
)

// order is the body of POST /v1/orders, as far as the replay looks at it or
// writes it.
type order struct {
	OrderID    string      `json:"order_id,omitempty"`
	CustomerID string      `json:"customer_id"`
	Currency   string      `json:"currency"`
	Lines      []orderLine `json:"lines"`
	Payment    payment     `json:"payment"`
	ShipTo     address     `json:"ship_to"`
}

type orderLine struct {
	SKU         string `json:"sku"`
	Description string `json:"description,omitempty"`
	Quantity    int64  `json:"quantity"`
	UnitPrice   int64  `json:"unit_price"`
	Kind        string `json:"kind,omitempty"`
}

type payment struct {
	Method string `json:"method"`
	Token  string `json:"token"`
}

type address struct {
	Country    string `json:"country"`
	Region     string `json:"region,omitempty"`
	City       string `json:"city,omitempty"`
	PostalCode string `json:"postal_code,omitempty"`
	Address    string `json:"address,omitempty"`
}

type returnedLine struct {
	SKU      string `json:"sku,omitempty"`
	Line     int    `json:"line,omitempty"`
	Quantity int64  `json:"quantity"`
}

// returned is the body of POST /v1/orders/{id}/returns.
type returned struct {
	Lines []returnedLine `json:"lines"`
}

// record is one line of an NDJSON file: exactly one of its five requests.
type record struct {
	line  int
	at    time.Time // zero if it has none
	cause Cause     // why it is none of them
	said  string    // where

	create  *order
	body    json.RawMessage // create as it is in the file
	cancel  *cancelRecord
	returns *returnRecord
	receive *receiveRecord
	adjust  *adjustRecord
}

type cancelRecord struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason,omitempty"`
}

type returnRecord struct {
	OrderID string         `json:"order_id"`
	Lines   []returnedLine `json:"lines"`
}

type receiveRecord struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

type adjustRecord struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
	Reason   string `json:"reason"`
}

// readRecords reads the lines of an NDJSON file; an empty one is no line. A
// line that is no record comes with its cause; an error ends the file.
func readRecords(src *source) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		lines := bufio.NewScanner(src.text)
		lines.Buffer(make([]byte, 0, readBuffer), maxRecord)
		n := 0
		for {
			src.meter.reset()
			if !lines.Scan() {
				break
			}
			n++
			text := bytes.TrimSpace(lines.Bytes())
			if len(text) == 0 {
				continue
			}
			if !yield(parseRecord(n, text), nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			if errors.Is(err, bufio.ErrTooLong) {
				err = errTooLong
			}
			yield(record{}, unreadable(n, err))
		}
	}
}

func parseRecord(line int, text []byte) record {
	r := record{line: line}
	damaged := func(format string, args ...any) record {
		return record{line: line, cause: damagedRecord, said: fmt.Sprintf(format, args...)}
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return record{line: line, cause: damagedText}
	}
	var wire struct {
		At      *time.Time      `json:"at"`
		Create  json.RawMessage `json:"create_order"`
		Cancel  *cancelRecord   `json:"cancel_order"`
		Returns *returnRecord   `json:"return_order"`
		Receive *receiveRecord  `json:"receive_stock"`
		Adjust  *adjustRecord   `json:"adjust_stock"`
	}
	if err := strictly(text, &wire); err != nil {
		return damaged("%v", err)
	}
	if len(wire.Create) > 0 && string(wire.Create) != "null" {
		r.body = wire.Create
		if err := strictly(r.body, &r.create); err != nil {
			return damaged("create_order: %v", err)
		}
	}
	r.cancel, r.returns, r.receive, r.adjust = wire.Cancel, wire.Returns, wire.Receive, wire.Adjust
	if wire.At != nil {
		r.at = *wire.At
	}
	requests, order, sku := 0, "-", "-"
	if r.create != nil {
		requests++ // its order_id may be left out
	}
	if r.cancel != nil {
		requests, order = requests+1, r.cancel.OrderID
	}
	if r.returns != nil {
		requests, order = requests+1, r.returns.OrderID
	}
	if r.receive != nil {
		requests, sku = requests+1, r.receive.SKU
	}
	if r.adjust != nil {
		requests, sku = requests+1, r.adjust.SKU
	}
	switch {
	case requests != 1:
		return damaged("%d requests on a line; want one of create_order, cancel_order, return_order, receive_stock, adjust_stock", requests)
	case order == "":
		return damaged("order_id is missing")
	case sku == "":
		return damaged("sku is missing")
	}
	return r
}

// strictly decodes one JSON value that has no names but those of v: a name that
// is passed over would be a wish that nobody hears.
func strictly(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}
