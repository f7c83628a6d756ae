package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// ledger is the table of the books of the outside parties, and keyPrefix what
// their keys of an order begin with.
const (
	ledger    = "outside.ledger"
	keyPrefix = "order:"
)

// ledgerRow is a row of the books of an outside party.
type ledgerRow struct {
	book string
	of   string
	data []byte
}

func (r ledgerRow) key() string  { return r.of }
func (r ledgerRow) name() string { return fmt.Sprintf("%s %s %s%s", ledger, r.book, keyPrefix, r.of) }

// openLedger reads a book in the order of the orders' ids.
func (a *auditor) openLedger(ctx context.Context, book string) (*cursor[ledgerRow], error) {
	sql := fmt.Sprintf(`select substr(key, %d), row::text from %s where book = %s and starts_with(key, %s) order by key collate "C"`,
		len(keyPrefix)+1, ledger, quote(book), quote(keyPrefix))
	there, err := a.exists(ctx, ledger)
	if err != nil {
		return nil, err
	}
	if !there { // a shop that has never been up
		sql = "select ''::text, ''::text where false"
	}
	return open(ctx, a.q, "audit "+book, sql, func(row pgx.CollectableRow) (ledgerRow, error) {
		r := ledgerRow{book: book}
		return r, row.Scan(&r.of, &r.data)
	})
}

// charge is what the provider's books say about one key.
type charge struct {
	State    string    `json:"state"`
	Token    string    `json:"token"`
	Amount   int64     `json:"amount"`
	Currency string    `json:"currency"`
	Due      time.Time `json:"due"`
}

// taken is what the provider has taken, and given what of it it has given back.
func (c *charge) sums(now time.Time) (taken, given int64) {
	switch {
	case c.State == "approved", c.State == "pending" && !now.Before(c.Due):
		return c.Amount, 0
	case c.State == "refunded":
		return c.Amount, c.Amount
	}
	return 0, 0
}

// Money is what became of the money of one currency, in minor units:
// Taken = GivenBack + Shipped + UnderWay, where Shipped is of orders that ended
// well, less what was returned of them.
type Money struct {
	Currency  string   `json:"currency"`
	Taken     *big.Int `json:"taken"`      // by the provider
	GivenBack *big.Int `json:"given_back"` // by the provider
	Shipped   *big.Int `json:"shipped"`
	UnderWay  *big.Int `json:"under_way"` // taken for orders that have not ended
}

// money adds up by currency. Amounts are below 2^53 each and there is no bound
// to their number, hence big numbers.
type money map[string]*Money

func (m money) of(currency string) *Money {
	if m[currency] == nil {
		m[currency] = &Money{currency, new(big.Int), new(big.Int), new(big.Int), new(big.Int)}
	}
	return m[currency]
}

func (m money) list() []Money {
	list := []Money{}
	for _, currency := range slices.Sorted(maps.Keys(m)) {
		list = append(list, *m[currency])
	}
	return list
}

func add(to *big.Int, n int64) { to.Add(to, big.NewInt(n)) }

