package ordering

import (
	"context"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop"
)

func TestOrdering(t *testing.T) {
	t.Parallel()
	var (
		gbp       = func(n int64) shop.Money { return shop.Money{Amount: n, Currency: "GBP"} }
		created   = shop.OrderCreated{OrderID: "17", CustomerID: "1", Total: gbp(500)}
		reserved  = shop.InventoryReserved{OrderID: "17"}
		rejected  = shop.InventoryRejected{OrderID: "17"}
		released  = shop.InventoryReleased{OrderID: "17"}
		issued    = shop.InventoryIssued{OrderID: "17"}
		processed = shop.PaymentProcessed{OrderID: "17", Amount: gbp(500)}
		declined  = shop.PaymentDeclined{OrderID: "17", Reason: "no money"}
		settled   = shop.PaymentSettled{OrderID: "17", Refunded: gbp(500)}
		arranged  = shop.ShippingArranged{OrderID: "17", Tracking: "CR1"}
		failed    = shop.ShippingFailed{OrderID: "17", Reason: "timeout"}

		turned = func(reason string) shop.OrderCancelling { return shop.OrderCancelling{OrderID: "17", Reason: reason} }
		ended  = func(reason string, refunded int64) shop.OrderCancelled {
			return shop.OrderCancelled{OrderID: "17", CustomerID: "1", Total: gbp(500), Refunded: gbp(refunded), Reason: reason}
		}
		confirmed = shop.OrderConfirmed{OrderID: "17", CustomerID: "1", Total: gbp(500), Tracking: "CR1"}
		noMoney   = turned("payment declined: no money")
	)
	type events = []courante.Payload
	tests := []struct {
		rule   string
		given  events           // after the order was placed
		when   courante.Payload // nil: a minute passes
		then   events
		status string
	}{
		{"reserved", nil, reserved, events{orderReserved{}}, Reserved},
		{"paid", events{reserved}, processed, events{orderPaid{}}, Paid},
		{"paid, and the reservation comes later: still paid", events{processed}, reserved, events{orderReserved{}}, Paid},
		{"reserved twice: noted once", events{reserved}, reserved, nil, Reserved},
		{"out of stock: ended at once", nil, rejected, events{ended("out of stock", 0)}, Cancelled},
		{"out of stock while cancelling: that way ends it", events{declined}, rejected, nil, Cancelling},
		{"declined", events{reserved}, declined, events{noMoney}, Cancelling},
		{"no carrier", events{reserved, processed}, failed, events{turned("cannot be shipped: timeout")}, Cancelling},
		{"one reason to cancel is enough", events{declined}, failed, nil, Cancelling},
		{"shipped", events{reserved, processed}, arranged, events{orderShipped{"CR1"}}, Shipped},
		{"shipped and off the stock: confirmed", events{arranged}, issued, events{confirmed}, Confirmed},
		{"the other way round: confirmed", events{issued}, arranged, events{orderShipped{"CR1"}, confirmed}, Confirmed},
		{"off the stock twice: confirmed once", events{arranged, issued}, issued, nil, Confirmed},
		{"shipped twice: confirmed once", events{issued, arranged}, arranged, nil, Confirmed},
		{"shipped while somebody cancelled: it goes on", events{failed}, arranged, events{orderShipped{"CR1"}}, Shipped},
		{"released: the money is waited for", events{declined}, released, events{goodsReleased{}}, Cancelling},
		{"settled: the stock is waited for", events{declined}, settled, events{paymentSettled{gbp(500)}}, Cancelling},
		{"released and settled: ended", events{declined, released}, settled, events{paymentSettled{gbp(500)}, ended(noMoney.Reason, 500)}, Cancelled},
		{"settled and released: ended", events{declined, settled}, released, events{ended(noMoney.Reason, 500)}, Cancelled},
		{"released twice: ended once", events{declined, settled, released}, released, nil, Cancelled},
		{"settled twice: ended once", events{declined, released, settled}, settled, nil, Cancelled},
		{"after its end nothing is noted", events{rejected}, processed, nil, Cancelled},
		{"not shipped in time", events{reserved, processed}, nil, events{turned("not shipped in time")}, Cancelling},
		{"confirmed in time: the deadline is gone", events{arranged, issued}, nil, nil, Confirmed},
		{"ended in time: the deadline is gone", events{rejected}, nil, nil, Cancelled},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			c := New(Config{})
			given := []courantetest.Fact{courantetest.Called(func(ctx context.Context) error {
				_, err := c.Place(ctx, "", &PlaceOrder{
					OrderID: "17", CustomerID: "1", Currency: "GBP", Payment: PaymentBy{"card", "t"}, ShipTo: ShipTo{Country: "GB"},
					Lines: []OrderLine{{SKU: "a", Quantity: 5, UnitPrice: 100}},
				})
				return err
			})}
			for _, e := range tt.given {
				given = append(given, courantetest.Heard("17", e))
			}
			when := courantetest.Passed(time.Minute)
			if tt.when != nil {
				when = courantetest.Heard("17", tt.when)
			}
			courantetest.Given(t, c.Service(), given...).When(when).Then(tt.then...)
			o, err := c.Order(t.Context(), "17")
			if err != nil {
				t.Fatal(err)
			}
			if o.Status != tt.status {
				t.Errorf("status %s, want %s", o.Status, tt.status)
			}
			if o.CustomerID != created.CustomerID || o.Total != created.Total || len(o.Lines) != 1 {
				t.Errorf("the order became another one: %+v", o)
			}
		})
	}
}
