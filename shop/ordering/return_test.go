package ordering

import (
	"context"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop"
)

// Two lines of a, one of b, and a charge: 5 pieces of goods.
var purchased = []OrderLine{
	{SKU: "a", Quantity: 2, UnitPrice: 100},
	{SKU: "b", Quantity: 1, UnitPrice: 30},
	{SKU: "a", Quantity: 2, UnitPrice: 80},
	{SKU: "post", Quantity: 1, UnitPrice: 5, Kind: shop.Charge},
}

// givesBack is a return of order 17 with that idempotency key.
func givesBack(c *Context, key string, lines ...ReturnLine) courantetest.Fact {
	return courantetest.Called(func(ctx context.Context) error {
		_, err := c.Return(ctx, key, "17", &ReturnOrder{Lines: lines})
		return err
	})
}

func TestReturns(t *testing.T) {
	t.Parallel()
	var (
		gbp      = func(n int64) shop.Money { return shop.Money{Amount: n, Currency: "GBP"} }
		of       = func(line int, quantity int64) ReturnLine { return ReturnLine{Line: line, Quantity: quantity} }
		sku      = func(sku string, quantity int64) ReturnLine { return ReturnLine{SKU: sku, Quantity: quantity} }
		all      = []ReturnLine{of(1, 2), of(2, 1), of(3, 2)}
		returned = func(line int, quantity int64) shop.ReturnedLine {
			l := purchased[line-1]
			kind := shop.Goods
			if l.Kind != "" {
				kind = l.Kind
			}
			return shop.ReturnedLine{Line: line, SKU: l.SKU, Kind: kind, Quantity: quantity, UnitPrice: l.UnitPrice}
		}
		requested = func(key string, refund, left int64, lines ...shop.ReturnedLine) shop.ReturnRequested {
			return shop.ReturnRequested{OrderID: "17", ReturnID: idFrom(key), CustomerID: "1", Lines: lines, Refund: gbp(refund), GoodsLeft: left}
		}
		opened = func(refund int64, lines ...ReturnLine) returnOpened {
			hash := (&ReturnOrder{Lines: lines}).hash("17")
			return returnOpened{"17", "1", gbp(refund), hex.EncodeToString(hash[:16])}
		}
		back      = func(key string) courante.Payload { return shop.ReturnRestocked{OrderID: "17", ReturnID: idFrom(key)} }
		paid      = func(key string) courante.Payload { return shop.ReturnRefunded{OrderID: "17", ReturnID: idFrom(key)} }
		completed = func(key string, refund int64) shop.ReturnCompleted {
			return shop.ReturnCompleted{OrderID: "17", ReturnID: idFrom(key), CustomerID: "1", Refund: gbp(refund)}
		}
		closed = func(key string) returnClosed { return returnClosed{idFrom(key)} }
		over   = shop.OrderReturned{OrderID: "17"}
	)
	type does = func(c *Context) courantetest.Fact
	type events = []courante.Payload
	back17 := func(key string, lines ...ReturnLine) does {
		return func(c *Context) courantetest.Fact { return givesBack(c, key, lines...) }
	}
	hears := func(e courante.Payload) does {
		return func(*Context) courantetest.Fact { return courantetest.Heard("r", e) }
	}
	tests := []struct {
		rule   string
		given  []does // after the order was confirmed
		when   does
		then   events
		code   string // of a rejection
		status string
	}{
		{"a line by its number", nil, back17("x", of(1, 1)), events{requested("x", 100, 4, returned(1, 1)), opened(100, of(1, 1))}, "", Confirmed},
		{"of a SKU the newest line first", nil, back17("x", sku("a", 3)), events{requested("x", 260, 2, returned(1, 1), returned(3, 2)), opened(260, sku("a", 3))}, "", Confirmed},
		{"what is left of a SKU", []does{back17("x", sku("a", 3))}, back17("y", sku("a", 1)),
			events{requested("y", 100, 1, returned(1, 1)), opened(100, sku("a", 1))}, "", Confirmed},
		{"the same line twice is one", nil, back17("x", of(1, 1), sku("a", 3)), events{requested("x", 360, 1, returned(1, 2), returned(3, 2)), opened(360, of(1, 1), sku("a", 3))}, "", Confirmed},
		{"a charge leaves the goods", nil, back17("x", of(4, 1)), events{requested("x", 5, 5, returned(4, 1)), opened(5, of(4, 1))}, "", Confirmed},
		{"more than was bought", nil, back17("x", of(1, 3)), nil, "invalid", Confirmed},
		{"more than is left", []does{back17("x", of(1, 1))}, back17("y", of(1, 2)), nil, "invalid", Confirmed},
		{"neither line nor SKU", nil, back17("x", ReturnLine{Quantity: 1}), nil, "invalid", Confirmed},
		{"the key with another return", []does{back17("x", of(1, 1))}, back17("x", of(1, 2)), nil, "key_reused", Confirmed},
		{"the key with the same return: once is enough", []does{back17("x", of(1, 1))}, back17("x", of(1, 1)), nil, "", Confirmed},

		{"restocked: the money is waited for", []does{back17("x", all...)}, hears(back("x")), events{goodsBack{}}, "", Confirmed},
		{"refunded: the goods are waited for", []does{back17("x", all...)}, hears(paid("x")), events{moneyBack{}}, "", Confirmed},
		{"both, of some goods: complete", []does{back17("x", of(1, 1)), hears(back("x"))}, hears(paid("x")),
			events{completed("x", 100), closed("x")}, "", Confirmed},
		{"the other way round", []does{back17("x", of(1, 1)), hears(paid("x"))}, hears(back("x")),
			events{completed("x", 100), closed("x")}, "", Confirmed},
		{"both, of all goods: the order is returned", []does{back17("x", all...), hears(back("x"))}, hears(paid("x")),
			events{completed("x", 390), closed("x"), over}, "", Returned},
		{"all goods in two returns, one is under way: not yet", []does{back17("x", of(1, 2), of(2, 1)), back17("y", of(3, 2)), hears(back("y"))}, hears(paid("y")),
			events{completed("y", 160), closed("y")}, "", Confirmed},
		{"all goods in two returns, both complete", []does{back17("x", of(1, 2), of(2, 1)), back17("y", of(3, 2)), hears(back("y")), hears(paid("y")), hears(back("x"))}, hears(paid("x")),
			events{completed("x", 230), closed("x"), over}, "", Returned},
		{"a charge under way is waited for, too", []does{back17("x", all...), back17("y", of(4, 1)), hears(back("x"))}, hears(paid("x")),
			events{completed("x", 390), closed("x")}, "", Confirmed},
		{"restocked twice: noted once", []does{back17("x", all...), hears(back("x"))}, hears(back("x")), nil, "", Confirmed},
		{"refunded twice: ended once", []does{back17("x", all...), hears(back("x")), hears(paid("x"))}, hears(paid("x")), nil, "", Returned},
		{"a charge of a returned order", []does{back17("x", all...), hears(back("x")), hears(paid("x"))}, back17("y", of(4, 1)),
			events{requested("y", 5, 0, returned(4, 1)), opened(5, of(4, 1))}, "", Returned},
		{"a returned order is returned once", []does{back17("x", all...), hears(back("x")), hears(paid("x")), back17("y", of(4, 1)), hears(back("y"))}, hears(paid("y")),
			events{completed("y", 5), closed("y")}, "", Returned},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			c := New(Config{})
			given := append(confirmed(c), givenBy(c, tt.given)...)
			s := courantetest.Given(t, c.Service(), given...).When(tt.when(c))
			if tt.code != "" {
				s.ThenRejected(tt.code)
			} else {
				s.Then(tt.then...)
			}
			if o, err := c.Order(t.Context(), "17"); err != nil || o.Status != tt.status {
				t.Errorf("status %s, %v, want %s", o.Status, err, tt.status)
			}
		})
	}
}

