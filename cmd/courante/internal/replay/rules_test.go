package replay

import (
	"strings"
	"testing"

	"github.com/courante-dev/courante/shop"
)

func TestPrices(t *testing.T) {
	t.Parallel()
	tests := []struct {
		price string
		minor int64
		cause Cause
	}{
		{"2.55", 255, ""}, {"2.5", 250, ""}, {"18", 1800, ""}, {"0", 0, ""}, {"0.0", 0, ""}, {"38970", 3897000, ""},
		{"1.250", 125, ""}, {"-11062.06", -1106206, ""}, {"2.", 200, ""},
		{"0.001", 0, finePrice}, {"-0.001", 0, negativePrice},
		{"", 0, damagedNumber}, {".5", 0, damagedNumber}, {"-", 0, damagedNumber}, {"--1", 0, damagedNumber}, {"1e3", 0, damagedNumber},
		{"1,5", 0, damagedNumber}, {"1.2.3", 0, damagedNumber}, {"+1", 0, damagedNumber}, {"NaN", 0, damagedNumber}, {" 1", 0, damagedNumber},
		{"99999999999999999999.99", 0, largePrice},
	}
	for _, tt := range tests {
		if minor, cause := minorUnits(tt.price); minor != tt.minor || cause != tt.cause {
			t.Errorf("price %q: got %d %q, want %d %q", tt.price, minor, cause, tt.minor, tt.cause)
		}
	}
}

func TestGoodsAndCharges(t *testing.T) {
	t.Parallel()
	for _, sku := range []string{"71053", "85123A", "85123a", "15056BL", "15056bl"} {
		if !goods(sku) {
			t.Errorf("%s is no goods, want it to be", sku)
		}
	}
	// All 33 codes of the real file that are no goods.
	for sku := range strings.SplitSeq("POST,D,C2,DOT,M,m,BANK CHARGES,S,AMAZONFEE,DCGS0076,DCGS0003,gift_0001_40,DCGS0070,"+
		"gift_0001_50,gift_0001_30,gift_0001_20,DCGS0055,DCGS0072,DCGS0074,DCGS0069,DCGS0057,DCGSSBOY,DCGSSGIRL,gift_0001_10,"+
		"PADS,DCGS0004,DCGS0073,DCGS0071,DCGS0068,DCGS0067,DCGS0066P,B,CRUK,7105,71053-A,7105A3,71053A1", ",") {
		if goods(sku) {
			t.Errorf("%s is goods, want a charge", sku)
		}
	}
}

func TestCountriesHaveCodes(t *testing.T) {
	t.Parallel()
	for name, code := range countries {
		if err := shop.CheckCountry(code); err != nil || code == "ZZ" || code == "XS" {
			t.Errorf("%s is %s, which %v", name, code, err)
		}
	}
}

// TestLongInvoices splits nothing: what does not fit into one order is refused.
func TestLongInvoices(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := complete(t, newShop(t), config(written(t, head+strings.Repeat(goodLine, shop.MaxLines+3))))
		want(t, "accepted", r.Accepted, map[string]int{asOrder: shop.MaxLines})
		want(t, "refused", causesOf(r), map[Cause]int{tooManyLines: 3})
	})
}

// TestInvoicesApart: the lines of an invoice need not be together.
func TestInvoicesApart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShop(t)
		other := strings.ReplaceAll(goodLine, "536365", "536366")
		complete(t, s, config(written(t, head+goodLine+other+goodLine+other)))
		if len(s.orders) != 2 || len(s.order("536365").Lines) != 2 || len(s.order("536366").Lines) != 2 {
			t.Errorf("got %d orders %+v, want two of two lines", len(s.orders), s.orders)
		}
	})
}

// TestEveryCauseHasASentence is about those that are not the system's.
func TestEveryCauseHasASentence(t *testing.T) {
	t.Parallel()
	for c, says := range sentences {
		if c.Says() != says || says == "" {
			t.Errorf("%s: got %q, want %q", c, c.Says(), says)
		}
	}
	if got := refusedBy("order", 422).Says(); got != "the system refused the order: 422 unprocessable entity" {
		t.Errorf("got %q", got)
	}
}
