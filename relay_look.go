package courante

import (
	"context"
	"time"
)

const (
	// queueLong is how many messages may wait in a lane's queue before the relay
	// stops to send: seconds of work for the fastest of lanes, some ten megabytes
	// for the broker. What comes after is better kept by the log, which has it
	// anyway, than by the broker, which must not run full.
	queueLong = 20_000
	// queueLook is after how many messages the relay looks at the queues of a
	// subscription. A look costs the broker as much as some tens of messages.
	queueLook = 5_000
	// queueWait is how long it leaves long queues before it looks again.
	queueWait = 250 * time.Millisecond
)

// look finds out which subscribers have to catch up before they are sent more:
// those of which a queue is long.
func (r *relay) look(ctx context.Context) error {
	now := r.rt.now()
	for _, s := range r.subs {
		if s.long && now.Sub(s.looked) < queueWait || !s.long && s.sent < queueLook {
			continue
		}
		long := false
		for k := range s.Last {
			depth, err := r.rt.cfg.Broker.Depth(ctx, s.queue(k))
			if err != nil {
				return err
			}
			long = long || depth >= queueLong
		}
		if long != s.long {
			r.rt.log.Info("a subscriber's queue is long or short again; the log keeps what comes until it is short",
				"log", r.store.Log(), "subscriber", s.Subscriber, "long", long)
		}
		s.long, s.sent, s.looked = long, 0, now
	}
	return nil
}
