package courante

import (
	"context"
	"slices"
)

// leaveFormer gives up the queues of lane counts that are over in every log, and
// leaves it to lane 0 to remove them.
func (c *consumer) leaveFormer(p *plan) {
	if c.n.rt.wire == nil {
		return
	}
	c.n.rt.wire.release(func(q Queue) bool {
		return q.Subscriber == c.n.svc.name && q.K%len(c.n.consumers) == c.k && q.Lanes != p.lanes
	})
	if c.k == 0 {
		c.former = p.former(c.n.svc.name)
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
	c.former = slices.DeleteFunc(c.former, func(q Queue) bool {
		gone, err := c.n.rt.cfg.Broker.Discard(ctx, q)
		if err != nil {
			c.n.rt.log.Warn("a queue of a former number of lanes is still there; trying again later", "service", q.Subscriber, "lane", q.K, "lanes", q.Lanes, "error", err)
		}
		return gone
	})
}
