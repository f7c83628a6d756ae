package main_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante/shop"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
)

func TestOrderIsConfirmed(t *testing.T) {
	inShop(t, func(s *system) {
		s.stock("85123A", 10)
		s.stock("71053", 1)
		placed := must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody("o-1", "tok_ok", "GB"))
		if placed.OrderID != "o-1" || placed.Version != 1 || placed.Status != "created" || placed.Total != (shop.Money{Amount: orderTotal, Currency: "GBP"}) {
			t.Errorf("answer: %+v", placed)
		}
		o := s.await("o-1", "confirmed")
		if len(o.Lines) != 4 || o.Lines[2].Line != 3 || o.Lines[2].SKU != "85123A" || o.Lines[3].Kind != "charge" || o.Lines[0].Kind != "goods" {
			t.Errorf("lines: %+v", o.Lines)
		}
		var types []string
		for _, m := range o.Timeline {
			types = append(types, m.Type)
		}
		if types[0] != "shop.order_created" || !slices.Contains(types, "ordering.order_paid") || types[len(types)-1] != "shop.order_confirmed" {
			t.Errorf("timeline: %q", types)
		}
		s.wantLevel("85123A", 5, 0)
		s.wantLevel("71053", 0, 0)
		s.wantCharge("o-1", outside.Approved)
		s.wantBooking("o-1", true)
		s.wantMails("Your order o-1 is on its way")
	})
}

// TestOrderEnds plays each way an order can end, and compares what is left with
// the books of the parties outside.
func TestOrderEnds(t *testing.T) {
	tests := []struct {
		rule    string
		token   string
		country string
		stock   int // pieces of 85123A; an order wants 5
		status  string
		reason  string // part of the cancel reason
		charge  outside.ChargeState
	}{
		{"not enough stock: nothing is reserved and nothing charged", "tok_ok", "GB", 4, "cancelled", "out of stock", ""},
		{"declined: the stock is released", "tok_declined", "GB", 10, "cancelled", "card declined", outside.Declined},
		{"unknown token: declined", "tok_nobody", "GB", 10, "cancelled", "unknown payment token", outside.Declined},
		{"unavailable twice: tried again", "tok_flaky", "GB", 10, "confirmed", "", outside.Approved},
		{"slow: waited for", "tok_slow", "GB", 10, "confirmed", "", outside.Approved},
		{"reply lost: asked for by key, charged once", "tok_lost", "GB", 10, "confirmed", "", outside.Approved},
		{"never answered: given up, refused for ever", "tok_timeout", "GB", 10, "cancelled", "timeout", outside.Voided},
		{"charged after the deadline: refused for ever", "tok_late", "GB", 10, "cancelled", "timeout", outside.Voided},
		{"no carrier: refunded", "tok_ok", "ZZ", 10, "cancelled", "no carrier serves ZZ", outside.Refunded},
		{"silent carrier: called off and refunded", "tok_ok", "XS", 10, "cancelled", "timeout", outside.Refunded},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			inShop(t, func(s *system) {
				s.stock("85123A", tt.stock)
				s.stock("71053", 3)
				must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody("o-1", tt.token, tt.country))
				o := s.await("o-1", tt.status)
				if !strings.Contains(o.CancelReason, tt.reason) {
					t.Errorf("cancel reason %q, want it to say %q", o.CancelReason, tt.reason)
				}
				mail := "Your order o-1 is cancelled"
				if tt.status == "confirmed" {
					s.wantLevel("85123A", int64(tt.stock)-5, 0)
					s.wantLevel("71053", 2, 0)
					mail = "Your order o-1 is on its way"
				} else {
					s.wantLevel("85123A", int64(tt.stock), 0)
					s.wantLevel("71053", 3, 0)
				}
				s.wantBooking("o-1", tt.status == "confirmed")
				s.wantMails(mail)
				time.Sleep(time.Minute) // of the bubble's time: past everything that could still come
				s.wantCharge("o-1", tt.charge)
				if again := s.get("o-1"); again.Version != o.Version {
					t.Errorf("after its end the order went on from version %d to %d: %v", o.Version, again.Version, again.Timeline)
				}
			})
		})
	}
}

func TestOrderThatCostsNothingIsNotCharged(t *testing.T) {
	inShop(t, func(s *system) {
		s.stock("gift", 1)
		must[ordering.Placed](s, 201, "POST", "/v1/orders", `{"order_id":"free","customer_id":"1","currency":"EUR",
			"lines":[{"sku":"gift","quantity":1,"unit_price":0}],"payment":{"method":"card","token":"tok_declined"},"ship_to":{"country":"DE"}}`)
		s.await("free", "confirmed")
		s.wantLevel("gift", 0, 0)
		s.wantCharge("free", "")
		s.wantBooking("free", true)
	})
}

