package courante

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Broadcast tells all processes of a service what their watchers wait for, as
// fresh as can be: the events of watched states. It may lose any of them, or all;
// whoever misses one reads it. It is an interface because it is outside of the
// process: redis.Client.
type Broadcast interface {
	// Tell tells events of the log, in their order, and keeps the place behind
	// them.
	Tell(ctx context.Context, log string, events []Event, to Cursor) error

	// Place returns what Tell kept last; zero if there is nothing, any more.
	Place(ctx context.Context, log string) (Cursor, error)

	// Hear calls heard with what is told from now on of all the logs, one call at
	// a time, until ctx ends or the broadcast fails.
	Hear(ctx context.Context, logs []string, heard func(log string, events []Event)) error
}

// broadcaster tells what is new in the log of a service. One process of the
// service does. It goes on from the place that the broadcast keeps, so what was
// committed when the one before it died is told by the next.
//
// It has nothing to tell but what is fresh: what is older when the broadcast comes
// back is left out. Nobody waits for it.
type broadcaster struct {
	n      *node
	actor  *Actor
	opened bool
	at     Cursor
}

// broadcastBatch bounds what is told at once, by one message.
const broadcastBatch = 256

// broadcastTicks is how much of the log is told at most after a pause: some
// seconds of a busy one.
const broadcastTicks = 1000

// broadcastTimeout is how long telling may take: what is later is not fresh.
const broadcastTimeout = time.Second

// broadcasterName is how it is called in leases.
const broadcasterName = "broadcast"

func (rt *Runtime) enlistBroadcaster(n *node) {
	if rt.cfg.Broadcast == nil || len(n.svc.watches) == 0 {
		return
	}
	n.broadcaster = &broadcaster{n: n}
	n.broadcaster.actor = rt.actor("broadcast "+n.svc.name, n.broadcaster.step, nil)
}

func (b *broadcaster) step(ctx context.Context) (bool, error) {
	if !b.n.holds(broadcasterName) {
		b.opened = false
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, broadcastTimeout)
	defer cancel()
	log := b.n.svc.name
	tail := b.n.rt.tails[log]
	end := tail.end()
	if end == (Cursor{}) {
		return false, nil // it wakes us
	}
	if !b.opened {
		at, err := b.n.rt.cfg.Broadcast.Place(ctx, log)
		if err != nil {
			return false, fmt.Errorf("broadcast of %s: %w", log, err)
		}
		if at == (Cursor{}) || at.Epoch != end.Epoch || end.Before(at) { // there was none yet, or the log was restored
			at = end
		}
		b.at, b.opened = at, true
	}
	if end.Tick-b.at.Tick > broadcastTicks {
		b.n.rt.metrics.untold.Add(ctx, 1, b.n.labels.service)
		b.at = end
	}
	events, to, err := tail.read(ctx, b.at, broadcastBatch)
	var broken *LogBrokenError
	if errors.As(err, &broken) { // it was restored beneath the place
		b.at = end
		return true, nil
	}
	if err != nil {
		return false, err
	}
	var told []Event
	for i := range events {
		if b.n.svc.watched(events[i].Stream) {
			told = append(told, events[i])
		}
	}
	if len(told) > 0 {
		if err := b.n.rt.cfg.Broadcast.Tell(ctx, log, told, to); err != nil {
			return false, fmt.Errorf("broadcast of %s: %w", log, err)
		}
		b.n.rt.metrics.told.Add(ctx, int64(len(told)), b.n.labels.service)
	}
	worked := to != b.at
	b.at = to
	return worked, nil
}

// hearBroadcast hears what other processes tell, until ctx ends. One that fails
// is heard again after a pause; meanwhile the tails tell the same.
func (rt *Runtime) hearBroadcast(ctx context.Context) {
	if rt.cfg.Broadcast == nil {
		return
	}
	var logs []string
	for _, n := range rt.nodes {
		if len(n.svc.watches) > 0 {
			logs = append(logs, n.svc.name)
		}
	}
	if len(logs) == 0 {
		return
	}
	failures := 0
	for ctx.Err() == nil {
		err := rt.cfg.Broadcast.Hear(ctx, logs, func(log string, events []Event) {
			failures = 0
			if n := rt.byName[log]; n != nil {
				n.topics.hear(events)
			}
		})
		if failures++; err != nil && !errors.Is(err, context.Canceled) {
			rt.log.Debug("the broadcast is not heard", "failures", failures, "error", err)
		}
		pause(ctx, rt.backoff(failures, minPause, maxPause))
	}
}
