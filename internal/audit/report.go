package audit

import (
	"fmt"
	"time"
)

// Report is what an audit found.
type Report struct {
	OK      bool      `json:"ok"` // nothing is wrong; something may be stuck
	Wrong   int       `json:"wrong"`
	Stuck   int       `json:"stuck"`
	AsOf    time.Time `json:"as_of"` // by which something is overdue
	Seconds float64   `json:"seconds"`
	Orders  Orders    `json:"orders"`
	Money   []Money   `json:"money"`
	Checks  []*Check  `json:"checks"`
}

// Orders counts the orders by where they stand. A stuck one may have ended:
// something of it, such as its mail, did not happen.
type Orders struct {
	Confirmed int `json:"confirmed"`
	Returned  int `json:"returned"`
	Cancelled int `json:"cancelled"`
	UnderWay  int `json:"under_way"` // within their deadlines
	Stuck     int `json:"stuck"`
	Wrong     int `json:"wrong"` // neither ended nor under way, and nothing explains it
}

// Total is the number of orders.
func (o Orders) Total() int {
	return o.Confirmed + o.Returned + o.Cancelled + o.UnderWay + o.Stuck + o.Wrong
}

// Check is one kind of thing that was looked at.
type Check struct {
	Name     string    `json:"check"`
	What     string    `json:"what"`
	LookedAt int       `json:"looked_at"` // rows
	Skipped  string    `json:"skipped,omitempty"`
	Wrong    int       `json:"wrong"`
	Stuck    int       `json:"stuck"`
	Findings []Finding `json:"findings"` // the first of them
}

// Finding is a row that is wrong, or stuck, and why.
type Finding struct {
	Row    string `json:"row"`
	Detail string `json:"detail"`
	Stuck  bool   `json:"stuck,omitempty"`
}

// mostFindings bounds what is kept of one check: a system that is off by a whole
// table is told by its first rows and their number.
const mostFindings = 1000

// wrong records a row that is not as it should be.
func (c *Check) wrong(row, format string, args ...any) {
	c.Wrong++
	c.keep(Finding{Row: row, Detail: fmt.Sprintf(format, args...)})
}

// stuck records a row that waits for somebody's help.
func (c *Check) stuck(row, format string, args ...any) {
	c.Stuck++
	c.keep(Finding{Row: row, Detail: fmt.Sprintf(format, args...), Stuck: true})
}

func (c *Check) keep(f Finding) {
	if len(c.Findings) < mostFindings {
		c.Findings = append(c.Findings, f)
	}
}

// checks are all there are, in the order in which they are reported: what others
// build on comes first.
type checks struct {
	ticks, streams, lanes, reactions, effects, orders, money, shipments, stock, states, lists, mails, replies *Check
}

func newChecks() checks {
	check := func(name, what string) *Check { return &Check{Name: name, What: what, Findings: []Finding{}} }
	return checks{
		ticks:     check("ticks", "ticks are dense, snapshots only grow, epochs are known"),
		streams:   check("streams", "versions are dense, each event is in a tick or newer than the last"),
		lanes:     check("lanes", "progress is dense, cursors only move on and fit the log"),
		reactions: check("reactions", "each event was handled once, as declared"),
		effects:   check("effects", "each effect and deadline has one end, or is open and not overdue"),
		orders:    check("orders", "each order has ended or is within its deadline"),
		money:     check("money", "what the provider took and gave back is what our events say"),
		shipments: check("shipments", "the carrier has a booking for what is shipped, none for what is cancelled"),
		stock:     check("stock", "on hand and reserved are what the log says, and were never negative"),
		states:    check("states", "stored states and baselines are what the log says"),
		lists:     check("order list", "the read model is what the log says"),
		mails:     check("mails", "one mail in the folder for each end of an order"),
		replies:   check("replies", "each remembered answer is of a commit that exists"),
	}
}

func (c checks) list() []*Check {
	return []*Check{c.ticks, c.streams, c.lanes, c.reactions, c.effects, c.orders, c.money, c.shipments, c.stock, c.states, c.lists, c.mails, c.replies}
}

func (a *auditor) report(took time.Duration) *Report {
	r := &Report{AsOf: a.clock.UTC(), Seconds: took.Seconds(), Orders: a.orders, Money: a.money.list(), Checks: a.checks.list()}
	for _, c := range r.Checks {
		r.Wrong += c.Wrong
		r.Stuck += c.Stuck
	}
	r.OK = r.Wrong == 0
	return r
}
