package replay

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs a test in which time passes at once.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

func config(file string) Config {
	return Config{File: file, URL: "http://shop", Concurrency: 8, Patience: 2 * time.Minute}
}

// written is a file with the text.
func written(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// complete replays a file to its end.
func complete(t *testing.T, s *theShop, cfg Config) *Report {
	t.Helper()
	r, err := run(t.Context(), cfg, s.client())
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	if !r.Complete || r.NotReached != 0 {
		t.Errorf("got complete %v with %d lines not reached, want all of it", r.Complete, r.NotReached)
	}
	return r
}

func causesOf(r *Report) map[Cause]int {
	m := map[Cause]int{}
	for _, refused := range r.Refused {
		m[refused.Cause] = refused.Lines
	}
	return m
}

func want[K comparable, V comparable](t *testing.T, what string, got, want map[K]V) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

const sample = "testdata/retail.csv"

// TestEveryRule replays a sample that has a line for each rule.
func TestEveryRule(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		r := complete(t, s, config(sample))
		want(t, "accepted", r.Accepted, map[string]int{asOrder: 8, asCharge: 1, asReturn: 2, asPartOfReturn: 1, asAdjustment: 2})
		want(t, "refused", causesOf(r), map[Cause]int{
			zeroQuantity: 1, negativePrice: 1, finePrice: 1, otherCustomer: 1, badDebt: 2, unknownCountry: 1, alreadyReturned: 1,
			neverBought: 1, chargeReturned: 1, positiveReturn: 1, guestReturn: 1, negativeCharge: 1, badInvoice: 1,
			largeQuantity: 1, largePrice: 1, badSKU: 1, badCustomer: 1,
		})
		want(t, "orders", r.Orders.ByStatus, map[string]int{"confirmed": 4, "returned": 1})
		if r.Lines != 32 || r.Checks != "ok" || r.Orders.Placed != 5 || r.Returns.Accepted != 3 || r.Stocked != 6 {
			t.Errorf("got %d lines, checks %q, %d orders, %d returns, %d SKUs received; want 32, ok, 5, 3, 6",
				r.Lines, r.Checks, r.Orders.Placed, r.Returns.Accepted, r.Stocked)
		}
		if r.Returns.Pieces != 16 || r.Returns.NotPieces != 5 {
			t.Errorf("got %d pieces back and %d not, want 16 and 5", r.Returns.Pieces, r.Returns.NotPieces)
		}
		if got := r.CreatedToConfirmed; got != (Latency{N: 5, P50: 250, P95: 250, P99: 250}) {
			t.Errorf("created to confirmed: got %+v, want 250 ms of 5", got)
		}
	})
}

// TestOrdersAsSent looks at what the shop got.
func TestOrdersAsSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		complete(t, s, config(sample))
		sent := func(prefix string) []string {
			var list []string
			for _, text := range s.sent {
				if strings.HasPrefix(text, prefix) {
					list = append(list, strings.TrimPrefix(text, prefix+" "))
				}
			}
			slices.Sort(list)
			return list
		}
		tests := []struct {
			rule string
			path string
			want []string
		}{
			{"each line of a return names the order's line, the newest first", "/v1/orders/536365/returns",
				[]string{`{"lines":[{"line":1,"quantity":4}]}`, `{"lines":[{"line":3,"quantity":6},{"line":1,"quantity":2}]}`}},
			{"a return may spread over several orders", "/v1/orders/536368/returns", []string{`{"lines":[{"line":1,"quantity":4}]}`}},
			{"a write-off without a reason gets one", "/v1/inventory/22111/adjustments", []string{`{"quantity":-5,"reason":"no reason given"}`}},
			{"a write-off has its description as reason", "/v1/inventory/71053/adjustments", []string{`{"quantity":-2,"reason":"damages"}`}},
			{"stock is received for orders and write-offs", "/v1/inventory/71053/receipts", []string{`{"quantity":5}`}},
			{"a SKU in other letters is another SKU", "/v1/inventory/85123a/receipts", []string{`{"quantity":1}`}},
		}
		for _, tt := range tests {
			if got := sent(tt.path); !slices.Equal(got, tt.want) {
				t.Errorf("%s: got %q, want %q", tt.rule, got, tt.want)
			}
		}
		o := s.order("536365")
		if o.CustomerID != "17850" || o.Currency != "GBP" || o.ShipTo.Country != "GB" || o.Payment != (payment{"card", "tok_ok"}) {
			t.Errorf("got %+v", o.order)
		}
		wantLine := orderLine{SKU: "POST", Description: "POSTAGE", Quantity: 1, UnitPrice: 1800, Kind: "charge"}
		if len(o.Lines) != 4 || o.Lines[3] != wantLine {
			t.Errorf("got lines %+v, want 4 of which the last is %+v", o.Lines, wantLine)
		}
		if got := s.order("536366").CustomerID; got != "guest-536366" {
			t.Errorf("an order without a customer: got %q, want a guest of the invoice", got)
		}
		if got := s.order("536368").ShipTo.Country; got != "IE" {
			t.Errorf("got country %q of EIRE, want IE", got)
		}
		if s.orders["536374"] != nil {
			t.Error("an invoice without any line left was sent")
		}
	})
}

