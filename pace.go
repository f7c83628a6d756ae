package courante

import (
	"sync"
	"time"
)

// pace finds out how many calls to make at once. Too few leave work waiting that
// the other side would do; too many only make each of them slower, and press on
// somebody who is in trouble already.
//
// It finds out by trying. While there is more to do than it lets through, it
// doubles the limit, and goes back if that did not get more done. While many
// calls fail, it halves the limit, and goes back if that got less done: then
// they do not fail because of us, and some calls that are never answered must
// not keep the others from being made. Against a party that answers none there
// is the [breaker].
type pace struct {
	most int

	mu    sync.Mutex // guards what follows
	limit int
	call  float64 // seconds that a call takes, smoothed

	// The window that is being measured, and what came of the ones before.
	began            time.Time
	answered, failed int
	waited           bool    // somebody had to wait in it
	try              try     // what was changed before it
	rate             float64 // answers per second before that
	up, down         int     // windows to go until it is tried again
}

type try int

const (
	triedNothing try = iota
	triedMore
	triedLess
)

const (
	paceFirst  = 32
	paceLeast  = 2
	paceWindow = 250 * time.Millisecond
	paceGain   = 1.1 // what twice the calls at once must get done more, at least
	paceLoss   = 0.9 // what half of them must get done still
	paceRest   = 20  // windows until what was in vain is tried again
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
	if failed {
		p.failed++
	} else {
		p.answered++
	}
	p.waited = p.waited || waiting
	if length := now.Sub(p.began); length >= paceWindow && p.answered+p.failed >= p.limit {
		p.turn(float64(p.answered) / length.Seconds())
		p.began, p.answered, p.failed, p.waited = now, 0, 0, false
	}
}

// turn sets the limit for the next window. The mutex is held.
func (p *pace) turn(rate float64) {
	tried := p.try
	p.try, p.up, p.down = triedNothing, max(0, p.up-1), max(0, p.down-1)
	change := func(limit int, as try) {
		p.limit, p.rate, p.try = max(1, min(p.most, limit)), rate, as
	}
	switch {
	case !p.waited: // there was not enough to do to tell
	case tried == triedMore && rate < p.rate*paceGain:
		change(p.limit/2, triedNothing)
		p.up = paceRest
	case tried == triedLess && p.answered > 0 && rate < p.rate*paceLoss:
		change(2*p.limit, triedNothing)
		p.down = paceRest
	case p.failed*4 > p.answered+p.failed && p.down == 0 && p.limit > paceLeast:
		change(max(paceLeast, p.limit/2), triedLess)
	case p.up == 0 && p.limit < p.most && (p.answered > 0 || p.failed == 0):
		change(2*p.limit, triedMore)
	}
}

// drain is how many seconds so many calls take.
func (p *pace) drain(calls int) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(calls) * p.call / float64(p.limit)
}
