package main_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
	"github.com/courante-dev/courante/shop/ordering"
	"github.com/courante-dev/courante/shop/outside"
	"github.com/courante-dev/courante/shop/payment"
)

// confirmed places an order, whose lines orderBody describes, and waits for it.
func (s *system) confirmed(id string) {
	s.t.Helper()
	s.stock("85123A", 10)
	s.stock("71053", 1)
	must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody(id, "tok_ok", "GB"))
	s.await(id, "confirmed")
}

func (s *system) giveBack(id, lines string) ordering.ReturnAccepted {
	s.t.Helper()
	return must[ordering.ReturnAccepted](s, 202, "POST", "/v1/orders/"+id+"/returns", `{"lines":`+lines+`}`)
}

// wantKept compares what the provider has of an order, and what it gave back
// for each return, with what is expected.
func (s *system) wantKept(id string, kept int64, refunds map[string]int64) {
	s.t.Helper()
	charges, err := s.provider.Charges(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	c := charges[payment.ChargeKey(id)]
	want := map[string]int64{}
	for returnID, amount := range refunds {
		want[payment.RefundKey(id, returnID)] = amount
	}
	if c.Kept() != kept || fmt.Sprint(c.Refunds) != fmt.Sprint(want) {
		s.t.Errorf("the provider keeps %d and gave back %v, want %d and %v", c.Kept(), c.Refunds, kept, want)
	}
}

func returned(o ordering.Order) (pieces []int64) {
	for _, l := range o.Lines {
		pieces = append(pieces, l.ReturnedQuantity)
	}
	return pieces
}

func TestReturns(t *testing.T) {
	inShop(t, func(s *system) {
		s.confirmed("o-1")
		before := s.get("o-1")

		// Of a SKU the newest line comes first: line 3, then line 1.
		first := s.giveBack("o-1", `[{"sku":"85123A","quantity":2}]`)
		want := []shop.ReturnedLine{
			{Line: 1, SKU: "85123A", Kind: shop.Goods, Quantity: 1, UnitPrice: 255},
			{Line: 3, SKU: "85123A", Kind: shop.Goods, Quantity: 1, UnitPrice: 100},
		}
		if first.Refund != (shop.Money{Amount: 355, Currency: "GBP"}) || !slices.Equal(first.Lines, want) ||
			first.OrderID != "o-1" || first.Status != "confirmed" || first.Version != before.Version+1 {
			t.Errorf("answer: %+v", first)
		}
		o := must[ordering.Order](s, 200, "GET", "/v1/orders/o-1", "", "Courante-Token", first.Token.String())
		if got := returned(o); o.Status != "confirmed" || !slices.Equal(got, []int64{1, 0, 1, 0}) {
			t.Errorf("at once: %s, returned %v", o.Status, got)
		}
		time.Sleep(time.Second) // of the bubble's time
		s.wantLevel("85123A", 7, 0)
		s.wantKept("o-1", orderTotal-355, map[string]int64{first.ReturnID: 355})
		if o := s.get("o-1"); o.Status != "confirmed" {
			t.Errorf("a partial return: %s", o.Status)
		}

		second := s.giveBack("o-1", `[{"line":2,"quantity":1},{"line":1,"quantity":3}]`)
		s.await("o-1", "returned")
		s.wantLevel("85123A", 10, 0)
		s.wantLevel("71053", 1, 0)
		refunds := map[string]int64{first.ReturnID: 355, second.ReturnID: 3*255 + 339}
		s.wantKept("o-1", 51, refunds)

		// The postage may follow.
		third := s.giveBack("o-1", `[{"sku":"POST","quantity":1}]`)
		if third.Status != "returned" {
			t.Errorf("the order is %s when its postage is returned", third.Status)
		}
		time.Sleep(time.Second)
		refunds[third.ReturnID] = 51
		s.wantKept("o-1", 0, refunds)
		if o := s.await("o-1", "returned"); !slices.Equal(returned(o), []int64{4, 1, 1, 1}) {
			t.Errorf("in the end: returned %v", returned(o))
		}
		s.wantMails("Your order o-1 is on its way", "Your return of order o-1 is complete",
			"Your return of order o-1 is complete", "Your return of order o-1 is complete")
	})
}

func TestOnlyWhatIsThereCanBeReturned(t *testing.T) {
	inShop(t, func(s *system) {
		s.confirmed("o-1")
		s.giveBack("o-1", `[{"line":1,"quantity":3},{"line":3,"quantity":1}]`)
		s.stock("71053", 2)
		must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody("late", "tok_timeout", "GB"))
		must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody("poor", "tok_declined", "GB"))
		s.await("late", "reserved")
		s.await("poor", "cancelled")
		time.Sleep(time.Second) // of the bubble's time
		for _, tt := range []struct {
			rule, order, lines string
			status             int
			pointer            string
		}{
			{"before it is confirmed", "late", `[{"line":1,"quantity":1}]`, 409, ""},
			{"what is cancelled", "poor", `[{"line":1,"quantity":1}]`, 409, ""},
			{"an order that is not there", "nowhere", `[{"line":1,"quantity":1}]`, 404, ""},
			{"nothing", "o-1", `[]`, 422, "/lines"},
			{"no pieces", "o-1", `[{"line":1,"quantity":0}]`, 422, "/lines/0/quantity"},
			{"no quantity", "o-1", `[{"line":1}]`, 422, "/lines/0/quantity"},
			{"of nothing", "o-1", `[{"quantity":1}]`, 422, "/lines/0"},
			{"line and SKU", "o-1", `[{"line":1,"sku":"85123A","quantity":1}]`, 422, "/lines/0"},
			{"line 0", "o-1", `[{"line":0,"quantity":1}]`, 422, "/lines/0/line"},
			{"a line that is not there", "o-1", `[{"line":1,"quantity":1},{"line":5,"quantity":1}]`, 422, "/lines/1/line"},
			{"a SKU that is not there", "o-1", `[{"sku":"85123a","quantity":1}]`, 422, "/lines/0/sku"},
			{"more than was bought", "o-1", `[{"line":2,"quantity":2}]`, 422, "/lines/0/quantity"},
			{"more than is left", "o-1", `[{"line":1,"quantity":2}]`, 422, "/lines/0/quantity"},
			{"nothing is left", "o-1", `[{"line":3,"quantity":1}]`, 422, "/lines/0/quantity"},
			{"more than is left of all lines of the SKU", "o-1", `[{"sku":"85123A","quantity":2}]`, 422, "/lines/0/quantity"},
			{"more than is left, in two parts", "o-1", `[{"sku":"85123A","quantity":1},{"line":1,"quantity":1}]`, 422, "/lines/1/quantity"},
			{"far more than is left", "o-1", `[{"line":1,"quantity":9223372036854775807}]`, 422, "/lines/0/quantity"},
			{"a name that is not known", "o-1", `[{"line":2,"quantity":1,"reason":"too small"}]`, 422, "/lines/0/reason"},
		} {
			before := s.written()
			status, header, body := s.call("POST", "/v1/orders/"+tt.order+"/returns", `{"lines":`+tt.lines+`}`)
			var problem struct {
				Errors []struct{ Pointer string } `json:"errors"`
			}
			if err := json.Unmarshal([]byte(body), &problem); err != nil || !strings.HasPrefix(header.Get("Content-Type"), "application/problem+json") {
				t.Errorf("%s: no problem: %v, %s", tt.rule, err, body)
			}
			at := ""
			if len(problem.Errors) > 0 {
				at = problem.Errors[0].Pointer
			}
			if status != tt.status || at != tt.pointer {
				t.Errorf("%s: got %d at %q, want %d at %q: %s", tt.rule, status, at, tt.status, tt.pointer, body)
			}
			if after := s.written(); after != before {
				t.Errorf("%s: %d events were written", tt.rule, after-before)
			}
		}
	})
}

