package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/gateway"
	"github.com/courante-dev/courante/shop/inventory"
	"github.com/courante-dev/courante/shop/ordering"
)

// written counts the events of all logs.
func (s *system) written() int {
	s.t.Helper()
	if _, err := s.db.Tick(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, log := range []string{"ordering", "inventory", "payment", "shipping", "notification"} {
		events, _, err := s.db.Store(log).ReadLog(s.t.Context(), courante.Cursor{}, 10_000)
		if err != nil {
			s.t.Fatal(err)
		}
		n += len(events)
	}
	return n
}

func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	good := orderBody("o-1", "tok_ok", "GB")
	with := func(old, now string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the order has no %s", old)
		}
		return strings.Replace(good, old, now, 1)
	}
	line := `{"sku":"a","quantity":1,"unit_price":1}`
	tests := []struct {
		rule, path, body string
		status           int
		pointer          string // of one of the errors, "" for none
	}{
		{"empty body", "/v1/orders", "", 400, ""},
		{"cut off", "/v1/orders", good[:len(good)-10], 400, ""},
		{"no JSON", "/v1/orders", "order, please", 400, ""},
		{"two values", "/v1/orders", good + good, 400, ""},
		{"garbage behind", "/v1/orders", good + "x", 400, ""},
		{"name twice", "/v1/orders", with(`"currency":"GBP"`, `"currency":"GBP","currency":"EUR"`), 400, ""},
		{"name twice, written otherwise", "/v1/orders", with(`"currency":"GBP"`, `"currency":"GBP","\u0063urrency":"EUR"`), 400, ""},
		{"broken UTF-8", "/v1/orders", with("London", "Lond\xffn"), 400, ""},
		{"half a surrogate pair", "/v1/orders", with("London", `Lond\ud83dn`), 400, ""},
		{"NUL", "/v1/orders", with("London", `Lond\u0000n`), 400, ""},
		{"nested without end", "/v1/orders", strings.Repeat("[", 100_000), 400, ""},
		{"null", "/v1/orders", "null", 422, ""},
		{"an array", "/v1/orders", "[" + good + "]", 422, ""},
		{"unknown field", "/v1/orders", with(`"customer_id"`, `"discount":1,"customer_id"`), 422, "/discount"},
		{"unknown field in a line", "/v1/orders", with(`"sku":"85123A"`, `"sku":"85123A","color":"red"`), 422, "/lines/0/color"},
		{"other case", "/v1/orders", with(`"customer_id"`, `"Customer_ID"`), 422, "/Customer_ID"},
		{"missing field", "/v1/orders", with(`"customer_id":"17850",`, ""), 422, "/customer_id"},
		{"bad order id", "/v1/orders", with(`"o-1"`, `"-o"`), 422, "/order_id"},
		{"long order id", "/v1/orders", with(`"o-1"`, `"`+strings.Repeat("o", 65)+`"`), 422, "/order_id"},
		{"no currency", "/v1/orders", with(`"GBP"`, `"XYZ"`), 422, "/currency"},
		{"currency in lower case", "/v1/orders", with(`"GBP"`, `"gbp"`), 422, "/currency"},
		{"no country", "/v1/orders", with(`"country":"GB"`, `"country":"QQ"`), 422, "/ship_to/country"},
		{"no lines", "/v1/orders", strings.Replace(good, good[strings.Index(good, "["):strings.Index(good, "]")+1], "[]", 1), 422, "/lines"},
		{"too many lines", "/v1/orders", strings.Replace(good, "[", "["+strings.Repeat(line+",", 2000), 1), 422, "/lines"},
		{"quantity 0", "/v1/orders", with(`"quantity":4`, `"quantity":0`), 422, "/lines/0/quantity"},
		{"negative quantity", "/v1/orders", with(`"quantity":4`, `"quantity":-4`), 422, "/lines/0/quantity"},
		{"quantity too large", "/v1/orders", with(`"quantity":4`, `"quantity":1000001`), 422, "/lines/0/quantity"},
		{"part of a piece", "/v1/orders", with(`"quantity":4`, `"quantity":4.5`), 422, "/lines/0/quantity"},
		{"quantity as text", "/v1/orders", with(`"quantity":4`, `"quantity":"4"`), 422, "/lines/0/quantity"},
		{"quantity that is no number of ours", "/v1/orders", with(`"quantity":4`, `"quantity":1e400`), 422, "/lines/0/quantity"},
		{"negative price", "/v1/orders", with(`"unit_price":255`, `"unit_price":-1`), 422, "/lines/0/unit_price"},
		{"price too large", "/v1/orders", with(`"unit_price":255`, `"unit_price":1000000000001`), 422, "/lines/0/unit_price"},
		{"total too large", "/v1/orders", with(`"quantity":4,"unit_price":255`, `"quantity":1000000,"unit_price":1000000000000`), 422, "/lines"},
		{"empty SKU", "/v1/orders", with(`"sku":"71053"`, `"sku":""`), 422, "/lines/1/sku"},
		{"SKU of 65 bytes", "/v1/orders", with(`"sku":"71053"`, `"sku":"`+strings.Repeat("ä", 32)+`x"`), 422, "/lines/1/sku"},
		{"SKU with a line end", "/v1/orders", with(`"sku":"71053"`, `"sku":"7\n"`), 422, "/lines/1/sku"},
		{"unknown kind", "/v1/orders", with(`"kind":"charge"`, `"kind":"gift"`), 422, "/lines/3/kind"},
		{"no payment token", "/v1/orders", with(`"tok_ok"`, `""`), 422, "/payment/token"},
		{"unknown field in a cancellation", "/v1/orders/o-1/cancel", `{"why":"so"}`, 422, "/why"},
		{"cancellation of what cannot be an id", "/v1/orders/%00/cancel", `{}`, 422, ""},
		{"receipt of nothing", "/v1/inventory/a/receipts", `{"quantity":0}`, 422, "/quantity"},
		{"receipt without a quantity", "/v1/inventory/a/receipts", `{}`, 422, "/quantity"},
		{"SKU with a control character", "/v1/inventory/a%01/receipts", `{"quantity":1}`, 422, ""},
		{"SKU that is no UTF-8", "/v1/inventory/%ff/receipts", `{"quantity":1}`, 422, ""},
		{"adjustment by 0", "/v1/inventory/a/adjustments", `{"quantity":0,"reason":"count"}`, 422, "/quantity"},
		{"adjustment of an unknown SKU", "/v1/inventory/a/adjustments", `{"quantity":1,"reason":"count"}`, 404, ""},
		{"too large", "/v1/orders", with("London", strings.Repeat("x", 1<<20)), 413, ""},
		{"no such path", "/v1/nothing", `{}`, 404, ""},
		{"no such method", "/healthz", `{}`, 405, ""},
	}
	inShop(t, func(s *system) {
		for _, tt := range tests {
			status, h, body := s.call("POST", tt.path, tt.body)
			checkProblem(t, tt.rule, tt.status, status, h.Get("Content-Type"), body, tt.pointer)
		}
		for _, tt := range []struct {
			rule, method, path, body string
			headers                  []string
			status                   int
		}{
			{"another type", "POST", "/v1/orders", good, []string{"Content-Type", "text/plain"}, 415},
			{"an idempotency key that cannot be kept", "POST", "/v1/orders", good, []string{"Idempotency-Key", "a b\x80"}, 422},
			{"no order", "GET", "/v1/orders/nobody", "", nil, 404},
			{"no SKU", "GET", "/v1/inventory/nothing", "", nil, 404},
			{"a token that is none", "GET", "/v1/orders/o-1", "", []string{"Courante-Token", "gibberish"}, 400},
			{"a wait that is none", "GET", "/v1/orders/o-1", "", []string{"Courante-Wait", "soon"}, 422},
			{"a wait too long", "GET", "/v1/orders/o-1", "", []string{"Courante-Wait", "30001"}, 422},
			{"a wait below 0", "GET", "/v1/orders/o-1", "", []string{"Courante-Wait", "-1"}, 422},
		} {
			status, h, body := s.call(tt.method, tt.path, tt.body, tt.headers...)
			checkProblem(t, tt.rule, tt.status, status, h.Get("Content-Type"), body, "")
		}
		time.Sleep(time.Minute) // of the bubble's time: let follow what would
		if n := s.written(); n != 0 {
			t.Errorf("%d events were written", n)
		}
		must[ordering.Placed](s, 201, "POST", "/v1/orders", good) // and it is good
		if n := s.written(); n == 0 {
			t.Error("the good order was not written: the count above proves nothing")
		}
	})
}

