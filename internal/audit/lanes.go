package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
)

// lanes is how far each subscriber has come in each log.
type lanes struct {
	epochs map[subscription][]laneEpoch // in order
	last   map[courante.Lane]place
}

type subscription struct{ subscriber, log string }

// laneEpoch is a lane epoch: see courante.LaneEpoch. One without lanes after one
// that has some says that the subscriber is retired, wherever it was.
type laneEpoch struct {
	n     int
	lanes int
	from  place
	types []string
}

// place is a cursor: a place in a log.
type place struct {
	epoch    int32
	tick     int64
	position int64
	hash     uint64
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.tick, q.tick), cmp.Compare(p.position, q.position))
}

func (p place) covers(e *event) bool {
	return p.compare(place{tick: e.tick, position: e.position}) >= 0
}

// progressSpan is the range of numbers that a partition of progress holds: a
// lane that is moved on by maintenance goes on at the beginning of one.
const progressSpan = 1_000_000

// readLanes reads the lane epochs and all that the lanes have recorded.
func (a *auditor) readLanes(ctx context.Context) error {
	a.lanes = lanes{epochs: map[subscription][]laneEpoch{}, last: map[courante.Lane]place{}}
	for _, s := range a.services {
		if err := a.readLaneEpochs(ctx, a.log(s)); err != nil {
			return err
		}
	}
	for _, s := range a.services {
		if err := a.readProgress(ctx, a.log(s)); err != nil {
			return err
		}
	}
	a.checkLanes()
	return nil
}

func (a *auditor) readLaneEpochs(ctx context.Context, l *eventLog) error {
	rows, err := a.q.Query(ctx, `select subscriber, log, n, lanes, epoch, tick, position, hash, types
		from `+l.schema+`.lane_epoch order by subscriber, log, n`)
	if err != nil {
		return err
	}
	var of subscription
	var e laneEpoch
	var hash int64
	_, err = pgx.ForEachRow(rows, []any{&of.subscriber, &of.log, &e.n, &e.lanes, &e.from.epoch, &e.from.tick, &e.from.position, &hash, &e.types}, func() error {
		e.from.hash = uint64(hash)
		before := a.lanes.epochs[of]
		name := fmt.Sprintf("%s.lane_epoch %s on %s, %d", l.label, of.subscriber, of.log, e.n)
		a.checks.lanes.LookedAt++
		if e.n != len(before)+1 {
			a.checks.lanes.wrong(name, "lane epoch %d is missing before it", len(before)+1)
		}
		e := e
		e.types = slices.Clone(e.types)
		a.lanes.epochs[of] = append(before, e)
		return nil
	})
	return err
}

// readProgress reads what the lanes of a context have recorded: a lane has no
// gap in its numbers and only moves on, to places that its source log has.
func (a *auditor) readProgress(ctx context.Context, l *eventLog) error {
	rows, err := a.q.Query(ctx, `select subscriber, log, lane_epoch, k, n, epoch, tick, position, hash, at
		from `+l.schema+`.progress order by subscriber, log, lane_epoch, k, n`)
	if err != nil {
		return err
	}
	var lane, last courante.Lane
	var n, before, hash int64
	var p, at place
	var recorded time.Time
	c := a.checks.lanes
	_, err = pgx.ForEachRow(rows, []any{&lane.Subscriber, &lane.Log, &lane.Epoch, &lane.K, &n, &p.epoch, &p.tick, &p.position, &hash, &recorded}, func() error {
		c.LookedAt++
		p.hash = uint64(hash)
		row := func() string { return fmt.Sprintf("%s.progress %s, %d", l.label, laneName(lane), n) }
		epochs := a.lanes.epochs[subscription{lane.Subscriber, lane.Log}]
		superseded := lane.Epoch < len(epochs)
		switch {
		case lane.Epoch < 1 || lane.Epoch > len(epochs) || lane.K >= epochs[lane.Epoch-1].lanes:
			c.wrong(row(), "there is no such lane epoch or lane")
		case lane != last && n%progressSpan > 1:
			c.wrong(row(), "it is the lane's first; those before it are missing")
		case lane == last && n != before+1 && n%progressSpan != 0:
			c.wrong(row(), "it follows %d: those between are missing", before)
		case lane == last && p.compare(at) < 0 && !superseded && !relays(lane):
			// A repair sets a lane back, and then supersedes it.
			c.wrong(row(), "it is at %s, which is before %s of the one before it", p, at)
		case !superseded:
			if why := a.unfit(lane.Log, p); why != "" {
				c.wrong(row(), "%s", why)
			}
		}
		last, before, at = lane, n, p
		a.lanes.last[lane] = p
		if a.cfg.Stopped && recorded.After(a.clock) {
			a.clock = recorded
		}
		return nil
	})
	return err
}

// relays reports whether the lane is a relay's. That one goes back to serve a
// subscriber that begins before it.
func relays(l courante.Lane) bool { return l.Subscriber == l.Log+"/relay" }

