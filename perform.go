package courante

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// performers make the calls to the outside that the parts of a service's agenda
// ask for.
type performers struct {
	n        *node
	asked    chan struct{}       // wakes one performer for each effect that is ready
	breakers map[string]*breaker // by effect
	pace     *pace

	mu    sync.Mutex // guards what follows
	ready []*task    // effects that wait for a performer
	busy  int        // calls under way
}

func newPerformers(n *node) *performers {
	p := &performers{n: n, asked: make(chan struct{}, n.rt.cfg.Performers), breakers: map[string]*breaker{}, pace: newPace(n.rt.cfg.Performers)}
	for name := range n.svc.effects {
		p.breakers[name] = &breaker{}
	}
	return p
}

// add hands effects to whoever is idle. A service without effects has nobody.
func (p *performers) add(tasks ...*task) {
	if len(tasks) == 0 {
		return
	}
	p.mu.Lock()
	p.ready = append(p.ready, tasks...)
	p.mu.Unlock()
	p.wake()
}

// wake wakes as many performers as may begin with something.
func (p *performers) wake() {
	p.mu.Lock()
	n := min(len(p.ready), p.limit()-p.busy)
	p.mu.Unlock()
	for range n {
		select {
		case p.asked <- struct{}{}:
		default:
			return // all of them are awake
		}
	}
}

// limit is how many calls may be under way at once.
func (p *performers) limit() int {
	if p.n.rt.cfg.Stepped {
		return p.n.rt.cfg.Performers
	}
	return p.pace.Limit()
}

// step takes one effect that is due, makes the call if it has no answer yet,
// and has its outcome decided on. It is the step of each performer.
func (p *performers) step(ctx context.Context) (bool, error) {
	t := p.take()
	if t == nil {
		return false, nil
	}
	start := time.Now()
	outcome := t.of.perform(ctx, t)
	p.release(time.Since(start), outcome)
	return true, nil
}

// take returns the effect that has waited longest, if another call may begin.
func (p *performers) take() *task {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.busy < p.limit() && len(p.ready) > 0 {
		t := p.ready[0]
		p.ready[0] = nil
		p.ready = p.ready[1:]
		p.mu.Unlock()
		wanted := t.of.wants(t)
		p.mu.Lock()
		if wanted {
			p.busy++
			return t
		}
	}
	return nil
}

// performed is what became of an effect that a performer took.
type performed int

const (
	notCalled performed = iota // it has its answer already, or has to wait
	callFailed
	callAnswered
)

func (p *performers) release(took time.Duration, outcome performed) {
	p.mu.Lock()
	p.busy--
	waiting := len(p.ready) > 0
	p.mu.Unlock()
	if outcome != notCalled && !p.n.rt.cfg.Stepped {
		p.pace.note(time.Now(), took, outcome == callFailed, waiting)
	}
	p.wake()
}

// drain is how many seconds it takes to make the calls that are asked for now,
// in this process.
func (p *performers) drain() float64 {
	p.mu.Lock()
	open := len(p.ready) + p.busy
	p.mu.Unlock()
	return p.pace.drain(open)
}

// wants reports whether the agenda still wants the effect performed now. It
// does not before it has caught up: otherwise a start would call for effects
// that were carried out long ago, and other parties do not remember their keys
// for ever.
func (a *agenda) wants(t *task) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.tasks[t.id()] != t || t.settled:
		t.busy = false // dropped while it waited
		return false
	case !a.known:
		a.held = append(a.held, t)
		return false
	}
	return true
}

// perform makes the call of one effect, unless it is answered already, and has
// its outcome decided on.
func (a *agenda) perform(ctx context.Context, t *task) (did performed) {
	if !t.answered {
		ef := a.n.svc.effects[t.Effect.Effect]
		if ef == nil {
			a.later(t, fmt.Errorf("effect %q is not declared in this program", t.Effect.Effect))
			return notCalled
		}
		b := a.n.performers.breakers[t.Effect.Effect]
		repeated := t.attempts > 0
		if wait := b.wait(a.n.rt.now(), repeated); wait > 0 {
			a.postpone(t, wait)
			return notCalled
		}
		out, err := a.call(ctx, ef, t)
		b.note(a.n.rt.now(), repeated, err)
		if err != nil {
			a.later(t, err)
			return callFailed
		}
		t.outcome, t.answered, t.attempts = out, true, 0
		did = callAnswered
	}
	it := a.answered(t)
	ctx = a.n.rt.begin(ctx, it, a.n.svc.name+" "+it.step.Name)
	err := a.n.submit(ctx, it)
	if err == nil {
		err = it.err
	}
	it.end(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.failed(t, "outcome of effect "+t.Effect.ID, err)
		a.actor.Wake()
		return did
	}
	t.busy, t.settled = false, true
	return did
}