func TestOrderOfChargesIsNotShipped(t *testing.T) {
	inShop(t, func(s *system) {
		must[ordering.Placed](s, 201, "POST", "/v1/orders", `{"order_id":"fee","customer_id":"1","currency":"EUR",
			"lines":[{"sku":"fee","quantity":1,"unit_price":500,"kind":"charge"}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"ZZ"}}`)
		s.await("fee", "confirmed")
		s.wantCharge("fee", outside.Approved)
		s.wantBooking("fee", false)
		if status, _, body := s.call("GET", "/v1/inventory/fee", ""); status != 404 {
			t.Errorf("a charge has no stock: got %d %s, want 404", status, body)
		}
	})
}

func TestCancelInTheMiddle(t *testing.T) {
	inShop(t, func(s *system) {
		s.stock("85123A", 10)
		s.stock("71053", 1)
		must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody("o-1", "tok_slow", "GB"))
		s.await("o-1", "reserved") // and the charge is under way for two seconds
		first := must[ordering.Cancellation](s, 202, "POST", "/v1/orders/o-1/cancel", `{"reason":"changed my mind"}`)
		if first.Status != "cancelling" {
			t.Errorf("answer to the cancellation: %+v", first)
		}
		again := must[ordering.Cancellation](s, 200, "POST", "/v1/orders/o-1/cancel", "")
		if again != first {
			t.Errorf("cancelled again: got %+v, want the first answer %+v", again, first)
		}
		o := s.await("o-1", "cancelled")
		if o.CancelReason != "changed my mind" {
			t.Errorf("cancel reason %q", o.CancelReason)
		}
		s.wantLevel("85123A", 10, 0)
		s.wantMails("Your order o-1 is cancelled")
		time.Sleep(time.Minute) // of the bubble's time
		s.wantCharge("o-1", outside.Voided)
		must[ordering.Cancellation](s, 200, "POST", "/v1/orders/o-1/cancel", "")
	})
}

func TestCancelAfterShipping(t *testing.T) {
	inShop(t, func(s *system) {
		s.stock("85123A", 10)
		s.stock("71053", 1)
		must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody("o-1", "tok_ok", "GB"))
		s.await("o-1", "confirmed")
		if status, _, body := s.call("POST", "/v1/orders/o-1/cancel", "{}"); status != 409 {
			t.Errorf("cancel after shipping: got %d %s, want 409", status, body)
		}
		if status, _, body := s.call("POST", "/v1/orders/nobody/cancel", "{}"); status != 404 {
			t.Errorf("cancel of no order: got %d %s, want 404", status, body)
		}
	})
}

func TestSameOrderAgain(t *testing.T) {
	inShop(t, func(s *system) {
		body := orderBody("o-1", "tok_ok", "GB")
		post := func(body string, headers ...string) (int, http.Header, string) {
			return s.call("POST", "/v1/orders", body, headers...)
		}
		status, h, first := post(body)
		if status != 201 || h.Get("Location") != "/v1/orders/o-1" || h.Get("Courante-Token") == "" {
			t.Fatalf("first: %d %v %s", status, h, first)
		}
		s.await("o-1", "cancelled") // no stock: the order moves on, the answer stays
		for _, tt := range []struct {
			rule    string
			body    string
			headers []string
		}{
			{"same body", body, nil},
			{"same body, spaced otherwise", strings.ReplaceAll(body, ",", " ,\n"), nil},
			{"same body, with a key", body, []string{"Idempotency-Key", "k1"}},
			{"same body, same key", body, []string{"Idempotency-Key", "k1"}},
			{"same body, other key", body, []string{"Idempotency-Key", "k2"}},
		} {
			if status, _, got := post(tt.body, tt.headers...); status != 201 || got != first {
				t.Errorf("%s: got %d %s, want 201 %s", tt.rule, status, got, first)
			}
		}
		other := strings.Replace(body, `"quantity":4`, `"quantity":3`, 1)
		if status, _, got := post(other); status != 409 {
			t.Errorf("other body under the same id: got %d %s, want 409", status, got)
		}
		if status, _, got := post(other, "Idempotency-Key", "k1"); status != 422 {
			t.Errorf("other body under the same key: got %d %s, want 422", status, got)
		}

		anonymous := strings.Replace(body, `"order_id":"o-1",`, "", 1)
		a := must[ordering.Placed](s, 201, "POST", "/v1/orders", anonymous, "Idempotency-Key", "k3")
		b := must[ordering.Placed](s, 201, "POST", "/v1/orders", anonymous, "Idempotency-Key", "k3")
		c := must[ordering.Placed](s, 201, "POST", "/v1/orders", anonymous)
		if a != b || a.OrderID == c.OrderID || shop.CheckID(a.OrderID) != nil || shop.CheckID(c.OrderID) != nil {
			t.Errorf("orders without an id: %+v, the same key %+v, no key %+v", a, b, c)
		}
	})
}
