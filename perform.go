package courante

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// perform takes one effect that is due, makes the call if it has no answer yet,
// and has its outcome decided on. It is the step of each performer.
func (a *agenda) perform(ctx context.Context) (bool, error) {
	t := a.take()
	if t == nil {
		return false, nil
	}
	if !t.answered {
		ef := a.n.svc.effects[t.Effect.Effect]
		if ef == nil {
			a.later(t, fmt.Errorf("effect %q is not declared in this program", t.Effect.Effect))
			return true, nil
		}
		b := a.breakers[t.Effect.Effect]
		if wait := b.wait(a.n.rt.now()); wait > 0 {
			a.postpone(t, wait)
			return true, nil
		}
		out, err := a.call(ctx, ef, t)
		b.note(a.n.rt.now(), err)
		if err != nil {
			a.later(t, err)
			return true, nil
		}
		t.outcome, t.answered, t.attempts = out, true, 0
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
		return true, nil
	}
	t.busy, t.settled = false, true
	return true, nil
}

// take returns the effect that has waited longest; none before the agenda has
// caught up. Otherwise a start would call for effects that were carried out
// long ago, and other parties do not remember their keys for ever.
func (a *agenda) take() *task {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.known {
		return nil
	}
	for len(a.ready) > 0 {
		t := a.ready[0]
		a.ready[0] = nil
		a.ready = a.ready[1:]
		if a.tasks[t.id()] == t && !t.settled {
			return t
		}
		t.busy = false // dropped while it waited
	}
	return nil
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

// wakePerformers wakes as many performers as have something to do.
func (a *agenda) wakePerformers() {
	a.mu.Lock()
	n := len(a.ready)
	a.mu.Unlock()
	for range min(n, cap(a.asked)) {
		select {
		case a.asked <- struct{}{}:
		default:
			return // all of them are awake
		}
	}
}

// breaker keeps calls from a party that does not answer. After breakAfter
// failures in a row it opens; then one call at a time probes, less and less
// often, until one succeeds. Any success closes it.
type breaker struct {
	mu       sync.Mutex // guards what follows
	failures int
	until    time.Time
}

const (
	breakAfter = 10
	breakMost  = 3 * time.Second // shorter than the deadlines that wait for the other side
)

// wait is how long a call has to wait; when it is zero the caller may try, and
// for the others the breaker stays open until it has answered.
func (b *breaker) wait(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < breakAfter {
		return 0
	}
	if now.Before(b.until) {
		return b.until.Sub(now)
	}
	b.until = now.Add(b.pause()) // this caller is the probe
	return 0
}

func (b *breaker) pause() time.Duration {
	return min(time.Second<<min(b.failures-breakAfter, 10), breakMost)
}

func (b *breaker) note(now time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.failures = 0
		return
	}
	if b.failures++; b.failures >= breakAfter {
		b.until = now.Add(b.pause())
	}
}

// open reports whether calls are held back.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakAfter
}
