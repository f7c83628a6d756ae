package notification

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/shop"
)

// Name is the name of the context, of its service and of its log.
const Name = "notification"

// Mailer sends mails. It is an interface because a mail leaves our hands: the
// shop's own implementation is [Folder].
type Mailer interface {
	// Send sends the mail once, however often it is called with the same key.
	Send(ctx context.Context, key string, m Mail) error
}

// Config says what can be chosen. The zero value of a field means its default.
type Config struct {
	// Mailer sends the mails. Required.
	Mailer Mailer

	// Attempt is how long one call of the Mailer may take; default 10 s.
	Attempt time.Duration
}

// Context is the context of notification.
type Context struct {
	svc     *courante.Service
	mails   *courante.Entity[correspondence] // about an order's end
	returns *courante.Entity[correspondence] // about a return
	send    *courante.Effect[Mail, struct{}]
}

// What notification notes for itself.
type (
	mailRequested struct {
		CustomerID string `json:"customer_id" personal:"true"`
		Kind       string `json:"kind"`
	}
	mailSent struct {
		Kind string `json:"kind"`
	}
)

func (mailRequested) EventType() string     { return "notification.mail_requested" }
func (mailSent) EventType() string          { return "notification.mail_sent" }
func (e mailRequested) PersonalKey() string { return e.CustomerID }

// correspondence is what was written about one order, or one return.
type correspondence struct {
	Past courante.Past `json:"past"`
}

// Kinds of mails.
const (
	confirmation = "confirmation"
	cancellation = "cancellation"
	refund       = "refund" // a return is complete
)

const mailEffect = "mail"

// New declares the context.
func New(cfg Config) *Context {
	if cfg.Attempt == 0 {
		cfg.Attempt = 10 * time.Second
	}
	c := &Context{svc: courante.NewService(Name)}
	c.svc.Emits(courante.Private, mailRequested{}, mailSent{})
	requested := courante.Evolve(func(s *correspondence, e mailRequested) { s.Past.Add(e.EventType()) })
	done := courante.Evolve(func(s *correspondence, e mailSent) { s.Past.Add(e.EventType()) })
	c.mails = courante.Sourced(c.svc, "mail", requested, done)
	c.returns = courante.Sourced(c.svc, "return", requested, done)

	// An order ends once, and so does a return: there is one mail about it.
	ask := func(name string) courante.Step {
		return courante.Step{
			Name:     name,
			Unless:   courante.Types(mailRequested{}),
			Outcomes: []courante.Outcome{{Emits: courante.Types(mailRequested{}), Asks: []string{mailEffect}}},
		}
	}
	on(c, ask("write the confirmation"), func(d *courante.Decision, m *courante.Ref[correspondence], e shop.OrderConfirmed) {
		m.Emit(mailRequested{CustomerID: e.CustomerID, Kind: confirmation}, c.send.Ask(Mail{
			Kind: confirmation, OrderID: e.OrderID, CustomerID: e.CustomerID, Total: e.Total, Tracking: e.Tracking, Date: d.Now(),
		}))
	})
	on(c, ask("write the cancellation"), func(d *courante.Decision, m *courante.Ref[correspondence], e shop.OrderCancelled) {
		m.Emit(mailRequested{CustomerID: e.CustomerID, Kind: cancellation}, c.send.Ask(Mail{
			Kind: cancellation, OrderID: e.OrderID, CustomerID: e.CustomerID, Total: e.Total, Refunded: e.Refunded, Reason: e.Reason, Date: d.Now(),
		}))
	})
	returned := ask("write that the return is complete")
	courante.On(c.svc, courante.Reaction[shop.ReturnCompleted]{
		Step: returned,
		Keys: func(e shop.ReturnCompleted) []courante.Key { return []courante.Key{c.returns.Key(e.ReturnID)} },
		Do: func(d *courante.Decision, e shop.ReturnCompleted) error {
			if m := c.returns.Load(d, e.ReturnID); m.State.Past.Allows(returned) {
				m.Emit(mailRequested{CustomerID: e.CustomerID, Kind: refund}, c.send.Ask(Mail{
					Kind: refund, OrderID: e.OrderID, ReturnID: e.ReturnID, CustomerID: e.CustomerID, Refunded: e.Refund, Date: d.Now(),
				}))
			}
			return nil
		},
	})

	sent := courante.Step{
		Name:     "note that the mail is sent",
		Unless:   courante.Types(mailSent{}),
		Outcomes: []courante.Outcome{{Emits: courante.Types(mailSent{})}},
	}
	c.send = courante.NewEffect(c.svc, courante.EffectSpec[Mail, struct{}]{
		Step: sent, Effect: mailEffect, UntilAnswered: true, Timeout: cfg.Attempt,
		Perform: func(ctx context.Context, key string, m Mail) (struct{}, error) {
			return struct{}{}, cfg.Mailer.Send(ctx, key, m)
		},
		Then: func(d *courante.Decision, id string, m Mail, _ struct{}) error {
			about := c.mails
			if m.ReturnID != "" {
				about = c.returns
			}
			if r := about.Load(d, id); r.State.Past.Allows(sent) {
				r.Emit(mailSent{Kind: m.Kind})
			}
			return nil
		},
	})
	return c
}

// Service is the declaration to hand to a runtime.
func (c *Context) Service() *courante.Service { return c.svc }

// Routes adds nothing: notification is only talked to by events.
func (c *Context) Routes(huma.API) {}

// on declares a step that an event sets off. The declaration is also the
// guard: do runs only when it allows.
func on[P shop.OrderEvent](c *Context, step courante.Step, do func(*courante.Decision, *courante.Ref[correspondence], P)) {
	courante.On(c.svc, courante.Reaction[P]{
		Step: step,
		Keys: func(e P) []courante.Key { return []courante.Key{c.mails.Key(e.Order())} },
		Do: func(d *courante.Decision, e P) error {
			if m := c.mails.Load(d, e.Order()); m.State.Past.Allows(step) {
				do(d, m, e)
			}
			return nil
		},
	})
}