func checkProblem(t *testing.T, rule string, want, status int, contentType, body, pointer string) {
	t.Helper()
	var p gateway.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || contentType != "application/problem+json" {
		t.Errorf("%s: got %d %s %.200s (%v), want a problem", rule, status, contentType, body, err)
		return
	}
	if status != want || p.Status != want || p.Title == "" || p.Detail == "" {
		t.Errorf("%s: got %d %.300s, want %d", rule, status, body, want)
	}
	found := pointer == ""
	places := map[string]bool{}
	for _, f := range p.Errors {
		found = found || f.Pointer == pointer
		if f.Detail == "" || f.Pointer != "" && places[f.Pointer] {
			t.Errorf("%s: an error says nothing, or a place is named twice: %.300s", rule, body)
		}
		places[f.Pointer] = true
	}
	if !found {
		t.Errorf("%s: got %.300s, want an error at %s", rule, body, pointer)
	}
}

func TestInventoryOverHTTP(t *testing.T) {
	inShop(t, func(s *system) {
		for _, sku := range []string{"85123A", "a/b", "..", "ÄPFEL 5%", "�", "a:b", "#?&"} {
			path := "/v1/inventory/" + strings.ReplaceAll(url.PathEscape(sku), ".", "%2E")
			first := must[inventory.Changed](s, 201, "POST", path+"/receipts", `{"quantity":5}`, "Idempotency-Key", "k")
			again := must[inventory.Changed](s, 201, "POST", path+"/receipts", `{"quantity":5}`, "Idempotency-Key", "k")
			if first != again || first.SKU != sku || first.OnHand != 5 {
				t.Errorf("receipt of %q: got %+v, with the same key %+v", sku, first, again)
			}
			if status, _, body := s.call("POST", path+"/receipts", `{"quantity":6}`, "Idempotency-Key", "k"); status != 422 {
				t.Errorf("%q: same key, other body: got %d %s, want 422", sku, status, body)
			}
			must[inventory.Changed](s, 201, "POST", path+"/adjustments", `{"quantity":-2,"reason":"broken"}`, "Idempotency-Key", "k")
			if status, _, body := s.call("POST", path+"/adjustments", `{"quantity":-4,"reason":"broken"}`); status != 409 {
				t.Errorf("%q: below nothing: got %d %s, want 409", sku, status, body)
			}
			got := must[inventory.Level](s, 200, "GET", path, "", "Courante-Token", first.Token.String())
			if want := (inventory.Level{SKU: sku, OnHand: 3, Available: 3}); got != want {
				t.Errorf("level of %q: got %+v, want %+v", sku, got, want)
			}
		}
	})
}