// unfit says why a place is none of the log; "" if it is.
func (a *auditor) unfit(log string, p place) string {
	l := a.logs[log]
	if l == nil {
		return "there is no log " + log
	}
	if p.tick == 0 {
		return ""
	}
	epoch, hash, ok := l.hashOf(p.tick)
	switch {
	case !ok:
		return fmt.Sprintf("it is at tick %d, which log %s does not have; see: courante subscriber list", p.tick, log)
	case epoch != p.epoch || hash != p.hash:
		return fmt.Sprintf("it is at tick %d of log %s, which has other contents now; see: courante subscriber list", p.tick, log)
	}
	return ""
}

// checkLanes checks that each epoch has its lanes, and that it was finished
// before those of the next one went on.
func (a *auditor) checkLanes() {
	for of, epochs := range a.lanes.epochs {
		for i, e := range epochs {
			for k := range e.lanes {
				lane := courante.Lane{Subscriber: of.subscriber, Log: of.log, Epoch: e.n, K: k}
				at, ok := a.lanes.last[lane]
				if !ok {
					a.checks.lanes.wrong(laneName(lane), "it has recorded nothing, not even where it begins")
					continue
				}
				if i > 0 && at.compare(e.from) > 0 {
					a.checkDrained(lane, epochs[i-1], e.from)
				}
			}
		}
	}
}

func (a *auditor) checkDrained(lane courante.Lane, before laneEpoch, border place) {
	for k := range before.lanes {
		old := courante.Lane{Subscriber: lane.Subscriber, Log: lane.Log, Epoch: before.n, K: k}
		if at, ok := a.lanes.last[old]; ok && at.compare(border) < 0 {
			a.checks.lanes.wrong(laneName(lane), "it has gone on though %s is only at %s and its epoch ends at %s", laneName(old), at, border)
		}
	}
}

func (p place) String() string {
	return courante.Cursor{Epoch: p.epoch, Tick: p.tick, Position: p.position, Hash: p.hash}.String()
}

func laneName(l courante.Lane) string {
	return fmt.Sprintf("%s on %s, lane %d of epoch %d", l.Subscriber, l.Log, l.K+1, l.Epoch)
}

// reach says what has become of an event at a subscriber.
type reach int

const (
	notSent reach = iota // the subscriber does not get events of this type
	ahead                // its lane has not come to it
	passed               // its lane is past it
)

// reachOf says whether a subscriber's lane is past an event.
func (l *lanes) reachOf(subscriber string, e *event) (reach, courante.Lane) {
	epochs := l.epochs[subscription{subscriber, e.log.name}]
	// The epoch is the last one that begins before the event: one that a repair
	// added may begin before those that it supersedes.
	i := len(epochs) - 1
	for i >= 0 && epochs[i].from.covers(e) {
		i--
	}
	if i < 0 {
		return notSent, courante.Lane{}
	}
	if i > 0 {
		// An owner that had not heard of the new epoch may have gone past the border.
		if old, in := l.laneOf(subscriber, &epochs[i-1], e); in && l.last[old].covers(e) {
			return passed, old
		}
	}
	lane, in := l.laneOf(subscriber, &epochs[i], e)
	retired := i+1 < len(epochs) && epochs[i+1].lanes == 0
	switch {
	case in && l.last[lane].covers(e):
		return passed, lane
	case !in || retired:
		return notSent, lane
	}
	return ahead, lane
}

func (l *lanes) laneOf(subscriber string, epoch *laneEpoch, e *event) (lane courante.Lane, in bool) {
	if epoch.lanes == 0 {
		return lane, false
	}
	_, in = slices.BinarySearch(epoch.types, e.typ)
	return courante.Lane{Subscriber: subscriber, Log: e.log.name, Epoch: epoch.n, K: courante.LaneOf(e.lane(), epoch.lanes)}, in
}

// parked is a message that is set aside, or was and is given up.
type parked struct {
	reaction  string
	cause     string // "" if it waits behind another
	retried   bool   // it is tried again by itself
	discarded string // why an operator gave it up, "" if nobody did
}

func parkedKey(subscriber, event string) string { return subscriber + " " + event }

// readParked reads the messages that are set aside, and those that were and that
// nobody will handle.
func (a *auditor) readParked(ctx context.Context) error {
	a.parked = map[string][]parked{}
	for _, s := range a.services {
		rows, err := a.q.Query(ctx, "select subscriber, reaction, cause, retry_at is not null, coalesce(discarded, ''), event from "+a.log(s).schema+".parked where resolved is null or discarded is not null order by id")
		if err != nil {
			return err
		}
		var subscriber string
		var p parked
		var data []byte
		_, err = pgx.ForEachRow(rows, []any{&subscriber, &p.reaction, &p.cause, &p.retried, &p.discarded, &data}, func() error {
			var e struct {
				Log, Stream string
				Version     int64
			}
			if err := json.Unmarshal(data, &e); err != nil {
				return err
			}
			key := parkedKey(subscriber, fmt.Sprintf("%s/%s@%d", e.Log, e.Stream, e.Version))
			a.parked[key] = append(a.parked[key], p)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
