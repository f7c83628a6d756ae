package courante

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

// governor divides the machine between those who wait for an answer, commands
// and reads, and what follows from them, which waits in the log and loses
// nothing by it. As long as answers come as fast as they can, nothing is held
// back. When they become slow, the work behind gets less, down to a share that
// it always has: the log may grow for as long as a burst lasts, but it is worked
// off all the time. The machine's own speed, its disk's above all, is no reason
// to hold anything back: slow is measured against the best that was seen.
type governor struct {
	processors float64
	now        func() time.Time

	mu     sync.Mutex // guards what follows
	front  [kindsOfFront]front
	until  time.Time // end of the window
	under  int       // requests under way
	share  float64   // of the processors, for the work behind; 1: as much as it takes
	units  int       // of the work behind, under way
	next   time.Time // not before is the next one begun
	queues [kindsOfBehind]behindQueue
	looker *time.Timer // set while somebody waits
}

// behindKind tells kinds of work behind apart, each of which gets as much as
// the other: the performers are many and would keep the lanes out.
type behindKind int

const (
	behindLane behindKind = iota
	behindEffect
	kindsOfBehind
)

// behindQueue is who waits, in order, and how much those before had.
type behindQueue struct {
	turns []chan struct{}
	had   time.Duration
}

// frontKind tells requests whose usual times differ.
type frontKind int

const (
	frontCommand frontKind = iota
	frontRead
	kindsOfFront
)

// front is how one kind of request fares.
type front struct {
	best  float64 // seconds: the least mean of a window
	n     int     // ended in this window
	slow  int     // those of them that took too long
	total float64 // seconds that they took
}

const (
	// frontWindow is how often the share is decided on: some commits long.
	frontWindow = 20 * time.Millisecond
	// leastShare is what the work behind always gets.
	leastShare = 0.2
	// lessShare and moreShare are how the share follows: down at once, because
	// people wait, and up slowly, to stay near where answers become slow.
	lessShare, moreShare = 0.5, 0.02
	// slowFactor is how much longer than the best mean is too long, and
	// slowFloor how long nobody minds.
	slowFactor, slowFloor = 3, 0.003
	// slowShare of the requests may take too long, as a disk's flush does now and then.
	slowShare = 0.02
	// forgetBest lets the best be forgotten over some hours, in which a machine changes.
	forgetBest = 1.00001
)

func newGovernor(now func() time.Time) *governor {
	return &governor{processors: float64(runtime.GOMAXPROCS(0)), now: now, share: 1}
}

// answering notes that somebody waits for an answer, until done.
func (g *governor) answering(kind frontKind) (done func()) {
	start := g.now()
	g.mu.Lock()
	g.under++
	g.mu.Unlock()
	return func() {
		now := g.now()
		took := now.Sub(start).Seconds()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.under--
		f := &g.front[kind]
		f.n++
		f.total += took
		if took > f.limit() {
			f.slow++
		}
		g.decide(now)
		g.admit(now)
	}
}

func (f *front) limit() float64 { return max(slowFloor, slowFactor*f.best) }

// decide sets the share by what happened in the window, once it is over.
func (g *governor) decide(now time.Time) {
	if now.Before(g.until) {
		return
	}
	n, slow := 0, 0
	for i := range g.front {
		f := &g.front[i]
		if f.n > 0 {
			mean := f.total / float64(f.n)
			if f.best *= forgetBest; f.best == 0 || mean < f.best {
				f.best = mean
			}
		}
		n, slow = n+f.n, slow+f.slow
		f.n, f.slow, f.total = 0, 0, 0
	}
	g.until = now.Add(frontWindow)
	switch {
	case n == 0 && g.under == 0:
		g.share = 1 // nobody waits
	case float64(slow) > slowShare*float64(n):
		g.share = max(leastShare, g.share*lessShare)
	default:
		g.share = min(1, g.share+moreShare)
	}
}

// behind waits until a unit of the work behind may begin; its end is told to
// done. When ctx ends it begins at once: what it does notices by itself.
func (g *governor) behind(ctx context.Context) (done func()) {
	g.wait(ctx, behindLane)
	start := g.now()
	return func() { g.done(behindLane, g.now().Sub(start)) }
}

// toll is for effects, which mostly wait for somebody outside: one is admitted
// in its turn and then counts as so much work, however long it takes.
func (g *governor) toll(ctx context.Context, price time.Duration) {
	g.wait(ctx, behindEffect)
	g.done(behindEffect, price)
}

func (g *governor) wait(ctx context.Context, kind behindKind) {
	g.mu.Lock()
	now := g.now()
	g.decide(now)
	if g.waiting() == 0 && g.open(now) {
		g.units++
		g.mu.Unlock()
		return
	}
	q := &g.queues[kind]
	if len(q.turns) == 0 { // who asked for nothing saves nothing up
		for _, other := range g.queues {
			if len(other.turns) > 0 {
				q.had = max(q.had, other.had)
			}
		}
	}
	turn := make(chan struct{})
	q.turns = append(q.turns, turn)
	g.admit(now)
	g.mu.Unlock()
	select {
	case <-turn:
		return
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(q.turns, turn); i >= 0 {
		q.turns = slices.Delete(q.turns, i, i+1)
		g.units++
	}
}

// done ends a unit, and makes the next wait as long as brings the work behind
// down to its share.
func (g *governor) done(kind behindKind, worked time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.units--
	g.queues[kind].had += worked
	if g.share < 1 {
		most := float64(g.most())
		rest := float64(worked) * (most/(g.share*g.processors) - 1) / most
		if g.next.Before(now) {
			g.next = now
		}
		g.next = g.next.Add(max(time.Duration(rest), 0))
	}
	g.decide(now)
	g.admit(now)
}

// most is how many units may be under way at once.
func (g *governor) most() int { return max(1, int(g.share*g.processors)) }

// open reports whether a unit may begin now.
func (g *governor) open(now time.Time) bool {
	return g.share >= 1 || g.units < g.most() && !now.Before(g.next)
}

func (g *governor) waiting() (n int) {
	for i := range g.queues {
		n += len(g.queues[i].turns)
	}
	return n
}

// admit lets in who may begin, and looks again later if somebody still waits.
func (g *governor) admit(now time.Time) {
	for g.waiting() > 0 && g.open(now) {
		var first *behindQueue
		for i := range g.queues {
			if q := &g.queues[i]; len(q.turns) > 0 && (first == nil || q.had < first.had) {
				first = q
			}
		}
		g.units++
		close(first.turns[0])
		first.turns = first.turns[1:]
	}
	if g.waiting() == 0 || g.looker != nil {
		return
	}
	g.looker = time.AfterFunc(min(max(g.next.Sub(now), time.Millisecond), frontWindow), g.look)
}

func (g *governor) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looker = nil
	now := g.now()
	g.decide(now)
	g.admit(now)
}