func givenBy(c *Context, facts []func(*Context) courantetest.Fact) (given []courantetest.Fact) {
	for _, f := range facts {
		given = append(given, f(c))
	}
	return given
}

// confirmed is order 17 until it is confirmed.
func confirmed(c *Context) []courantetest.Fact {
	return []courantetest.Fact{
		courantetest.Called(func(ctx context.Context) error {
			_, err := c.Place(ctx, "", &PlaceOrder{
				OrderID: "17", CustomerID: "1", Currency: "GBP", Payment: PaymentBy{"card", "t"}, ShipTo: ShipTo{Country: "GB"}, Lines: purchased,
			})
			return err
		}),
		courantetest.Heard("17", shop.ShippingArranged{OrderID: "17"}),
		courantetest.Heard("17", shop.InventoryIssued{OrderID: "17"}),
	}
}

func TestAReturnNeedsAConfirmedOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rule  string
		given int // how much of confirmed
		code  string
	}{
		{"an order that is not there", 0, "not_found"},
		{"an order under way", 1, "conflict"},
		{"a shipped order", 2, "conflict"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			c := New(Config{})
			courantetest.Given(t, c.Service(), confirmed(c)[:tt.given]...).
				When(givesBack(c, "", ReturnLine{Line: 1, Quantity: 1})).ThenRejected(tt.code)
		})
	}
}

// The answer recorded for a key is dropped after some days; the return itself
// is not, and it is found by the key.
func TestAReturnIsFoundAfterItsAnswerIsForgotten(t *testing.T) {
	t.Parallel()
	c := New(Config{})
	request := &ReturnOrder{Lines: []ReturnLine{{Line: 1, Quantity: 1}}}
	var first, again ReturnAccepted
	s := courantetest.Given(t, c.Service(), append(confirmed(c), courantetest.Called(func(ctx context.Context) (err error) {
		first, err = c.Return(ctx, "k", "17", request)
		return err
	}))...)
	s.When(courantetest.Called(func(ctx context.Context) (err error) {
		again, err = c.returned(ctx, "17", idFrom("k"))
		return err
	})).Then()
	if first.Token.Xid == 0 || first.Token != again.Token || !slices.Equal(first.Lines, again.Lines) ||
		first.Version != again.Version || first.Refund != again.Refund || first.Status != again.Status || first.ReturnID != again.ReturnID {
		t.Errorf("the answer is %+v, and was %+v", again, first)
	}
}