func TestTheSameReturnTwiceIsOne(t *testing.T) {
	inShop(t, func(s *system) {
		s.confirmed("o-1")
		post := func(body string) (int, string) {
			status, _, answer := s.call("POST", "/v1/orders/o-1/returns", body, "Idempotency-Key", "k")
			return status, answer
		}
		status, first := post(`{"lines":[{"line":1,"quantity":3}]}`)
		if status != 202 {
			t.Fatalf("got %d %s", status, first)
		}
		if status, again := post(`{ "lines": [{"quantity": 3, "line": 1}] }`); status != 202 || again != first {
			t.Errorf("the same again: got %d %s, want %s", status, again, first)
		}
		if status, other := post(`{"lines":[{"line":1,"quantity":1}]}`); status != 422 {
			t.Errorf("the key with another body: got %d %s", status, other)
		}
		if got := returned(s.get("o-1")); got[0] != 3 {
			t.Errorf("returned %v, want 3 of line 1", got)
		}
	})
}

func TestOfTwoReturnsOfTheSameOneIsTaken(t *testing.T) {
	inShop(t, func(s *system) {
		s.confirmed("o-1")
		statuses := make([]int, 10)
		var wg sync.WaitGroup
		for i := range statuses {
			wg.Go(func() {
				statuses[i], _, _ = s.call("POST", "/v1/orders/o-1/returns", `{"lines":[{"line":1,"quantity":4}]}`)
			})
		}
		wg.Wait()
		slices.Sort(statuses)
		if want := []int{202, 422, 422, 422, 422, 422, 422, 422, 422, 422}; !slices.Equal(statuses, want) {
			t.Errorf("ten returns of all of line 1: %v", statuses)
		}
		time.Sleep(time.Second) // of the bubble's time
		s.wantLevel("85123A", 9, 0)
	})
}

