package inventory

import (
	"context"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop"
)

func TestInventory(t *testing.T) {
	t.Parallel()
	line := func(sku string, quantity int64) shop.Line {
		return shop.Line{SKU: sku, Quantity: quantity, Kind: shop.Goods}
	}
	order := func(id string, lines ...shop.Line) shop.OrderCreated {
		return shop.OrderCreated{OrderID: id, Lines: lines}
	}
	var (
		three     = order("17", line("a", 2), line("b", 1), line("a", 1)) // three of a, one of b
		fee       = order("17", shop.Line{SKU: "a", Quantity: 100, Kind: shop.Charge})
		cancelled = shop.ShippingCancelled{OrderID: "17"}
		arranged  = shop.ShippingArranged{OrderID: "17"}
		reserved  = shop.InventoryReserved{OrderID: "17"}
		released  = shop.InventoryReleased{OrderID: "17"}
		issued    = shop.InventoryIssued{OrderID: "17"}

		handed = func(id string, lines ...shop.ReturnedLine) shop.ReturnRequested {
			return shop.ReturnRequested{OrderID: "17", ReturnID: id, Lines: lines}
		}
		piece = func(sku string, n int64) shop.ReturnedLine {
			return shop.ReturnedLine{SKU: sku, Kind: shop.Goods, Quantity: n}
		}
		restocked = func(id string) shop.ReturnRestocked { return shop.ReturnRestocked{OrderID: "17", ReturnID: id} }
	)
	type events = []courante.Payload
	tests := []struct {
		rule  string
		a, b  int64 // on hand before
		given events
		when  courante.Payload
		then  events
		stock stock // of a, afterwards
	}{
		{"enough of all: reserved", 3, 1, nil, three, events{reserved}, stock{3, 3}},
		{"one piece short: nothing is reserved", 2, 1, nil, three,
			events{shop.InventoryRejected{OrderID: "17", Short: []shop.Short{{SKU: "a", Wanted: 3, Available: 2}}}}, stock{2, 0}},
		{"another SKU short: nothing is reserved", 9, 0, nil, three,
			events{shop.InventoryRejected{OrderID: "17", Short: []shop.Short{{SKU: "b", Wanted: 1, Available: 0}}}}, stock{9, 0}},
		{"what is reserved for another is not available", 5, 9, events{order("18", line("a", 3))}, three,
			events{shop.InventoryRejected{OrderID: "17", Short: []shop.Short{{SKU: "a", Wanted: 3, Available: 2}}}}, stock{5, 3}},
		{"charges come from no stock", 1, 0, nil, fee, events{reserved}, stock{1, 0}},
		{"the order twice: reserved once", 9, 9, events{three}, three, nil, stock{9, 3}},
		{"shipped: off both", 9, 9, events{three}, arranged, events{issued}, stock{6, 0}},
		{"shipped twice: once is enough", 9, 9, events{three, arranged}, arranged, nil, stock{6, 0}},
		{"cancelled: released", 9, 9, events{three}, cancelled, events{released}, stock{9, 0}},
		{"cancelled twice: once is enough", 9, 9, events{three, cancelled}, cancelled, nil, stock{9, 0}},
		{"cancelled with nothing reserved: said all the same", 2, 1, events{three}, cancelled, events{released}, stock{2, 0}},
		{"cancelled before the order came: said all the same", 9, 9, nil, cancelled, events{released}, stock{9, 0}},
		{"an order that comes after its end", 9, 9, events{cancelled}, three, nil, stock{9, 0}},
		{"returned: on hand again", 9, 9, events{three, arranged}, handed("r", piece("a", 1), piece("b", 1), piece("a", 1)), events{restocked("r")}, stock{8, 0}},
		{"returned, and some are reserved for another", 9, 9, events{three, arranged, order("18", line("a", 4))}, handed("r", piece("a", 3)), events{restocked("r")}, stock{9, 4}},
		{"the return twice: restocked once", 9, 9, events{three, arranged, handed("r", piece("a", 1))}, handed("r", piece("a", 1)), nil, stock{7, 0}},
		{"two returns: restocked twice", 9, 9, events{three, arranged, handed("r", piece("a", 1))}, handed("s", piece("a", 1)), events{restocked("s")}, stock{8, 0}},
		{"a charge returned: nothing is restocked", 9, 9, events{three, arranged}, handed("r", shop.ReturnedLine{SKU: "a", Kind: shop.Charge, Quantity: 5}), events{restocked("r")}, stock{6, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			c := New(Config{})
			given := []courantetest.Fact{
				courantetest.Stored(c.stocks.Key("a"), stock{OnHand: tt.a}),
				courantetest.Stored(c.stocks.Key("b"), stock{OnHand: tt.b}),
			}
			for _, e := range tt.given {
				given = append(given, courantetest.Heard("17", e))
			}
			courantetest.Given(t, c.Service(), given...).When(courantetest.Heard("17", tt.when)).Then(tt.then...)
			level, err := c.Level(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			if got := (stock{level.OnHand, level.Reserved}); got != tt.stock {
				t.Errorf("stock afterwards: %+v, want %+v", got, tt.stock)
			}
		})
	}
}

func TestStockCommands(t *testing.T) {
	t.Parallel()
	tests := []struct {
		rule     string
		before   *stock
		quantity int64
		adjust   bool
		then     courante.Payload
		code     string
	}{
		{"a receipt creates the SKU", nil, 5, false, shop.StockReceived{SKU: "a", Quantity: 5, OnHand: 5}, ""},
		{"a receipt adds", &stock{5, 2}, 5, false, shop.StockReceived{SKU: "a", Quantity: 5, OnHand: 10, Reserved: 2}, ""},
		{"a receipt of nothing", nil, 0, false, nil, "invalid"},
		{"a receipt of too much", nil, shop.MaxStockChange + 1, false, nil, "invalid"},
		{"more than can be counted", &stock{OnHand: shop.MaxStock}, 1, false, nil, "conflict"},
		{"an adjustment takes", &stock{5, 2}, -3, true, shop.StockAdjusted{SKU: "a", Quantity: -3, Reason: "count", OnHand: 2, Reserved: 2}, ""},
		{"an adjustment below what is reserved", &stock{5, 2}, -4, true, nil, "conflict"},
		{"an adjustment of what is not there", nil, 1, true, nil, "not_found"},
		{"an adjustment by nothing", &stock{5, 2}, 0, true, nil, "invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			c := New(Config{})
			var given []courantetest.Fact
			if tt.before != nil {
				given = append(given, courantetest.Stored(c.stocks.Key("a"), *tt.before))
			}
			s := courantetest.Given(t, c.Service(), given...).When(courantetest.Called(func(ctx context.Context) (err error) {
				if tt.adjust {
					_, err = c.Adjust(ctx, "", "a", tt.quantity, "count")
				} else {
					_, err = c.Receive(ctx, "", "a", tt.quantity)
				}
				return err
			}))
			if tt.code != "" {
				s.ThenRejected(tt.code)
			} else {
				s.Then(tt.then)
			}
		})
	}
}