// TestAgain wants a second run to change nothing and to say the same.
func TestAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		first := complete(t, s, config(sample))
		done := len(s.sent)
		second := complete(t, s, config(sample))
		if len(s.sent) != done {
			t.Errorf("the second run did %d things more: %q", len(s.sent)-done, s.sent[done:])
		}
		want(t, "accepted", second.Accepted, first.Accepted)
		want(t, "refused", causesOf(second), causesOf(first))
		want(t, "orders", second.Orders.ByStatus, first.Orders.ByStatus)
	})
}

// TestInterrupted stops a replay after each number of requests, and goes on: in
// the end the shop has what it has without.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	stopped := 0
	for ended := false; !ended; {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t)
			ctx, stop := context.WithCancel(t.Context())
			s.after = func(*http.Request) (*http.Response, error) {
				if s.calls == stopped+1 {
					stop()
				}
				return nil, nil
			}
			r, err := run(ctx, config(sample), s.client())
			if ended = err == nil; ended {
				return
			}
			stopped++
			if !Interrupted(err) || r == nil || r.Complete || r.Checks != "not complete" {
				t.Fatalf("stopped after %d requests: got error %v and report %+v, want an interrupted one", stopped, err, r)
			}
			s.after = nil
			r = complete(t, s, config(sample))
			if r.Orders.Placed != 5 || r.Returns.Accepted != 3 || r.Accepted[asAdjustment] != 2 || len(s.orders) != 5 || s.stock["85123A"] != 16 {
				t.Errorf("stopped after %d requests and run again: got %+v with stock %v", stopped, r, s.stock)
			}
		})
	}
	if stopped < 20 { // 6 receipts, 5 orders looked at twice, 3 returns, 2 adjustments
		t.Errorf("a replay was stopped after %d requests at most, want all of its 20 and more", stopped)
	}
}

// TestTroubleOnTheWay cuts connections before and after a request was done, and
// asks for pauses.
func TestTroubleOnTheWay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		s.before = func(*http.Request) (*http.Response, error) {
			switch s.calls % 5 {
			case 1:
				return nil, errCut
			case 2:
				return busy("1"), nil
			}
			return nil, nil
		}
		s.after = func(*http.Request) (*http.Response, error) {
			if s.calls%5 == 3 {
				return nil, errCut // done, and nobody knows
			}
			return nil, nil
		}
		r := complete(t, s, config(sample))
		if r.Checks != "ok" || r.Orders.Placed != 5 || r.Returns.Accepted != 3 || r.Repeated == 0 || s.stock["85123A"] != 16 {
			t.Errorf("got %+v with stock %v", r, s.stock)
		}
	})
}

func busy(retryAfter string) *http.Response {
	return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {retryAfter}}, Body: http.NoBody}
}

// TestPatience keeps on for as long as it was told, and then says what to do.
func TestPatience(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		s.before = func(*http.Request) (*http.Response, error) { return nil, errCut }
		begun := time.Now()
		r, err := run(t.Context(), config(sample), s.client())
		var gaveUp *GaveUpError
		if !errors.As(err, &gaveUp) || !errors.Is(err, errCut) {
			t.Fatalf("got error %v, want to give up for the connection", err)
		}
		if took := time.Since(begun); took < 2*time.Minute || took > 2*time.Minute+5*time.Second {
			t.Errorf("gave up after %s, want two minutes", took)
		}
		if r.NotReached != 32 || r.Complete {
			t.Errorf("got %d lines not reached, complete %v; want 32, not complete", r.NotReached, r.Complete)
		}
	})
}

