package payment

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop"
)

var (
	returned = func(id string, n int64) shop.ReturnRequested {
		return shop.ReturnRequested{OrderID: "17", ReturnID: id, CustomerID: "1", Refund: gbp(n)}
	}
	refunding = func(n int64) refundRequested { return refundRequested{"17", gbp(n)} }
	refunded  = func(id string, n int64) shop.ReturnRefunded {
		return shop.ReturnRefunded{OrderID: "17", ReturnID: id, Amount: gbp(n)}
	}
)

func TestRefund(t *testing.T) {
	t.Parallel()
	type events = []courante.Payload
	const key = "order:17 order:17/return:"
	for _, tt := range []struct {
		rule  string
		given events
		when  courante.Payload
		then  events
		books map[string]int64 // of the provider
	}{
		{"a return is refunded", events{created, reserved}, returned("r", 200), events{refunding(200), refunded("r", 200)}, map[string]int64{key + "r": 200}},
		{"what cost nothing: the provider is not asked", events{created, reserved}, returned("r", 0), events{refunded("r", 0)}, nil},
		{"an order that cost nothing", events{free, reserved}, returned("r", 0), events{refunded("r", 0)}, nil},
		{"the return twice: once is enough", events{created, reserved, returned("r", 200)}, returned("r", 200), nil, map[string]int64{key + "r": 200}},
		{"two returns: two refunds", events{created, reserved, returned("r", 200)}, returned("s", 300),
			events{refunding(300), refunded("s", 300)}, map[string]int64{key + "r": 200, key + "s": 300}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			p := &provider{}
			courantetest.Given(t, New(Config{Provider: p}).Service(), heard(tt.given...)...).When(heard(tt.when)...).Then(tt.then...)
			if fmt.Sprint(p.given) != fmt.Sprint(tt.books) {
				t.Errorf("the provider gave %v, want %v", p.given, tt.books)
			}
		})
	}
}

// The goods are back: nothing but time stands between the customer and the
// money.
func TestARefundIsTriedUntilItWorks(t *testing.T) {
	t.Parallel()
	const failures = 40
	p := &provider{failures: failures}
	s := courantetest.Given(t, New(Config{Provider: p}).Service(), heard(created, reserved)...)
	s.When(heard(returned("r", 200))...).Then(refunding(200))
	if got := during(s, 2*failures); len(got) != 1 || got[0] != refunded("r", 200).EventType() {
		t.Errorf("what followed: %q, want that it is refunded, once", got)
	}
	if p.asked != failures+1 || len(p.given) != 1 {
		t.Errorf("asked %d times for %d refunds, want %d times for one", p.asked, len(p.given), failures+1)
	}
	s.When(heard(returned("r", 200))...).Then()
}

// during returns the types of what follows while so many minutes pass.
func during(s *courantetest.Scenario, minutes int) (types []string) {
	for range minutes {
		for _, e := range s.When(courantetest.Passed(time.Minute)).Events() {
			types = append(types, e.Type)
		}
	}
	return types
}

func TestARefundOfMoreThanWasChargedIsSetAside(t *testing.T) {
	t.Parallel()
	for rule, given := range map[string][]courante.Payload{
		"the order was never charged": {},
		"less was charged":            {created, reserved},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			p := &provider{}
			courantetest.Given(t, New(Config{Provider: p}).Service(), heard(given...)...).
				When(heard(returned("r", 501))...).ThenParked("return r asks for 5.01 GBP")
			if p.asked > 0 {
				t.Error("the provider was asked for it")
			}
		})
	}
}

// A cancelled order is not settled before its money is back, however long that
// takes.
func TestAVoidIsTriedUntilItWorks(t *testing.T) {
	t.Parallel()
	const failures = 40
	p := &provider{refunds: 500}
	s := courantetest.Given(t, New(Config{Provider: p}).Service(), heard(created, reserved)...)
	p.failures = failures
	s.When(heard(cancelled)...).Then(cancellationNoted{}, voiding{})
	if got := during(s, failures/2); len(got) > 0 {
		t.Errorf("while the provider fails: %q", got)
	}
	want := courante.Types(voided{}, shop.PaymentSettled{})
	if got := during(s, 2*failures); !slices.Equal(got, want) || p.voided != 1 {
		t.Errorf("when it works again: %q and voided %d times, want %q and once", got, p.voided, want)
	}
}
