package audit

import (
	"context"
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
	sql := fmt.Sprintf(`select substr(key, %d), row::text from %s where book = '%s' and starts_with(key, '%s') order by key collate "C"`,
		len(keyPrefix)+1, ledger, book, keyPrefix)
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
	State    string           `json:"state"`
	Token    string           `json:"token"`
	Amount   int64            `json:"amount"`
	Currency string           `json:"currency"`
	Due      time.Time        `json:"due"`
	Refunds  map[string]int64 `json:"refunds"`
}

// sums is what the provider has taken, and what of it it has given back.
func (c *charge) sums(now time.Time) (taken, given int64) {
	switch {
	case c.State == "approved", c.State == "pending" && !now.Before(c.Due):
		for _, part := range c.Refunds {
			given += part
		}
		return c.Amount, given
	case c.State == "refunded":
		return c.Amount, c.Amount
	}
	return 0, 0
}

// Money is what became of the money of one currency, in minor units:
// Taken = GivenBack + Shipped + UnderWay. Shipped is of orders that ended well,
// less what was given back for returns.
type Money struct {
	Currency  string   `json:"currency"`
	Taken     *big.Int `json:"taken"`      // by the provider
	GivenBack *big.Int `json:"given_back"` // by the provider
	Shipped   *big.Int `json:"shipped"`
	UnderWay  *big.Int `json:"under_way"` // taken for orders that have not ended; less than 0 when a refund is just being made
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
	a.checkAmounts(d)
	var ch charge
	row := d.name()
	if len(d.charges) > 0 {
		row = d.charges[0].name()
		if err := readJSON(d.charges[0].data, &ch); err != nil {
			c.wrong(row, "it cannot be read: %v", err)
			return
		}
		switch {
		case !f.requested:
			c.wrong(row, "the provider knows a charge that was never asked for")
		case ch.State == "voided": // perhaps before the charge came: then its amount is not known
		case amount{ch.Amount, ch.Currency} != total:
			c.wrong(row, "the provider was asked for %s and the order's total is %s", amount{ch.Amount, ch.Currency}, total)
		case ch.Token != f.created.Payment.Token:
			c.wrong(row, "the provider was given another token than the order's")
		}
	}
	taken, given := ch.sums(a.now)
	sums := a.money.of(total.Currency)
	if p := &d.threads[0].pending[payment]; p.open("charge") || p.open("void") {
		add(sums.UnderWay, taken-given) // whatever it is, we are about to hear of it
		return
	}
	ours, kept := f.given(), f.kept()
	early := a.checkRefunds(d, row, &ch)
	if f.confirmed != nil {
		add(sums.Shipped, kept)
		add(sums.UnderWay, -early)
	} else {
		add(sums.UnderWay, kept-early)
	}
	given -= early
	if taken-given != kept || given != ours {
		c.wrong(row, "the provider took %s and gave %s back; our events say %s and %s",
			amount{taken, total.Currency}, amount{given, total.Currency}, amount{kept + ours, total.Currency}, amount{ours, total.Currency})
	}
	switch {
	case f.cancelled != nil && kept != 0:
		c.wrong(row, "%s are kept for an order that was cancelled", amount{kept, total.Currency})
	case f.confirmed != nil && f.processed == nil:
		c.wrong(row, "the order was confirmed and never paid")
	}
}

// checkAmounts checks that all events name the amounts that follow from the lines.
func (a *auditor) checkAmounts(d *dossier) {
	c, f, total := a.checks.money, &d.facts, d.facts.created.Total
	for _, end := range []*orderEnded{f.confirmed, f.cancelled} {
		if end != nil && end.Total != total {
			c.wrong(d.name(), "it ended with a total of %s and began with %s", end.Total, total)
		}
	}
	if sum := f.created.sum(); sum != total.Amount {
		c.wrong(d.name(), "its lines add up to %s and its total is %s", amount{sum, total.Currency}, total)
	}
	if f.processed != nil && *f.processed != total {
		c.wrong(d.name(), "%s were taken for it and its total is %s", f.processed, total)
	}
	if f.cancelled != nil && f.cancelled.Refunded.Amount != f.given() {
		c.wrong(d.name(), "it was cancelled with %s given back, and payment says %s", f.cancelled.Refunded, amount{f.given(), total.Currency})
	}
}

// checkRefunds compares the parts of a charge that were given back with the
// returns of its order. It returns what the provider has given back on account of
// calls that are still open.
func (a *auditor) checkRefunds(d *dossier, row string, ch *charge) (early int64) {
	c := a.checks.money
	known := map[string]bool{}
	for _, r := range d.facts.returns {
		key := keyPrefix + d.id + "/return:" + r.thread.returned
		known[key] = true
		given, there := ch.Refunds[key]
		switch {
		case r.thread.pending[payment].open("refund"):
			early += given
		case r.refunded == nil && there:
			c.wrong(row, "the provider has a refund of %d under %s that was never asked for", given, key)
		case r.refunded != nil && given != r.refunded.Amount:
			c.wrong(row, "the provider gave %d back under %s; our event says %s", given, key, r.refunded)
		}
	}
	for key, given := range ch.Refunds {
		if !known[key] {
			c.wrong(row, "the provider gave %d back under %s, and there is no such return", given, key)
		}
	}
	return early
}

// given is what our events say was given back.
func (f *facts) given() (sum int64) {
	switch {
	case f.settled != nil:
		sum = f.settled.Amount
	case f.voided != nil:
		sum = f.voided.Amount
	}
	for _, r := range f.returns {
		if r.refunded != nil {
			sum += r.refunded.Amount
		}
	}
	return sum
}

// kept is what our events say is kept. What was given back was taken, whether
// or not we had heard of it by then.
func (f *facts) kept() int64 {
	if f.processed == nil {
		return 0
	}
	return f.processed.Amount - f.given()
}

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
		       coalesce(sum(case when row->>'state' = 'refunded' then (row->>'amount')::bigint
		                         else (select sum(value::bigint) from json_each_text(row->'refunds')) end), 0)::text
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