// TestRetryAfterIsHonoured waits as long as it is asked to.
func TestRetryAfterIsHonoured(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		var last time.Time
		s.before = func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/v1/orders" || !last.IsZero() && time.Since(last) >= 7*time.Second {
				return nil, nil
			}
			if !last.IsZero() {
				t.Errorf("asked again after %s, want 7s", time.Since(last))
			}
			last = time.Now()
			return busy("7"), nil
		}
		cfg := config(sample)
		cfg.Limit, cfg.Concurrency = 1, 1
		complete(t, s, cfg)
		if last.IsZero() {
			t.Error("no order was asked to wait")
		}
	})
}

// TestTooLittleStock counts what a cancelled order takes with it.
func TestTooLittleStock(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		cfg := config(sample)
		none := int64(0)
		cfg.Stock = &none
		r := complete(t, s, cfg)
		causes := causesOf(r)
		if causes[orderCancelled] != 2 || causes[alreadyReturned] != 2 || causes["adjustment_404"] != 2 {
			t.Errorf("got %v, want 2 lines for cancelled orders, 2 of more than was bought, and 2 adjustments of unknown stock", causes)
		}
		want(t, "orders", r.Orders.ByStatus, map[string]int{"cancelled": 5})
		if r.Checks != "ok" {
			t.Errorf("got checks %q", r.Checks)
		}
	})
}

// TestLimit leaves later invoices alone and accounts for them.
func TestLimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		cfg := config(sample)
		cfg.Limit = 3
		r := complete(t, s, cfg)
		if r.BeyondLimit != 26 || len(s.orders) != 2 || r.Returns.Accepted != 1 || r.Checks != "ok" {
			t.Errorf("got %d lines behind the limit, %d orders, %d returns, checks %q; want 26, 2, 1, ok",
				r.BeyondLimit, len(s.orders), r.Returns.Accepted, r.Checks)
		}
		// The rest later: what was done is known by the same keys.
		r = complete(t, s, config(sample))
		if len(s.orders) != 5 || r.Returns.Accepted != 3 {
			t.Errorf("then all of it: got %d orders, %d returns; want 5, 3", len(s.orders), r.Returns.Accepted)
		}
	})
}

// TestStuckOrder lets one order never end: the others do, and its return is
// counted.
func TestStuckOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		s.before = func(r *http.Request) (*http.Response, error) {
			if o := s.orders["536365"]; o != nil && r.Method == http.MethodGet {
				o.looks = 1
			}
			return nil, nil
		}
		r := complete(t, s, config(sample))
		if !slices.Equal(r.Orders.NotEnded, []string{"536365"}) || !strings.Contains(r.Checks, "536365") {
			t.Errorf("got not ended %v and checks %q, want 536365 in both", r.Orders.NotEnded, r.Checks)
		}
		if got := causesOf(r)[orderDoesNotEnd]; got != 1 {
			t.Errorf("got %d lines for an order that does not end, want 1", got)
		}
		if r.Orders.ByStatus["confirmed"] != 3 || r.Orders.ByStatus["paid"] != 1 || r.Orders.ByStatus["returned"] != 1 {
			t.Errorf("got %v, want the others at their ends", r.Orders.ByStatus)
		}
	})
}

// TestPaceGoesOn does not pace again what an earlier run has done.
func TestPaceGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		cfg := config(sample)
		cfg.Speed, cfg.Limit = 1, 4
		complete(t, s, cfg) // up to 9:10, in 42 minutes
		cfg.Limit = 0
		begun := time.Now()
		complete(t, s, cfg)
		if took := time.Since(begun); took < 34*time.Minute || took > 35*time.Minute {
			t.Errorf("going on at 9:33 until 10:07 took %s, want 34 minutes and not again what was before", took)
		}
	})
}

// TestPace sends at the times of the file, and at a rate.
func TestPace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cfg := config(sample)
		cfg.Speed = 60 // an hour and 42 minutes of the file
		begun := time.Now()
		complete(t, newShop(t), cfg)
		if took := time.Since(begun); took < 100*time.Second || took > 105*time.Second {
			t.Errorf("60 times faster than 1:42 h took %s", took)
		}
		cfg.Speed, cfg.Rate = 0, 0.5
		begun = time.Now()
		complete(t, newShop(t), cfg)
		if took := time.Since(begun); took < 16*time.Second || took > 20*time.Second {
			t.Errorf("9 requests, one in two seconds, took %s", took)
		}
	})
}
