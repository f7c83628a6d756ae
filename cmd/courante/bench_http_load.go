package main

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// load is a kind of request that many connections send.
type load struct {
	address string
	conns   int

	// prepare makes the connection's next request; it may use the buffer.
	prepare func(conn int, buffer []byte) []byte
	// check looks at its answer; an error is a wrong answer.
	check func(conn int, a loadAnswer) error
}

// measured is what came of a load.
type measured struct {
	N       int            `json:"n"`
	Seconds float64        `json:"seconds"`
	PerS    float64        `json:"per_s"`
	P50     float64        `json:"p50_ms"`
	P95     float64        `json:"p95_ms"`
	P99     float64        `json:"p99_ms"`
	P999    float64        `json:"p999_ms"`
	Max     float64        `json:"max_ms"`
	Status  map[string]int `json:"status"`          // answers by status
	Wrong   string         `json:"wrong,omitempty"` // the first wrong answer, or why there was none
}

// sender is one connection's part of a load.
type sender struct {
	took   []time.Duration
	status map[int]int
	err    error
}

// closed sends on each connection the next request as soon as the last is
// answered, until ctx ends: what the system takes at most.
func (l *load) closed(ctx context.Context) (measured, error) {
	return l.run(ctx, func() (time.Time, bool) { return time.Now(), ctx.Err() == nil })
}

// open sends requests at a constant rate until ctx ends, whatever the system
// does. How long one took counts from when it was due: one that waits for a
// connection because the others are stuck was slow as well, as its user would
// say. (To count from the sending is "coordinated omission".)
func (l *load) open(ctx context.Context, rate float64) (measured, error) {
	due := make(chan time.Time, 1<<16) // some seconds of any rate; who is that late has collapsed
	go pace(ctx, rate, due)
	return l.run(ctx, func() (time.Time, bool) {
		at, ok := <-due
		return at, ok && ctx.Err() == nil
	})
}

// pace says when requests are due. It sleeps in the kernel, because Go's timers
// are late by up to a millisecond, which would count as the system's.
func pace(ctx context.Context, rate float64, due chan<- time.Time) {
	defer close(due)
	start := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		at := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if wait := time.Until(at); wait > 0 {
			pause := syscall.NsecToTimespec(wait.Nanoseconds())
			_ = syscall.Nanosleep(&pause, nil) // cut short, the request is a moment early
		}
		select {
		case due <- at:
		case <-ctx.Done():
		}
	}
}

// run has each connection ask next when its request is due, and send it then.
// What is under way when next says no more is still answered.
func (l *load) run(ctx context.Context, next func() (time.Time, bool)) (measured, error) {
	senders := make([]sender, l.conns)
	conns := make([]*loadConn, l.conns)
	for i := range conns {
		c, err := dialLoad(ctx, l.address)
		if err != nil {
			return measured{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	start := time.Now()
	var broken atomic.Bool
	var wg sync.WaitGroup
	for i := range senders {
		senders[i].status = map[int]int{}
		wg.Go(func() {
			if senders[i].err = l.send(i, conns[i], &senders[i], next, &broken); senders[i].err != nil {
				broken.Store(true)
			}
		})
	}
	wg.Wait()
	m := summarize(senders, time.Since(start))
	return m, nil
}

func (l *load) send(i int, c *loadConn, s *sender, next func() (time.Time, bool), broken *atomic.Bool) error {
	var buffer []byte
	for !broken.Load() {
		at, ok := next()
		if !ok {
			break
		}
		buffer = l.prepare(i, buffer)
		a, err := c.do(buffer)
		if err != nil {
			return err
		}
		s.took = append(s.took, time.Since(at))
		s.status[a.status]++
		if err := l.check(i, a); err != nil {
			return err
		}
	}
	return nil
}

func summarize(senders []sender, elapsed time.Duration) measured {
	m := measured{Seconds: elapsed.Seconds(), Status: map[string]int{}}
	var all []time.Duration
	for _, s := range senders {
		all = append(all, s.took...)
		if s.err != nil && m.Wrong == "" {
			m.Wrong = s.err.Error()
		}
		for status, n := range s.status {
			m.Status[strconv.Itoa(status)] += n
		}
	}
	m.N = len(all)
	m.PerS = float64(m.N) / m.Seconds
	if m.N == 0 {
		return m
	}
	slices.Sort(all)
	at := func(share float64) float64 {
		return float64(all[int(share*float64(len(all)-1))].Microseconds()) / 1000
	}
	m.P50, m.P95, m.P99, m.P999, m.Max = at(0.50), at(0.95), at(0.99), at(0.999), at(1)
	return m
}

// statuses are the statuses that came, in order.
func (m *measured) statuses() []string { return slices.Sorted(maps.Keys(m.Status)) }
