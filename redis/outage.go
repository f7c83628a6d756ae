package redis

// outage tells what lasts from what passes. The breaker need not: to leave Redis
// out for a quarter of a second costs some reads of the source of truth. But
// people want to hear of Redis, and not that this process got no CPU for the
// time that a read may take, as happens on a busy machine many times an hour.
type outage struct {
	is   bool
	odds int // looks in a row that say the opposite
}

// outageLooks is after how many looks in a row an outage has begun, or is over:
// a second.
const outageLooks = 4

// look takes in whether Redis is fine at this moment, and reports whether an
// outage has begun or ended with it. One of a Redis that was never reached
// begins at once.
func (o *outage) look(fine, never bool) (began, ended bool) {
	if fine != o.is {
		o.odds = 0
		return false, false
	}
	if o.odds++; o.odds < outageLooks && !never {
		return false, false
	}
	o.is, o.odds = !o.is, 0
	return o.is, !o.is
}
