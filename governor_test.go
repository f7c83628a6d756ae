package courante

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// answers lets somebody ask without pause for a while, each answer taking so long.
func answers(g *governor, kind frontKind, each, total time.Duration) {
	for end := time.Now().Add(total); time.Now().Before(end); {
		done := g.answering(kind)
		time.Sleep(each)
		done()
	}
}

// workBehind does units behind until ctx ends and returns how long they took in all.
func workBehind(ctx context.Context, g *governor, each time.Duration) (worked time.Duration) {
	for ctx.Err() == nil {
		done := g.behind(ctx)
		time.Sleep(each)
		worked += each
		done()
	}
	return worked
}

func newTestGovernor() *governor {
	g := newGovernor(time.Now)
	g.processors = 2
	return g
}

func TestFastAnswersHoldNothingBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newTestGovernor()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go answers(g, frontRead, 2*time.Millisecond, 10*time.Second)
		if worked := workBehind(ctx, g, 10*time.Millisecond); worked < 9900*time.Millisecond {
			t.Errorf("the work behind got %s of 10 s though nobody had to wait", worked)
		}
	})
}

// A disk that takes 20 ms for each commit is no reason to hold anything back.
func TestSlowMachineHoldsNothingBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newTestGovernor()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go answers(g, frontCommand, 20*time.Millisecond, 10*time.Second)
		if worked := workBehind(ctx, g, 10*time.Millisecond); worked < 9900*time.Millisecond {
			t.Errorf("the work behind got %s of 10 s though commands were as fast as ever", worked)
		}
	})
}

func TestSlowAnswersLeaveTheWorkBehindItsShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newTestGovernor()
		answers(g, frontCommand, time.Millisecond, time.Second) // the best that was seen
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go answers(g, frontCommand, 10*time.Millisecond, 10*time.Second)
		worked := make(chan time.Duration, 2)
		for range cap(worked) {
			go func() { worked <- workBehind(ctx, g, 5*time.Millisecond) }()
		}
		got := (<-worked + <-worked).Seconds()
		if want := 10 * leastShare * g.processors; got < 0.9*want || got > 1.2*want {
			t.Errorf("the work behind got %.1f s of 10 s, want %.1f", got, want)
		}
		start := time.Now()
		for g.share < 1 {
			done := g.behind(t.Context())
			time.Sleep(time.Millisecond)
			done()
		}
		if took := time.Since(start); took > 10*frontWindow {
			t.Errorf("it was held back for %s after the last answer", took)
		}
	})
}

// The lanes are few and the performers hundreds; both get as much.
func TestEffectsDoNotKeepLanesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newTestGovernor()
		answers(g, frontCommand, time.Millisecond, time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var all sync.WaitGroup
		defer all.Wait()
		all.Go(func() { answers(g, frontCommand, 10*time.Millisecond, 10*time.Second) })
		for range 500 {
			all.Go(func() {
				for ctx.Err() == nil {
					g.toll(ctx, time.Millisecond)
					time.Sleep(time.Millisecond)
				}
			})
		}
		got := workBehind(ctx, g, 5*time.Millisecond).Seconds()
		if least := 10 * leastShare * g.processors / 2 * 0.8; got < least {
			t.Errorf("a lane got %.2f s beside 500 performers, want at least %.2f", got, least)
		}
	})
}

// Whoever is told to stop does not wait for his turn.
func TestStopDoesNotWaitForATurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newTestGovernor()
		answers(g, frontCommand, time.Millisecond, time.Second)
		answers(g, frontCommand, 10*time.Millisecond, time.Second)
		busy := g.behind(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Millisecond, cancel)
		start := time.Now()
		g.behind(ctx)()
		if took := time.Since(start); took > 3*time.Millisecond {
			t.Errorf("it waited %s", took)
		}
		busy()
	})
}