// checkMoney compares the provider's books on an order with what our events say
// of it. While a call to the provider is open its books may be ahead of us.
func (a *auditor) checkMoney(d *dossier) {
	c := a.checks.money
	c.LookedAt++
	f, total := &d.facts, d.facts.created.Total
	name := "order " + d.id
	for _, end := range []*orderEnded{f.confirmed, f.cancelled} {
		if end != nil && end.Total != total {
			c.wrong(name, "it ended with a total of %s and began with %s", end.Total, total)
		}
	}
	if sum := f.created.sum(); sum != total.Amount {
		c.wrong(name, "its lines add up to %s and its total is %s", amount{sum, total.Currency}, total)
	}
	if f.processed != nil && *f.processed != total {
		c.wrong(name, "%s were taken for it and its total is %s", f.processed, total)
	}

	var taken, given int64
	if len(d.charges) > 0 {
		row := d.charges[0]
		name = row.name()
		var ch charge
		if err := json.Unmarshal(row.data, &ch); err != nil {
			c.wrong(name, "it cannot be read: %v", err)
			return
		}
		taken, given = ch.sums(a.now)
		switch {
		case !f.requested:
			c.wrong(name, "the provider knows a charge that was never asked for")
		case ch.State == "voided": // perhaps before the charge came: then its amount is not known
		case amount{ch.Amount, ch.Currency} != total:
			c.wrong(name, "the provider was asked for %s and the order's total is %s", amount{ch.Amount, ch.Currency}, total)
		case ch.Token != f.created.Payment.Token:
			c.wrong(name, "the provider was given another token than the order's")
		}
	}
	ours := f.given()
	if f.cancelled != nil && f.cancelled.Refunded.Amount != ours {
		c.wrong("order "+d.id, "it was cancelled with %s given back, and payment says %s", f.cancelled.Refunded, amount{ours, total.Currency})
	}
	kept := f.kept()
	sums := a.money.of(total.Currency)
	if f.confirmed != nil {
		add(sums.Shipped, kept)
	} else {
		add(sums.UnderWay, kept)
	}
	if d.open(payment, "charge") || d.open(payment, "void") || d.open(payment, "refund") {
		add(sums.UnderWay, taken-given-kept)
		return
	}
	if taken-given != kept || given != ours {
		c.wrong(name, "the provider took %s and gave %s back; our events say %s and %s",
			amount{taken, total.Currency}, amount{given, total.Currency}, amount{kept + ours, total.Currency}, amount{ours, total.Currency})
	}
	switch {
	case f.cancelled != nil && kept != 0:
		c.wrong(name, "%s are kept for an order that was cancelled", amount{kept, total.Currency})
	case f.confirmed != nil && f.processed == nil:
		c.wrong(name, "the order was confirmed and never paid")
	}
}

// given is what our events say was given back.
func (f *facts) given() int64 {
	switch {
	case f.settled != nil:
		return f.settled.Amount
	case f.voided != nil:
		return f.voided.Amount
	}
	return 0
}

// kept is what our events say is kept: what was taken, known to us or not, is
// gone with what was given back.
func (f *facts) kept() int64 {
	switch {
	case f.processed == nil:
		return 0
	case f.voided != nil || f.settled != nil:
		return f.processed.Amount - f.given()
	}
	return f.processed.Amount
}

func (o *orderCreated) sum() (sum int64) {
	for _, l := range o.Lines {
		sum += l.Quantity * l.UnitPrice
	}
	return sum
}

func (m amount) String() string { return fmt.Sprintf("%d %s", m.Amount, m.Currency) }

// readTotals adds up the provider's books, without looking at any order, and
// compares with what the orders came to.
func (a *auditor) readTotals(ctx context.Context) error {
	there, err := a.exists(ctx, ledger)
	if err != nil || !there {
		return err
	}
	rows, err := a.q.Query(ctx, "select book, key from "+ledger+" where not starts_with(key, $1) or book not in ('charges', 'bookings')", keyPrefix)
	if err != nil {
		return err
	}
	var book, key string
	if _, err := pgx.ForEachRow(rows, []any{&book, &key}, func() error {
		c := a.checks.money
		if book == "bookings" {
			c = a.checks.shipments
		}
		c.wrong(strings.Join([]string{ledger, book, key}, " "), "there is no such order")
		return nil
	}); err != nil {
		return err
	}
	rows, err = a.q.Query(ctx, `
		select row->>'currency',
		       coalesce(sum((row->>'amount')::bigint), 0)::text,
		       coalesce(sum((row->>'amount')::bigint) filter (where row->>'state' = 'refunded'), 0)::text
		from `+ledger+` where book = 'charges'
		  and (row->>'state' in ('approved', 'refunded') or row->>'state' = 'pending' and (row->>'due')::timestamptz <= $1)
		group by 1`, a.now)
	if err != nil {
		return err
	}
	var currency, taken, given string
	if _, err := pgx.ForEachRow(rows, []any{&currency, &taken, &given}, func() error {
		m := a.money.of(currency)
		m.Taken.SetString(taken, 10)
		m.GivenBack.SetString(given, 10)
		return nil
	}); err != nil {
		return err
	}
	for _, m := range a.money.list() {
		sum := new(big.Int).Add(m.GivenBack, m.Shipped)
		if sum.Add(sum, m.UnderWay).Cmp(m.Taken) != 0 {
			a.checks.money.wrong("all of "+m.Currency, "the provider took %s; given back %s, shipped %s and under way %s are %s", m.Taken, m.GivenBack, m.Shipped, m.UnderWay, sum)
		}
	}
	return nil
}