// TestTokenOfAnotherContext: a reader with the token of a receipt sees an order
// at least as fresh; a token of a lost epoch is told so.
func TestTokenOfAnotherContext(t *testing.T) {
	inShop(t, func(s *system) {
		must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody("o-1", "tok_ok", "GB"))
		receipt := must[inventory.Changed](s, 201, "POST", "/v1/inventory/a/receipts", `{"quantity":5}`)
		must[ordering.Order](s, 200, "GET", "/v1/orders/o-1", "", "Courante-Token", receipt.Token.String())
		lost := receipt.Token
		lost.Epoch += 7
		if status, _, body := s.call("GET", "/v1/orders/o-1", "", "Courante-Token", lost.String()); status != 409 {
			t.Errorf("token of another epoch: got %d %s, want 409", status, body)
		}
		future := receipt.Token
		future.Xid += 1_000_000
		start := time.Now()
		if status, _, body := s.call("GET", "/v1/orders/o-1", "", "Courante-Token", future.String(), "Courante-Wait", "2500"); status != 409 {
			t.Errorf("token of what is not there: got %d %s, want 409", status, body)
		}
		if waited := time.Since(start); waited != 2500*time.Millisecond {
			t.Errorf("it waited %s, want 2.5 s", waited)
		}
	})
}

