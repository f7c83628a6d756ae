package outside

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"
)

// Provider plays a payment provider.
type Provider struct {
	ledger Ledger
	cfg    Config
}

// NewProvider opens the provider's books in the ledger.
func NewProvider(l Ledger, cfg Config) *Provider {
	return &Provider{ledger: l, cfg: cfg.withDefaults()}
}

// Charge is what the provider's books say about one key.
type Charge struct {
	Key      string      `json:"-"`
	State    ChargeState `json:"state"`
	Token    string      `json:"token,omitempty"`
	Amount   int64       `json:"amount"`
	Currency string      `json:"currency,omitempty"`
	Reason   string      `json:"reason,omitempty"`   // of a declined charge
	Due      time.Time   `json:"due,omitzero"`       // when a pending charge is made
	Failures int         `json:"failures,omitempty"` // answers "unavailable" given so far

	// Refunds are the parts of an approved charge that were given back, by
	// refund key. What a void gives back is the rest.
	Refunds map[string]int64 `json:"refunds,omitempty"`
}

// Kept is what the provider has of the customer's money, now or as soon as a
// pending charge is made.
func (c Charge) Kept() int64 {
	if c.State != Approved && c.State != Pending {
		return 0
	}
	return c.Amount - c.refunded()
}

func (c Charge) refunded() int64 {
	var sum int64
	for _, amount := range c.Refunds {
		sum += amount
	}
	return sum
}

// ChargeState is where a charge stands.
type ChargeState string

// The states of a charge.
const (
	Trying   ChargeState = "trying"   // the provider was unavailable; nothing is taken
	Pending  ChargeState = "pending"  // it will be made when Due
	Approved ChargeState = "approved" // the money is taken
	Declined ChargeState = "declined"
	Refunded ChargeState = "refunded" // taken and given back as a whole, by a void
	Voided   ChargeState = "voided"   // undone before anything was taken, and refused for ever
)

// chargeBook is where charges are in a ledger.
const chargeBook = "charges"

// Charge takes money, once for each key. declined says why it does not. The
// token chooses what happens:
//
//	tok_ok        approved
//	tok_declined  declined, as is every token not named here
//	tok_flaky     two answers "unavailable", then approved
//	tok_slow      approved after Config.Slow
//	tok_timeout   never answers and never charges
//	tok_late      charges and answers after Config.Late, whether or not anybody still waits
//	tok_lost      approved, but the reply is lost; [Provider.Lookup] tells
func (p *Provider) Charge(ctx context.Context, key, token string, amount int64, currency string) (declined string, err error) {
	switch token {
	case "tok_timeout":
		if err := p.cfg.Wait(ctx, forever); err != nil {
			return "", err
		}
		return "", errNoReply
	case "tok_slow":
		if err := p.cfg.Wait(ctx, p.cfg.Slow); err != nil {
			return "", err
		}
	}
	for {
		var c Charge
		err := p.update(ctx, key, func(known Charge) Charge {
			c = known.charge(token, amount, currency, p.cfg)
			return c
		})
		switch {
		case err != nil:
			return "", err
		case c.State == Trying:
			return "", notDone("service unavailable")
		case c.State == Pending:
			if err := p.cfg.Wait(ctx, c.Due.Sub(p.cfg.Now())); err != nil {
				return "", err
			}
			if p.cfg.Now().Before(c.Due) {
				return "", errNoReply // the caller's time does not pass while it waits
			}
			continue
		case token == "tok_lost" && c.State == Approved:
			return "", errNoReply
		case c.Token != token || c.Amount != amount || c.Currency != currency:
			if c.State != Voided {
				return "the key was used for another charge", nil
			}
		}
		return c.declined(), nil
	}
}

