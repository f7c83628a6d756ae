package payment

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
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

	failures int              // how often Void and Refund fail before they work
	given    map[string]int64 // refunds by key
	asked    int              // calls of Refund
}

func (p *provider) Charge(context.Context, string, string, int64, string) (string, error) {
	p.charged++
	return p.declined, p.err
}

func (p *provider) Lookup(context.Context, string) (string, bool, error) {
	return p.declined, !p.unknown, nil
}

func (p *provider) Void(context.Context, string) (int64, error) {
	if p.failures > 0 {
		p.failures--
		return 0, errLost
	}
	p.voided++
	return p.refunds, nil
}

// Refund gives the money at the first call; while failures last, the reply is lost.
func (p *provider) Refund(_ context.Context, key, refund string, amount int64) error {
	p.asked++
	if p.given == nil {
		p.given = map[string]int64{}
	}
	p.given[key+" "+refund] = amount
	if p.failures > 0 {
		p.failures--
		return errLost
	}
	return nil
}

var (
	gbp = func(n int64) shop.Money { return shop.Money{Amount: n, Currency: "GBP"} }

	// From outside.
	created   = shop.OrderCreated{OrderID: "17", CustomerID: "1", Total: gbp(500), Payment: shop.Payment{Token: "t"}}
	free      = shop.OrderCreated{OrderID: "17", CustomerID: "1", Total: gbp(0)}
	reserved  = shop.InventoryReserved{OrderID: "17"}
	cancelled = shop.ShippingCancelled{OrderID: "17"}

	// What payment says.
	noted     = orderNoted{OrderID: "17", CustomerID: "1", Token: "t", Amount: gbp(500)}
	asked     = requested{CustomerID: "1", Amount: gbp(500)}
	processed = shop.PaymentProcessed{OrderID: "17", Amount: gbp(500)}
	declined  = shop.PaymentDeclined{OrderID: "17", Reason: "no"}
	settled   = func(n int64) shop.PaymentSettled { return shop.PaymentSettled{OrderID: "17", Refunded: gbp(n)} }

	errLost = errors.New("connection reset")
)

func heard(events ...courante.Payload) (facts []courantetest.Fact) {
	for _, e := range events {
		facts = append(facts, courantetest.Heard("17", e))
	}
	return facts
}

func TestPayment(t *testing.T) {
	t.Parallel()
	type events = []courante.Payload
	tests := []struct {
		rule     string
		provider provider
		given    events
		pass     time.Duration // after given
		when     courante.Payload
		then     events
	}{
		{"an order waits for its reservation", provider{}, nil, 0, created, events{noted}},
		{"a reservation waits for its order", provider{}, nil, 0, reserved, events{reservationNoted{}}},
		{"both: charged", provider{}, events{created}, 0, reserved, events{asked, processed}},
		{"both, the other way round: charged", provider{}, events{reserved}, 0, created, events{asked, processed}},
		{"nothing to pay: not charged", provider{declined: "no"}, events{free}, 0, reserved, events{shop.PaymentProcessed{OrderID: "17", Amount: gbp(0)}}},
		{"declined", provider{declined: "no"}, events{created}, 0, reserved, events{asked, declined}},
		{"the reservation twice: once is enough", provider{}, events{created, reserved}, 0, reserved, nil},
		{"the order twice: once is enough", provider{}, events{created, reserved}, 0, created, nil},
		{"cancelled before anything: settled", provider{}, nil, 0, cancelled, events{shop.PaymentSettled{OrderID: "17"}}},
		{"an order that comes after its end", provider{}, events{cancelled}, 0, created, nil},
		{"a reservation that comes after its end", provider{}, events{cancelled, created}, 0, reserved, nil},
		{"cancelled before the charge: settled", provider{}, events{created}, 0, cancelled, events{settled(0)}},
		{"cancelled after the charge: given back", provider{refunds: 500}, events{created, reserved}, 0, cancelled,
			events{cancellationNoted{}, voiding{}, voided{"17", gbp(500)}, settled(500)}},
		{"cancelled with nothing to pay: settled", provider{}, events{free, reserved}, 0, cancelled, events{settled(0)}},
		{"cancelled after it was declined: settled", provider{declined: "no"}, events{created, reserved}, 0, cancelled, events{settled(0)}},
		{"cancelled while the charge is under way: voided", provider{err: errLost, unknown: true}, events{created, reserved}, 0, cancelled,
			events{cancellationNoted{}, voiding{}, voided{"17", gbp(0)}, settled(0)}},
		{"cancelled after it timed out and had been charged: given back", provider{err: errLost, unknown: true, refunds: 500},
			events{created, reserved}, 11 * time.Second, cancelled, events{settled(500)}},
		{"cancelled twice: once is enough", provider{refunds: 500}, events{created, reserved, cancelled}, 0, cancelled, nil},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			p := tt.provider
			given := append(heard(tt.given...), courantetest.Passed(tt.pass))
			courantetest.Given(t, New(Config{Provider: &p}).Service(), given...).When(heard(tt.when)...).Then(tt.then...)
		})
	}
}

func TestALostReplyIsAskedForAndNotChargedAgain(t *testing.T) {
	t.Parallel()
	p := &provider{err: errLost}
	s := courantetest.Given(t, New(Config{Provider: p}).Service(), heard(created)...)
	s.When(heard(reserved)...).Then(asked)
	s.When(courantetest.Passed(5 * time.Second)).Then(processed)
	if p.charged != 1 {
		t.Errorf("charged %d times, want once", p.charged)
	}
	s.When(courantetest.Passed(time.Hour)).Then()
}

func TestNoAnswerByTheDeadlineIsVoided(t *testing.T) {
	t.Parallel()
	p := &provider{err: errLost, unknown: true}
	s := courantetest.Given(t, New(Config{Provider: p}).Service(), heard(created, reserved)...)
	s.When(courantetest.Passed(10*time.Second)).
		Then(shop.PaymentDeclined{OrderID: "17", Reason: TimedOut}, voiding{}, voided{"17", gbp(0)})
	if p.voided != 1 {
		t.Errorf("voided %d times, want once", p.voided)
	}
	p.err = nil // and now it would work
	s.When(courantetest.Passed(time.Hour)).Then()
}