func TestAnOrderOfChargesIsNeverReturned(t *testing.T) {
	inShop(t, func(s *system) {
		must[ordering.Placed](s, 201, "POST", "/v1/orders", `{"order_id":"fee","customer_id":"1","currency":"EUR",
			"lines":[{"sku":"fee","quantity":2,"unit_price":700,"kind":"charge"}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"DE"}}`)
		s.await("fee", "confirmed")
		r := s.giveBack("fee", `[{"line":1,"quantity":2}]`)
		time.Sleep(time.Second) // of the bubble's time
		s.wantKept("fee", 0, map[string]int64{r.ReturnID: 1400})
		if o := s.get("fee"); o.Status != "confirmed" {
			t.Errorf("status %s, and there were no goods to come back", o.Status)
		}
	})
}

func TestWhatCostNothingIsReturnedWithoutTheProvider(t *testing.T) {
	inShop(t, func(s *system) {
		s.stock("gift", 1)
		must[ordering.Placed](s, 201, "POST", "/v1/orders", `{"order_id":"free","customer_id":"1","currency":"EUR",
			"lines":[{"sku":"gift","quantity":1,"unit_price":0}],"payment":{"method":"card","token":"tok_ok"},"ship_to":{"country":"DE"}}`)
		s.await("free", "confirmed")
		s.giveBack("free", `[{"sku":"gift","quantity":1}]`)
		s.await("free", "returned")
		s.wantLevel("gift", 1, 0)
		s.wantKept("free", 0, nil)
	})
}

