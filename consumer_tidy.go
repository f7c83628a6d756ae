package courante

import (
	"context"
	"slices"
)

// leaveFormer gives up the queues of lane counts that are over in every log, and
// leaves it to lane 0 to remove them.
func (c *consumer) leaveFormer(ctx context.Context, p *plan) {
	if c.n.rt.wire == nil {
		return
	}
	c.n.rt.wire.release(func(q Queue) bool {
		return q.Subscriber == c.n.svc.name && q.K%len(c.n.consumers) == c.k && (q.Lanes != p.lanes || len(p.logs) == 0)
	})
	if c.k == 0 {
		c.former, c.retired = p.former(c.n.svc.name), p.retired
		c.tellRetired(ctx)
	}
}

// former returns the queues of lane counts that are over.
func (p *plan) former(subscriber string) (queues []Queue) {
	var over, needed []int
	for i := range p.logs {
		for j, e := range p.logs[i].epochs {
			if j < p.logs[i].current {
				over = append(over, e.Lanes)
			} else {
				needed = append(needed, e.Lanes)
			}
		}
	}
	for _, r := range p.retired {
		for _, e := range r.before {
			over = append(over, e.Lanes)
		}
	}
	slices.Sort(over)
	for _, lanes := range slices.Compact(over) {
		if slices.Contains(needed, lanes) {
			continue
		}
		for k := range lanes {
			queues = append(queues, Queue{Subscriber: subscriber, Lanes: lanes, K: k})
		}
	}
	return queues
}

// tidy removes queues of former lane counts that nobody consumes any more. They
// hold nothing that is needed: only when all lanes have come to the end of an
// epoch does the next one begin, and not before that the relays hear of it. One
// that has not heard yet, or a program from before that comes back for a moment,
// makes a queue again; whoever has lane 0 next removes that.
func (c *consumer) tidy(ctx context.Context) {
	c.tellRetired(ctx)
	c.former = slices.DeleteFunc(c.former, func(q Queue) bool {
		gone, err := c.n.rt.cfg.Broker.Discard(ctx, q)
		if err != nil {
			c.n.rt.log.Warn("a queue of a former number of lanes is still there; trying again later", "service", q.Subscriber, "lane", q.K, "lanes", q.Lanes, "error", err)
		}
		return gone
	})
}

// tellRetired tells the relays of logs from which the service was retired that
// it wants nothing of them. They knew nothing of it otherwise: they would go on
// sending, and keep their logs for it. It does so again and again, because a
// relay may forget it.
func (c *consumer) tellRetired(ctx context.Context) {
	for _, r := range c.retired {
		if err := c.n.rt.cfg.Broker.Ask(ctx, r.epoch.Log, RelayRequest{Epoch: r.epoch}); err != nil {
			c.n.rt.log.Warn("a relay does not know that the subscriber was retired; trying again later", "service", c.n.svc.name, "log", r.epoch.Log, "error", err)
		}
	}
}
