package replay

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const story = `{"at":"2026-01-02T10:00:00Z","receive_stock":{"sku":"tea","quantity":10}}

{"at":"2026-01-02T10:00:01Z","create_order":{"order_id":"a","customer_id":"me","currency":"GBP","lines":[{"sku":"tea","quantity":2,"unit_price":450}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB"}}}
{"return_order":{"order_id":"a","lines":[{"line":1,"quantity":1}]}}
{"return_order":{"order_id":"a","lines":[{"line":1,"quantity":2}]}}
{"create_order":{"order_id":"b","customer_id":"me","currency":"GBP","lines":[{"sku":"tea","quantity":9,"unit_price":450}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB"}}}
{"return_order":{"order_id":"b","lines":[{"line":1,"quantity":1}]}}
{"create_order":{"order_id":"c","customer_id":"me","currency":"GBP","lines":[{"sku":"tea","quantity":1,"unit_price":450}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB"}}}
{"cancel_order":{"order_id":"c"}}
{"cancel_order":{"order_id":"nobody's"}}
{"return_order":{"order_id":"nobody","lines":[{"sku":"tea","quantity":1}]}}
{"adjust_stock":{"sku":"tea","quantity":-3,"reason":"a leak"}}
{"adjust_stock":{"sku":"coffee","quantity":-3,"reason":"a leak"}}
{"create_order":{"customer_id":"me","currency":"GBP","lines":[{"sku":"ink","quantity":1,"unit_price":1,"kind":"charge"}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB"}}}
`

// TestRecords tells a story in which each record needs what came before it.
func TestRecords(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		r := complete(t, s, config(written(t, story)))
		want(t, "accepted", r.Accepted, map[string]int{asReceipt: 1, asOrderRecord: 4, asReturn: 1, asCancel: 1, asAdjustment: 1})
		want(t, "refused", causesOf(r), map[Cause]int{
			"return_422": 1, orderCancelled: 1, "cancellation_404": 1, orderAbsent: 1, "adjustment_404": 1,
		})
		want(t, "orders", r.Orders.ByStatus, map[string]int{"confirmed": 2, "cancelled": 2})
		if r.Lines != 13 || r.Checks != "ok" || r.Stocked != 0 {
			t.Errorf("got %d lines, checks %q, %d SKUs received; want 13, ok, 0", r.Lines, r.Checks, r.Stocked)
		}
		done := len(s.sent)
		complete(t, s, config(written(t, story)))
		if len(s.sent) != done {
			t.Errorf("again: it did %q", s.sent[done:])
		}
	})
}

// TestOrderTwice counts a record that places the same order again as merged,
// and one that asks for another under its id as refused.
func TestOrderTwice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		order := `{"create_order":{"order_id":"a","customer_id":"me","currency":"GBP","lines":[{"sku":"p","quantity":1,"unit_price":1,"kind":"charge"}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB"}}}`
		r := complete(t, s, config(written(t, order+"\n"+order+"\n"+strings.Replace(order, `"me"`, `"you"`, 1))))
		want(t, "accepted", r.Accepted, map[string]int{asOrderRecord: 1})
		want(t, "refused", causesOf(r), map[Cause]int{"order_409": 1})
		if r.Merged != 1 || r.Checks != "ok" || r.Orders.Placed != 1 || r.Orders.Refused != 1 {
			t.Errorf("got %d merged, checks %q, %d orders placed, %d refused; want 1, ok, 1, 1", r.Merged, r.Checks, r.Orders.Placed, r.Orders.Refused)
		}
	})
}

// TestReturnBeforeItsOrder is refused, and the order that comes later is not.
func TestReturnBeforeItsOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lines := strings.Split(strings.TrimSpace(story), "\n")
		r := complete(t, newShop(t), config(written(t, lines[0]+"\n"+lines[3]+"\n"+lines[2])))
		want(t, "refused", causesOf(r), map[Cause]int{orderAbsent: 1})
		want(t, "orders", r.Orders.ByStatus, map[string]int{"confirmed": 1})
	})
}

// TestRecordsOfAnotherFile returns what was ordered before this file.
func TestRecordsOfAnotherFile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		complete(t, s, config(sample))
		r := complete(t, s, config(written(t, `{"return_order":{"order_id":"536370","lines":[{"line":1,"quantity":10}]}}`)))
		want(t, "accepted", r.Accepted, map[string]int{asReturn: 1})
		if got := s.order("536370").status; got != "returned" {
			t.Errorf("got status %s, want returned", got)
		}
		if r.Orders.Placed != 0 {
			t.Errorf("got %d orders placed, want none", r.Orders.Placed)
		}
	})
}