// sagas says how the sagas stand that have to do with an order, or a return.
func (s *system) sagas(key string) []courante.SagaStatus {
	s.t.Helper()
	var services []*courante.Service
	for _, m := range s.mounts {
		services = append(services, m.Service)
	}
	graphs, err := courante.BuildSagas(services)
	if err != nil {
		s.t.Fatal(err)
	}
	sagas, err := courante.ReadSagas(s.t.Context(), graphs, s.mounts, key, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return sagas
}

func TestAReturnIsASagaOfItsOwn(t *testing.T) {
	inShop(t, func(s *system) {
		s.confirmed("o-1")
		first := s.giveBack("o-1", `[{"line":1,"quantity":1}]`)
		if got := s.sagas(first.ReturnID); len(got) != 1 || got[0].Saga != "return" || got[0].State != courante.SagaRunning {
			t.Errorf("at once: %+v, want a running return", got)
		}
		time.Sleep(time.Second) // of the bubble's time
		second := s.giveBack("o-1", `[{"line":1,"quantity":1}]`)
		time.Sleep(time.Second)
		got := s.sagas("o-1")
		var ids []string
		for _, saga := range got {
			ids = append(ids, saga.Saga+" "+saga.ID)
			if saga.State != courante.SagaCompleted || saga.Waiting != nil {
				t.Errorf("saga %s %s: %s, waits for %+v", saga.Saga, saga.ID, saga.State, saga.Waiting)
			}
		}
		if want := []string{"order o-1", "return " + first.ReturnID, "return " + second.ReturnID}; !slices.Equal(ids, want) {
			t.Fatalf("sagas of the order: %q, want %q", ids, want)
		}
		var steps []string
		for _, st := range got[1].Steps {
			steps = append(steps, st.Service+": "+st.Name)
		}
		for _, want := range []string{"ordering: request a return", "inventory: restock what is returned", "payment: refund what is returned",
			"payment: note that the return is refunded", "ordering: close the return", "notification: write that the return is complete"} {
			if !slices.Contains(steps, want) {
				t.Errorf("the return lacks %q: %q", want, steps)
			}
		}
		if got := s.sagas(second.ReturnID); len(got) != 1 || got[0].ID != second.ReturnID {
			t.Errorf("sagas of the return: %+v", got)
		}
	})
}

// A charge that was declined left nothing to undo.
func TestADeclinedChargeFailedAndIsNotUndone(t *testing.T) {
	inShop(t, func(s *system) {
		s.stock("85123A", 10)
		s.stock("71053", 1)
		must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody("o-1", "tok_declined", "GB"))
		s.await("o-1", "cancelled")
		states := map[string]string{}
		for _, st := range s.sagas("o-1")[0].Steps {
			states[st.Name] = st.State
		}
		for name, want := range map[string]string{
			"take the provider's answer": courante.StepFailed,
			"reserve stock":              courante.StepUndone,
		} {
			if states[name] != want {
				t.Errorf("%s: %s, want %s", name, states[name], want)
			}
		}
		charge := states["charge"] + states["charge, the order being the last to hear of"] // one of them asked
		if charge != courante.StepFailed {
			t.Errorf("the charge: %s, want %s", charge, courante.StepFailed)
		}
	})
}

func TestAReturnWaitsForTheProvider(t *testing.T) {
	inShop(t, func(s *system) {
		s.confirmed("o-1")
		s.down.Store(true)
		r := s.giveBack("o-1", `[{"line":1,"quantity":4},{"line":2,"quantity":1},{"line":3,"quantity":1}]`)
		time.Sleep(2 * time.Minute) // of the bubble's time
		s.wantLevel("85123A", 10, 0)
		if o := s.get("o-1"); o.Status != "confirmed" {
			t.Errorf("%s, and the refund is not answered", o.Status)
		}
		if got := s.sagas(r.ReturnID); got[0].State != courante.SagaStuck || !strings.Contains(got[0].Cause, "effect refund of payment has not answered") {
			t.Errorf("the saga is %s: %s, want it listed as stuck, with the cause", got[0].State, got[0].Cause)
		}
		s.down.Store(false)
		s.await("o-1", "returned")
		s.wantKept("o-1", 51, map[string]int64{r.ReturnID: orderTotal - 51})
		if got := s.sagas(r.ReturnID); got[0].State != courante.SagaCompleted {
			t.Errorf("the saga is %s: %s, want completed", got[0].State, got[0].Cause)
		}
	})
}

// An order is cancelled when its money is back, and not before.
func TestACancellationWaitsForTheProvider(t *testing.T) {
	inShop(t, func(s *system) {
		s.stock("85123A", 10)
		s.stock("71053", 1)
		s.down.Store(true)
		must[ordering.Placed](s, 201, "POST", "/v1/orders", orderBody("o-1", "tok_ok", "ZZ"))
		s.await("o-1", "cancelling")
		time.Sleep(2 * time.Minute) // of the bubble's time: all deadlines are over
		if o := s.get("o-1"); o.Status != "cancelling" {
			t.Errorf("%s, and the provider has not given back the money", o.Status)
		}
		s.wantCharge("o-1", outside.Approved)
		s.down.Store(false)
		s.await("o-1", "cancelled")
		s.wantCharge("o-1", outside.Refunded)
		s.wantLevel("85123A", 10, 0)
	})
}
