package courante

import (
	"sync"
	"time"
)

// pace finds out how many calls to make at once. Too few leave work waiting that
// the other side would do; too many only make each of them slower, and press on
// somebody who is in trouble already.
//
// It climbs by trying: while there is more to do than it lets through, it
// doubles the limit, and goes back if that did not get more done. Calls that
// fail halve it.
type pace struct {
	most int

	mu    sync.Mutex // guards what follows
	limit int
	call  float64 // seconds that a call takes, smoothed

	// The window that is being measured, and what came of the ones before.
	began        time.Time
	done, failed int
	waited       bool    // somebody had to wait in it
	raised       bool    // the limit was raised before it
	rate         float64 // calls per second before it was raised
	rest         int     // windows to go until it is tried again
}

const (
	paceFirst  = 32
	paceLeast  = 2
	paceWindow = 250 * time.Millisecond
	paceGain   = 1.1 // what twice the calls at once must get done more, at least
	paceRest   = 20  // windows for which the limit stays after a try that was in vain
)

func newPace(most int) *pace { return &pace{most: most, limit: min(most, paceFirst)} }

// Limit is how many calls may be under way.
func (p *pace) Limit() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit
}

// note counts a call that took so long, which ended now. waiting says that other
// calls could have begun and were not let.
func (p *pace) note(now time.Time, took time.Duration, failed, waiting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.call == 0 {
		p.call = took.Seconds()
	}
	p.call += (took.Seconds() - p.call) / 32
	if p.began.IsZero() {
		p.began = now
	}
	p.done++
	if failed {
		p.failed++
	}
	p.waited = p.waited || waiting
	if length := now.Sub(p.began); length >= paceWindow && p.done >= p.limit {
		p.turn(float64(p.done) / length.Seconds())
		p.began, p.done, p.failed, p.waited = now, 0, 0, false
	}
}

// turn sets the limit for the next window. The mutex is held.
func (p *pace) turn(rate float64) {
	raised := p.raised
	p.raised = false
	switch {
	case p.failed*4 > p.done:
		p.limit = max(min(paceLeast, p.most), p.limit/2)
		p.rest = paceRest
	case raised && !p.waited: // there was not enough to do to tell
	case raised && rate < p.rate*paceGain:
		p.limit = max(1, p.limit/2)
		p.rest = paceRest
	case p.rest > 0:
		p.rest--
	case p.waited && p.limit < p.most:
		p.limit, p.rate, p.raised = min(p.most, 2*p.limit), rate, true
	}
}

// drain is how many seconds so many calls take.
func (p *pace) drain(calls int) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(calls) * p.call / float64(p.limit)
}