// charge is the books after a call of Charge. A call for a key that has its
// answer changes nothing.
func (c Charge) charge(token string, amount int64, currency string, cfg Config) Charge {
	if c = c.at(cfg.Now()); c.State != "" && c.State != Trying {
		return c
	}
	failures := c.Failures
	c = Charge{Key: c.Key, Token: token, Amount: amount, Currency: currency, State: Approved, Failures: failures}
	switch token {
	case "tok_ok", "tok_slow", "tok_lost":
	case "tok_flaky":
		if failures < 2 {
			c.State, c.Failures = Trying, failures+1
		}
	case "tok_late":
		c.State, c.Due = Pending, cfg.Now().Add(cfg.Late).UTC()
	case "tok_declined":
		c.State, c.Reason = Declined, "card declined"
	default:
		c.State, c.Reason = Declined, "unknown payment token"
	}
	return c
}

// at is the books at a moment: what was pending may have been made by then.
func (c Charge) at(now time.Time) Charge {
	if c.State == Pending && !now.Before(c.Due) {
		c.State = Approved
	}
	return c
}

func (c Charge) declined() string {
	switch c.State {
	case Declined:
		return c.Reason
	case Voided, Refunded:
		return "voided"
	}
	return ""
}

// Lookup says what became of a charge. found is false if the provider has
// nothing to tell: it never heard of it, or was unavailable at the time.
func (p *Provider) Lookup(ctx context.Context, key string) (declined string, found bool, err error) {
	var c Charge
	err = p.update(ctx, key, func(known Charge) Charge {
		c = known.at(p.cfg.Now())
		return c
	})
	switch {
	case err != nil:
		return "", false, err
	case c.State == "", c.State == Trying:
		return "", false, nil
	case c.State == Pending:
		return "", false, errors.New("still in progress")
	}
	return c.declined(), true, nil
}

// Void undoes a charge and says how much was given back. A charge that comes
// after it is declined. Voiding again gives the same answer.
func (p *Provider) Void(ctx context.Context, key string) (refunded int64, err error) {
	err = p.update(ctx, key, func(c Charge) Charge {
		c = c.at(p.cfg.Now())
		switch c.State {
		case Approved:
			c.State = Refunded
		case "", Trying, Pending:
			c.State, c.Due = Voided, time.Time{}
		}
		refunded = 0
		if c.State == Refunded {
			refunded = c.Amount - c.refunded()
		}
		return c
	})
	return refunded, err
}

// Refund gives back a part of a charge, once for each refund key: the same key
// with the same amount again changes nothing. It is an error, and nothing is
// given back, if there is no such charge, if less than that is left of it, or if
// the refund key stands for another amount.
func (p *Provider) Refund(ctx context.Context, key, refund string, amount int64) error {
	var refused error
	err := p.update(ctx, key, func(c Charge) Charge {
		c = c.at(p.cfg.Now())
		known, again := c.Refunds[refund]
		switch {
		case again && known == amount:
			refused = nil
		case again:
			refused = notDone("the refund key was used for another amount")
		case c.State != Approved:
			refused = notDone("there is no such charge to refund")
		case amount <= 0 || amount > c.Kept():
			refused = notDone("a refund must be more than nothing and no more than is left of the charge")
		default:
			refused = nil
			refunds := map[string]int64{refund: amount}
			maps.Copy(refunds, c.Refunds)
			c.Refunds = refunds
		}
		return c
	})
	if err != nil {
		return err
	}
	return refused
}

// Charges returns the provider's books as they are now, by key: what an
// auditor compares with ours.
func (p *Provider) Charges(ctx context.Context) (map[string]Charge, error) {
	rows, err := p.ledger.all(ctx, chargeBook)
	if err != nil {
		return nil, err
	}
	charges := make(map[string]Charge, len(rows))
	for key, row := range rows {
		var c Charge
		if err := json.Unmarshal(row, &c); err != nil {
			return nil, fmt.Errorf("decode charge %s: %w", key, err)
		}
		c.Key = key
		charges[key] = c.at(p.cfg.Now())
	}
	return charges, nil
}

func (p *Provider) update(ctx context.Context, key string, change func(Charge) Charge) error {
	return update(ctx, p.ledger, chargeBook, key, change)
}
