package shipping

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop"
)

// carrier is a carrier that answers as a test says.
type carrier struct {
	refused string
	err     error // of Book
	known   bool  // Lookup knows the booking
	booked  int
	off     int
}

func (c *carrier) Book(context.Context, string, string, string) (string, string, error) {
	c.booked++
	return c.answer(c.err)
}

func (c *carrier) Lookup(context.Context, string) (string, string, bool, error) {
	tracking, refused, _ := c.answer(nil)
	return tracking, refused, c.known, nil
}

func (c *carrier) answer(err error) (string, string, error) {
	if err != nil || c.refused != "" {
		return "", c.refused, err
	}
	return "CR1", "", nil
}

func (c *carrier) Cancel(context.Context, string) error {
	c.off++
	return nil
}

func TestShipping(t *testing.T) {
	t.Parallel()
	var (
		to        = shop.Address{Country: "GB", City: "London"}
		created   = shop.OrderCreated{OrderID: "17", CustomerID: "1", ShipTo: to, Lines: []shop.Line{{SKU: "a", Kind: shop.Goods}}}
		charges   = shop.OrderCreated{OrderID: "17", CustomerID: "1", ShipTo: to, Lines: []shop.Line{{SKU: "a", Kind: shop.Charge}}}
		paid      = shop.PaymentProcessed{OrderID: "17"}
		turned    = shop.OrderCancelling{OrderID: "17"}
		noted     = orderNoted{CustomerID: "1", ShipTo: to, HasGoods: true}
		asked     = requested{CustomerID: "1"}
		arranged  = shop.ShippingArranged{OrderID: "17", Tracking: "CR1"}
		cancelled = shop.ShippingCancelled{OrderID: "17"}
		silent    = carrier{err: errors.New("connection reset")}
		deadline  = 10 * time.Second
	)
	type events = []courante.Payload
	tests := []struct {
		rule    string
		carrier carrier
		given   events
		pass    time.Duration    // after given
		when    courante.Payload // nil: only time passes
		then    events
		off     int // calls to the carrier to cancel
	}{
		{"an order waits for its payment", carrier{}, nil, 0, created, events{noted}, 0},
		{"a payment waits for its order", carrier{}, nil, 0, paid, events{paymentNoted{}}, 0},
		{"both: shipped", carrier{}, events{created}, 0, paid, events{asked, arranged}, 0},
		{"both, the other way round: shipped", carrier{}, events{paid}, 0, created, events{asked, arranged}, 0},
		{"nothing to carry: no carrier is asked", carrier{refused: "no"}, events{charges}, 0, paid,
			events{nothingToCarry{"17"}, shop.ShippingArranged{OrderID: "17"}}, 0},
		{"refused", carrier{refused: "no"}, events{created}, 0, paid, events{asked, refused{}, shop.ShippingFailed{OrderID: "17", Reason: "no"}}, 0},
		{"the payment twice: once is enough", carrier{}, events{created, paid}, 0, paid, nil, 0},
		{"a lost reply is asked for", carrier{err: silent.err, known: true}, events{created, paid}, 5 * time.Second, turned, nil, 0},
		{"no answer by the deadline: given up", silent, events{created, paid}, 0, nil, events{shop.ShippingFailed{OrderID: "17", Reason: TimedOut}}, 0},
		{"cancelled before anything", carrier{}, nil, 0, turned, events{cancelled}, 0},
		{"an order that comes after its end", carrier{}, events{turned}, 0, created, nil, 0},
		{"a payment that comes after its end", carrier{}, events{created, turned}, 0, paid, nil, 0},
		{"cancelled before the payment", carrier{}, events{created}, 0, turned, events{cancelled}, 0},
		{"cancelled after shipping: too late, it goes on", carrier{}, events{created, paid}, 0, turned, nil, 0},
		{"cancelled with nothing to carry: too late, it goes on", carrier{}, events{charges, paid}, 0, turned, nil, 0},
		{"cancelled after the refusal: nothing is booked", carrier{refused: "no"}, events{created, paid}, 0, turned, events{cancelled}, 0},
		{"cancelled while the booking is under way: called off", silent, events{created, paid}, 0, turned, events{callingOff{}, cancelled}, 1},
		{"cancelled after the deadline: called off", silent, events{created, paid}, deadline, turned, events{callingOff{}, cancelled}, 1},
		{"cancelled twice: once is enough", silent, events{created, paid, turned}, 0, turned, nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			c := tt.carrier
			var given []courantetest.Fact
			for _, e := range tt.given {
				given = append(given, courantetest.Heard("17", e))
			}
			when := courantetest.Passed(deadline)
			if tt.when != nil {
				when = courantetest.Heard("17", tt.when)
			}
			s := courantetest.Given(t, New(Config{Carrier: &c}).Service(), append(given, courantetest.Passed(tt.pass))...)
			s.When(when).Then(tt.then...)
			if c.off != tt.off {
				t.Errorf("the carrier was called off %d times, want %d", c.off, tt.off)
			}
			booked := c.booked
			s.When(courantetest.Passed(time.Hour))
			if c.booked != booked && len(tt.then) > 0 {
				t.Errorf("booked %d times more after the end", c.booked-booked)
			}
		})
	}
}
