package audit

import (
	"fmt"
	"strings"
	"time"
)

// checkOpen looks at what an order waits for.
func (a *auditor) checkOpen(d *dossier) {
	for i := range d.pending {
		p := &d.pending[i]
		log := orderStreams[i].log
		bounded := false // by a deadline that is not overdue
		for _, dl := range p.deadlines {
			overdue := a.late(dl.due)
			bounded = bounded || !overdue
			if overdue {
				a.checks.effects.wrong(log+"/"+orderStreams[i].category+":"+d.id, "%s passed, and nothing came of it", dl)
				d.wrong = true
			} else {
				d.waits = append(d.waits, wait{what: dl.name})
			}
		}
		for _, r := range p.effects {
			overdue := !bounded && a.late(r.asked)
			what := "effect " + r.name + " of " + log
			if overdue {
				what = fmt.Sprintf("the other side of %s does not answer %s, asked at %s", log, r.id, r.asked.UTC().Format(time.RFC3339))
			}
			d.waits = append(d.waits, wait{what, overdue})
		}
	}
}

// place says where an order stands: ended, under way, stuck, or none of them.
func (a *auditor) place(d *dossier) {
	c := a.checks.orders
	c.LookedAt++
	name := "order " + d.id
	if cause := a.stuckOn(d); cause != "" {
		c.stuck(name, "%s", cause)
		a.orders.Stuck++
		return
	}
	f := &d.facts
	switch {
	case f.confirmed != nil && f.cancelled != nil:
		c.wrong(name, "it is both confirmed and cancelled")
		a.orders.Wrong++
	case f.returned:
		a.orders.Returned++
	case f.confirmed != nil:
		a.orders.Confirmed++
	case f.cancelled != nil:
		a.orders.Cancelled++
	case d.wrong:
		c.wrong(name, "it has not ended; see what else is reported of it")
		a.orders.Wrong++
	case len(d.waits) == 0:
		c.wrong(name, "it has not ended, and nothing is to come that would end it, since %s", d.last().UTC().Format(time.RFC3339))
		a.orders.Wrong++
	default:
		a.orders.UnderWay++
	}
}

// stuckOn is why an order needs somebody's help; "" if it does not.
func (a *auditor) stuckOn(d *dossier) string {
	for _, s := range a.services {
		for _, events := range d.events {
			for i := range events {
				for _, p := range a.parked[parkedKey(s.name, events[i].id)] {
					if p.cause != "" && !p.retried {
						cause, _, _ := strings.Cut(p.cause, "\n")
						return fmt.Sprintf("%s has parked %s (%q): %s", s.name, events[i].id, p.reaction, cause)
					}
				}
			}
		}
	}
	for _, w := range d.waits {
		if w.overdue {
			return w.what
		}
	}
	return ""
}