func TestAnOrderOfTheGreatestSize(t *testing.T) {
	inShop(t, func(s *system) {
		var lines []string
		for i := range 2000 {
			lines = append(lines, fmt.Sprintf(`{"sku":"s%d","quantity":2,"unit_price":3}`, i%500))
		}
		for i := range 500 {
			s.stock(fmt.Sprintf("s%d", i), 8)
		}
		must[ordering.Placed](s, 201, "POST", "/v1/orders", `{"order_id":"big","customer_id":"1","currency":"JPY","lines":[`+
			strings.Join(lines, ",")+`],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"JP"}}`)
		if o := s.await("big", "confirmed"); len(o.Lines) != 2000 || o.Total.Amount != 12000 {
			t.Errorf("got %d lines over %s", len(o.Lines), o.Total)
		}
		s.wantLevel("s0", 0, 0)
	})
}

// FuzzPostOrder: whatever comes in, the answer is an order within the limits
// or a problem that is the caller's.
func FuzzPostOrder(f *testing.F) {
	f.Add([]byte(orderBody("o-1", "tok_ok", "GB")))
	f.Add([]byte(`{"order_id":"a","customer_id":"1","currency":"EUR","lines":[{"sku":"\ud83d\ude00","quantity":1e3,"unit_price":0}],"payment":{"method":"m","token":"t"},"ship_to":{"country":"ZZ"}}`))
	f.Add([]byte(`{"lines":[{}]}`))
	f.Add([]byte(`{"":0,"":1}`))
	gw, err := gateway.New(gateway.Config{Title: "t", Version: "v"})
	if err != nil {
		f.Fatal(err)
	}
	ordering.New(ordering.Config{}).Routes(gw.API())
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/v1/orders", strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		gw.ServeHTTP(w, r)
		switch w.Code {
		case 400, 413, 422:
			checkProblem(t, "refused", w.Code, w.Code, w.Header().Get("Content-Type"), w.Body.String(), "")
		case 500: // it was accepted, and there is no runtime behind it
			p, err := readOrder(body)
			if err != nil {
				t.Fatalf("accepted what is no order: %v", err)
			}
			if found := p.Problems(); len(found) > 0 {
				t.Fatalf("accepted an order with problems: %v", found)
			}
		default:
			t.Fatalf("status %d for %q", w.Code, body)
		}
	})
}

// readOrder reads an order as encoding/json does, but with whole numbers in any
// spelling.
func readOrder(body []byte) (p ordering.PlaceOrder, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return p, err
	}
	if body, err = json.Marshal(plain(v)); err != nil {
		return p, err
	}
	err = json.Unmarshal(body, &p)
	return p, err
}

func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = plain(v[name])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case json.Number:
		if n, ok := new(big.Rat).SetString(v.String()); ok && n.IsInt() {
			return json.Number(n.Num().String())
		}
	}
	return v
}