// TestDamagedRecords are refused with what is wrong.
func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule, line string
		cause      Cause
		says       string
	}{
		{"an unknown name", `{"receive_stock":{"sku":"a","quantity":1,"colour":"red"}}`, damagedRecord, `unknown field "colour"`},
		{"an unknown name in an order", `{"create_order":{"order_id":"a","colour":"red"}}`, damagedRecord, `create_order: unknown field "colour"`},
		{"an unknown request", `{"paint":{}}`, damagedRecord, `unknown field "paint"`},
		{"no request", `{"at":"2026-01-02T10:00:00Z"}`, damagedRecord, "0 requests"},
		{"two requests", `{"cancel_order":{"order_id":"a"},"receive_stock":{"sku":"a","quantity":1}}`, damagedRecord, "2 requests"},
		{"no order", `{"cancel_order":{}}`, damagedRecord, "order_id is missing"},
		{"no SKU", `{"receive_stock":{"quantity":1}}`, damagedRecord, "sku is missing"},
		{"a time that is none", `{"at":"yesterday","cancel_order":{"order_id":"a"}}`, damagedRecord, "yesterday"},
		{"a quantity that is none", `{"receive_stock":{"sku":"a","quantity":1.5}}`, damagedRecord, "number 1.5"},
		{"cut off", `{"receive_stock":{"sku":"a"`, damagedRecord, "unexpected EOF"},
		{"two values", `{"cancel_order":{"order_id":"a"}} {}`, damagedRecord, "more than one"},
		{"not UTF-8", "{\"cancel_order\":{\"order_id\":\"\xff\"}}", damagedText, ""},
		{"a NUL", "{\"cancel_order\":\x00}", damagedText, ""},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			good := `{"receive_stock":{"sku":"tea","quantity":10}}`
			r := complete(t, s, config(written(t, good+"\n"+tt.line+"\n"+good)))
			if len(r.Refused) != 1 || r.Refused[0].Cause != tt.cause || r.Refused[0].First != 2 || !strings.Contains(r.Refused[0].Example, tt.says) {
				t.Errorf("got %+v, want line 2 refused as %s: %s", r.Refused, tt.cause, tt.says)
			}
			if r.Accepted[asReceipt] != 2 || !strings.Contains(r.Checks, "the first is line 2") {
				t.Errorf("got %v and checks %q, want the other two and a word about line 2", r.Accepted, r.Checks)
			}
		})
	}
}

// TestStockWaitsForOrders: what is received after an order comes after it.
func TestStockWaitsForOrders(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		refused := 0
		s.before = func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/v1/orders" && refused < 3 {
				refused++
				return busy("5"), nil
			}
			return nil, nil
		}
		complete(t, s, config(written(t, `{"create_order":{"order_id":"a","customer_id":"me","currency":"GBP","lines":[{"sku":"tea","quantity":2,"unit_price":450},{"sku":"milk","quantity":2,"unit_price":450}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"GB"}}}
{"receive_stock":{"sku":"tea","quantity":10}}
{"receive_stock":{"sku":"ink","quantity":10}}
`)))
		paths := make([]string, 0, 3)
		for _, text := range s.sent {
			path, _, _ := strings.Cut(text, " ")
			paths = append(paths, path)
		}
		if got := []string{"/v1/inventory/ink/receipts", "/v1/orders", "/v1/inventory/tea/receipts"}; !slices.Equal(paths, got) {
			t.Errorf("got %q, want %q", paths, got)
		}
	})
}

// TestRecordTimes keeps to the times of those records that have one.
func TestRecordTimes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cfg := config(written(t, `{"at":"2026-01-02T10:00:00Z","receive_stock":{"sku":"tea","quantity":1}}
{"receive_stock":{"sku":"ink","quantity":1}}
{"at":"2026-01-02T11:00:00+01:00","receive_stock":{"sku":"pen","quantity":1}}
{"at":"2026-01-02T10:10:00Z","receive_stock":{"sku":"cup","quantity":1}}
`))
		cfg.Speed = 10
		begun := time.Now()
		complete(t, newShop(t), cfg)
		if took := time.Since(begun); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("10 minutes at 10x took %s, want one", took)
		}
	})
}