// call makes one attempt. After an attempt with an unknown outcome the other
// side is asked first what became of it.
func (a *agenda) call(ctx context.Context, ef *effect, t *task) (out any, err error) {
	start := time.Now()
	ctx, finish := a.n.rt.beginEffect(ctx, a.n, ef, t)
	defer func() {
		finish(err)
		a.n.rt.metrics.effect(ctx, a.n, ef, time.Since(start), err)
	}()
	if !a.n.rt.cfg.Stepped {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, ef.timeout)
		defer cancel()
	}
	if t.unknown && ef.resolve != nil {
		found := false
		err := guard(func() (err error) {
			out, found, err = ef.resolve(ctx, *t.Effect)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("ask what became of it: %w", err)
		}
		if found {
			return out, nil
		}
		t.unknown = false
	}
	err = guard(func() (err error) {
		out, err = ef.perform(ctx, *t.Effect)
		return err
	})
	if errors.Is(err, ErrUnknownOutcome) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		t.unknown = true
	}
	return out, err
}

// guard turns a panic of the service's code into an error of unknown outcome.
func guard(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Unknown(fmt.Errorf("panic: %v", p))
		}
	}()
	return call()
}

// later puts an effect off after a failed attempt. It is tried until it has an
// outcome or a decision drops it.
func (a *agenda) later(t *task, err error) {
	a.mu.Lock()
	t.attempts++
	attempts := t.attempts
	a.mu.Unlock()
	pause := a.n.rt.backoff(attempts, 50*time.Millisecond, 30*time.Second)
	a.n.rt.log.Warn("effect failed; trying again", "service", a.n.svc.name, "effect", t.Effect.Effect, "effect_id", t.Effect.ID,
		"correlation_id", t.Correlation, "attempts", attempts, "unknown_outcome", t.unknown, "pause_ms", pause.Milliseconds(), "error", err)
	a.postpone(t, pause)
}

func (a *agenda) postpone(t *task, pause time.Duration) {
	a.mu.Lock()
	t.at, t.busy = a.n.rt.now().Add(pause), false
	a.alarms.push(t)
	a.mu.Unlock()
	a.actor.Wake()
}

// answered is the item of an effect's outcome.
func (a *agenda) answered(t *task) *item {
	category, id, _ := strings.Cut(t.Stream, ":")
	it := &item{
		correlation: t.Correlation, causation: t.Effect.ID, parent: t.Trace,
		closing: &closing{key: a.n.svc.key(category, id), effect: t.Effect.ID},
	}
	it.keys = []Key{it.closing.key}
	ef := a.n.svc.effects[t.Effect.Effect]
	it.step, it.decide = ef.step, func(d *Decision) error { return ef.then(d, id, *t.Effect, t.outcome) }
	return it
}

// breaker keeps calls from a party that does not answer. After breakAfter
// failures in a row it opens; then one call at a time probes, less and less
// often, until one succeeds. Any success closes it.
//
// Only first attempts count. A call that fails again and again may be to blame
// itself, and must not stand in the way of others: neither by opening the
// breaker nor by being the one that probes. So repeated calls probe too, but
// beside the new ones.
type breaker struct {
	mu       sync.Mutex // guards what follows
	failures int
	until    [2]time.Time // for first attempts, and for repeated ones
}

const (
	breakAfter = 10
	breakMost  = 3 * time.Second // shorter than the deadlines that wait for the other side
)

// wait is how long a call has to wait; when it is zero the caller may try, and
// for the others of its kind the breaker stays open until it has answered.
func (b *breaker) wait(now time.Time, repeated bool) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakAfter {
		return 0
	}
	until := b.of(repeated)
	if now.Before(*until) {
		return until.Sub(now)
	}
	*until = now.Add(b.pause()) // this caller is the probe
	return 0
}

func (b *breaker) of(repeated bool) *time.Time {
	if repeated {
		return &b.until[1]
	}
	return &b.until[0]
}

func (b *breaker) pause() time.Duration {
	return min(time.Second<<min(b.failures-breakAfter, 10), breakMost)
}

func (b *breaker) note(now time.Time, repeated bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.failures = 0
		return
	}
	if !repeated {
		b.failures++
	}
	if b.failures >= breakAfter {
		*b.of(repeated) = now.Add(b.pause())
	}
}

// open reports whether calls are held back.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakAfter
}
