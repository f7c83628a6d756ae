package notification

import (
	"context"
	"strings"
	"testing"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop"
)

// outbox is a Mailer that keeps what it sends.
type outbox struct{ mails []Mail }

func (o *outbox) Send(_ context.Context, _ string, m Mail) error {
	o.mails = append(o.mails, m)
	return nil
}

func TestOneMailAboutEachEnd(t *testing.T) {
	t.Parallel()
	var (
		gbp       = func(n int64) shop.Money { return shop.Money{Amount: n, Currency: "GBP"} }
		confirmed = shop.OrderConfirmed{OrderID: "17", CustomerID: "1", Total: gbp(500)}
		cancelled = shop.OrderCancelled{OrderID: "17", CustomerID: "1", Total: gbp(500), Refunded: gbp(500), Reason: "out of stock"}
		returned  = func(id string, n int64) shop.ReturnCompleted {
			return shop.ReturnCompleted{OrderID: "17", ReturnID: id, CustomerID: "1", Refund: gbp(n)}
		}
		mail = func(kind string) []courante.Payload {
			return []courante.Payload{mailRequested{CustomerID: "1", Kind: kind}, mailSent{Kind: kind}}
		}
	)
	type events = []courante.Payload
	for _, tt := range []struct {
		rule  string
		given events
		when  courante.Payload
		then  events
		text  string // in the last mail
	}{
		{"confirmed", nil, confirmed, mail(confirmation), "is confirmed"},
		{"confirmed twice: once is enough", events{confirmed}, confirmed, nil, ""},
		{"cancelled", nil, cancelled, mail(cancellation), "given back 5.00 GBP"},
		{"returned", events{confirmed}, returned("r", 450), mail(refund), "given back 4.50 GBP"},
		{"returned, and it had cost nothing", events{confirmed}, returned("r", 0), mail(refund), "nothing to give back"},
		{"the return twice: once is enough", events{confirmed, returned("r", 450)}, returned("r", 450), nil, ""},
		{"two returns: two mails", events{confirmed, returned("r", 450)}, returned("s", 50), mail(refund), "given back 0.50 GBP"},
		{"a return with the order's id: a mail each", events{confirmed}, returned("17", 50), mail(refund), "given back 0.50 GBP"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			t.Parallel()
			var given []courantetest.Fact
			for _, e := range tt.given {
				given = append(given, courantetest.Heard("17", e))
			}
			box := &outbox{}
			s := courantetest.Given(t, New(Config{Mailer: box}).Service(), given...)
			box.mails = nil
			s.When(courantetest.Heard("17", tt.when)).Then(tt.then...)
			if len(box.mails) != len(tt.then)/2 {
				t.Fatalf("%d mails were sent, want %d", len(box.mails), len(tt.then)/2)
			}
			if len(box.mails) > 0 && !strings.Contains(box.mails[0].text(), tt.text) {
				t.Errorf("the mail says %q, want %q in it", box.mails[0].text(), tt.text)
			}
		})
	}
}
