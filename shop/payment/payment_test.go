package payment

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// provider is a payment provider that answers as a test says.
type provider struct {
	declined string
	err      error // of Charge
	unknown  bool  // Lookup knows nothing
	charged  int
	voided   int
	refunds  int64
}

func (p *provider) Charge(context.Context, string, string, int64, string) (string, error) {
	p.charged++
	return p.declined, p.err
}

func (p *provider) Lookup(context.Context, string) (string, bool, error) {
	return p.declined, !p.unknown, nil
}

func (p *provider) Void(context.Context, string) (int64, error) {
	p.voided++
	return p.refunds, nil
}

func TestPayment(t *testing.T) {
	t.Parallel()
	var (
		gbp       = func(n int64) shop.Money { return shop.Money{Amount: n, Currency: "GBP"} }
		created   = shop.OrderCreated{OrderID: "17", CustomerID: "1", Total: gbp(500), Payment: shop.Payment{Token: "t"}}
		free      = shop.OrderCreated{OrderID: "17", CustomerID: "1", Total: gbp(0)}
		reserved  = shop.InventoryReserved{OrderID: "17"}
		cancelled = shop.ShippingCancelled{OrderID: "17"}
		lost      = errors.New("connection reset")
		tooLong   = 11 * time.Second
	)
	type events = []courante.Payload
	tests := []struct {
		rule     string
		provider provider
		given    events
		pass     time.Duration // after given
		when     courante.Payload
		then     events
	}{
		{"an order waits for its reservation", provider{}, nil, 0, created, events{orderNoted{}}},
		{"a reservation waits for its order", provider{}, nil, 0, reserved, events{reservationNoted{}}},
		{"both: charged", provider{}, events{created}, 0, reserved, events{requested{}, shop.PaymentProcessed{}}},
		{"both, the other way round: charged", provider{}, events{reserved}, 0, created, events{requested{}, shop.PaymentProcessed{}}},
		{"nothing to pay: not charged", provider{declined: "no"}, events{free}, 0, reserved, events{shop.PaymentProcessed{}}},
		{"declined", provider{declined: "no"}, events{created}, 0, reserved, events{requested{}, shop.PaymentDeclined{}}},
		{"the reservation twice: once is enough", provider{}, events{created, reserved}, 0, reserved, nil},
		{"the order twice: once is enough", provider{}, events{created, reserved}, 0, created, nil},
		{"cancelled before anything: settled", provider{}, nil, 0, cancelled, events{shop.PaymentSettled{}}},
		{"an order that comes after its end", provider{}, events{cancelled}, 0, created, nil},
		{"a reservation that comes after its end", provider{}, events{cancelled, created}, 0, reserved, nil},
		{"cancelled before the charge: settled", provider{}, events{created}, 0, cancelled, events{shop.PaymentSettled{}}},
		{"cancelled after the charge: given back", provider{refunds: 500}, events{created, reserved}, 0, cancelled,
			events{cancellationNoted{}, voiding{}, voided{}, shop.PaymentSettled{}}},
		{"cancelled with nothing to pay: settled", provider{}, events{free, reserved}, 0, cancelled, events{shop.PaymentSettled{}}},
		{"cancelled after it was declined: settled", provider{declined: "no"}, events{created, reserved}, 0, cancelled, events{shop.PaymentSettled{}}},
		{"cancelled while the charge is under way: voided", provider{err: lost, unknown: true}, events{created, reserved}, 0, cancelled,
			events{cancellationNoted{}, voiding{}, voided{}, shop.PaymentSettled{}}},
		{"cancelled after it timed out: settled", provider{err: lost, unknown: true}, events{created, reserved}, tooLong, cancelled,
			events{shop.PaymentSettled{}}},
		{"cancelled twice: once is enough", provider{refunds: 500}, events{created, reserved, cancelled}, 0, cancelled, nil},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			p := tt.provider
			s := given(t, New(Config{Provider: &p}).Service(), "17", tt.given...)
			if tt.pass > 0 {
				s.Pass(tt.pass)
			}
			s.When(tt.when)
			s.Then(tt.then...)
			for _, e := range s.Events() {
				if e.Type != (shop.PaymentSettled{}).EventType() {
					continue
				}
				if got, err := courante.Decode[shop.PaymentSettled](&e); err != nil || got.Refunded.Amount != p.refunds {
					t.Errorf("settled %+v, %v, want %d given back", got, err, p.refunds)
				}
			}
		})
	}
}

func TestPaymentInTime(t *testing.T) {
	t.Parallel()
	created := shop.OrderCreated{OrderID: "17", CustomerID: "1", Total: shop.Money{Amount: 500, Currency: "GBP"}}
	reserved := shop.InventoryReserved{OrderID: "17"}

	t.Run("a lost reply is asked for, not charged again", func(t *testing.T) {
		t.Parallel()
		p := &provider{err: errors.New("connection reset")}
		s := given(t, New(Config{Provider: p}).Service(), "17", created, reserved)
		s.Then(requested{})
		s.Pass(5 * time.Second)
		s.Then(shop.PaymentProcessed{})
		if p.charged != 1 {
			t.Errorf("charged %d times, want once", p.charged)
		}
		s.Pass(time.Hour)
		s.Then()
	})
	t.Run("no answer by the deadline: declined and voided, and a late answer is ignored", func(t *testing.T) {
		t.Parallel()
		p := &provider{err: errors.New("connection reset"), unknown: true}
		s := given(t, New(Config{Provider: p}).Service(), "17", created, reserved)
		s.Pass(10 * time.Second)
		s.Then(shop.PaymentDeclined{}, voiding{}, voided{})
		if p.voided != 1 {
			t.Errorf("voided %d times, want once", p.voided)
		}
		p.err = nil
		s.Pass(time.Hour)
		s.Then()
	})
}
