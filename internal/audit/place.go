package audit

import (
	"fmt"
	"strings"
	"time"
)

// checkOpen looks at what a saga waits for.
func (a *auditor) checkOpen(d *dossier, t *thread) {
	for i := range t.pending {
		p := &t.pending[i]
		bounded := false // by a deadline that is not overdue
		for _, dl := range p.deadlines {
			overdue := a.late(dl.due)
			bounded = bounded || !overdue
			if overdue {
				a.checks.effects.wrong(dl.stream, "%s passed, and nothing came of it", dl)
				d.wrong = true
			} else {
				d.waits = append(d.waits, wait{what: dl.name})
			}
		}
		for _, r := range p.effects {
			overdue := !bounded && a.late(r.asked)
			what := "effect " + r.name + " of " + names[i]
			if overdue {
				what = fmt.Sprintf("the other side of %s does not answer %s, asked at %s", names[i], r.id, r.asked.UTC().Format(time.RFC3339))
			}
			d.waits = append(d.waits, wait{what, overdue})
		}
	}
}

// place says where an order stands: ended, under way, stuck, or none of them.
func (a *auditor) place(d *dossier) {
	c := a.checks.orders
	c.LookedAt++
	if cause := a.stuckOn(d); cause != "" {
		c.stuck(d.name(), "%s", cause)
		a.orders.Stuck++
		return
	}
	f := &d.facts
	open := "" // the first saga of it that has not ended
	switch {
	case f.confirmed == nil && f.cancelled == nil:
		open = d.name()
	default:
		for _, r := range f.returns {
			if r.completed == nil || r.closed == nil {
				open = r.thread.name(d)
				break
			}
		}
	}
	switch {
	case f.confirmed != nil && f.cancelled != nil:
		c.wrong(d.name(), "it is both confirmed and cancelled")
		a.orders.Wrong++
	case open != "" && d.wrong:
		c.wrong(open, "it has not ended; see what else is reported of it")
		a.orders.Wrong++
	case open != "" && len(d.waits) == 0 && a.givenUp(d) != "":
		c.stuck(open, "%s", a.givenUp(d))
		a.orders.Stuck++
	case open != "" && len(d.waits) == 0:
		c.wrong(open, "it has not ended, and nothing is to come that would end it, since %s", d.last().UTC().Format(time.RFC3339))
		a.orders.Wrong++
	case open != "":
		a.orders.UnderWay++
	case f.cancelled != nil:
		a.orders.Cancelled++
	case f.returned:
		a.orders.Returned++
	default:
		a.orders.Confirmed++
	}
}

func (d *dossier) last() (at time.Time) {
	for i := range d.threads {
		if last := d.threads[i].last(); last.After(at) {
			at = last
		}
	}
	return at
}

// givenUp is which of the order's messages an operator has discarded; "" if none.
func (a *auditor) givenUp(d *dossier) string {
	for _, s := range a.services {
		for id := range d.byID {
			for _, p := range a.parked[parkedKey(s.name, id)] {
				if p.discarded != "" {
					return fmt.Sprintf("it has not ended, because %s was discarded for %s (%q): %s", id, s.name, p.reaction, p.discarded)
				}
			}
		}
	}
	return ""
}

// stuckOn is why an order needs somebody's help; "" if it does not.
func (a *auditor) stuckOn(d *dossier) string {
	if len(a.parked) > 0 {
		for _, s := range a.services {
			for id := range d.byID {
				for _, p := range a.parked[parkedKey(s.name, id)] {
					if p.cause != "" && !p.retried && p.discarded == "" {
						cause, _, _ := strings.Cut(p.cause, "\n")
						return fmt.Sprintf("%s has parked %s (%q): %s", s.name, id, p.reaction, cause)
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
