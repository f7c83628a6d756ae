package courante

import (
	"context"
	"errors"
	"slices"
	"time"
)

// source is one lane of one source log, in the hands of a consumer.
type source struct {
	placeInLog
	lane     int
	progress Progress  // as recorded
	recorded time.Time // when
	reached  Cursor    // how far the feed has come; ahead of progress after events of other lanes
	feed     Feed      // nil once the lane's epoch is finished
	former   []Cursor  // where the lanes of the epoch before ended
}

// placeInLog is the lane epoch in which a subscriber is in a source log.
type placeInLog struct {
	log     string
	epochs  []LaneEpoch
	current int // index in epochs
}

func (p *placeInLog) epoch() LaneEpoch { return p.epochs[p.current] }

// end is where the current epoch ends, if another one follows.
func (p *placeInLog) end() (Cursor, bool) {
	if p.current+1 < len(p.epochs) {
		return p.epochs[p.current+1].From, true
	}
	return Cursor{}, false
}

// coveredBefore reports whether a lane of the epoch before has handled the
// event: an owner that had not heard of the new epoch yet may have gone past
// the border.
func (s *source) coveredBefore(e *Event) bool {
	if s.former == nil {
		return false
	}
	before := s.epochs[s.current-1]
	return contains(before.Types, e.Type) && s.former[LaneOf(e.Key(), before.Lanes)].Covers(e)
}

// plan says in which lane epoch a service is in each of its source logs.
//
// Epochs of one lane count form a generation. A new lane count sends keys to
// other lanes, so every log has to finish the old count before any begins the
// new one; otherwise two owners could hold the same key at once.
type plan struct {
	logs    []placeInLog
	lanes   int             // lane count of the generation
	waiting bool            // some epoch has a successor, so there will be something to do when it is finished
	retired []*retiredError // the other logs
	epochs  int             // of all logs
}

// errNewerProgram stops a consumer whose program is not the newest any more.
var errNewerProgram = errors.New("a newer program with other reactions or lanes has taken over; this one no longer consumes")

// plan reads, and at the first call declares, the lane epochs of the service.
func (n *node) plan(ctx context.Context) (plan, error) {
	var p plan
	for _, log := range n.sources {
		epochs, err := n.epochs(ctx, log)
		var retired *retiredError
		if errors.As(err, &retired) {
			p.retired = append(p.retired, retired)
			p.epochs += retired.epoch.N
			continue
		}
		if err != nil {
			return p, err
		}
		at := placeInLog{log: log, epochs: epochs}
		for at.current < len(epochs)-1 {
			_, finished, err := n.finals(ctx, &at)
			if err != nil {
				return p, err
			}
			if !finished {
				break
			}
			at.current++
		}
		p.logs = append(p.logs, at)
		p.epochs += len(epochs)
	}
	p.lanes = n.rt.cfg.Lanes // should there be no log
	// The generation is that of the log which has most lane counts before it.
	most := -1
	for i := range p.logs {
		changes := 0
		for j := p.logs[i].current; j+1 < len(p.logs[i].epochs); j++ {
			p.waiting = true
			if p.logs[i].epochs[j].Lanes != p.logs[i].epochs[j+1].Lanes {
				changes++
			}
		}
		if changes > most {
			most, p.lanes = changes, p.logs[i].epoch().Lanes
		}
	}
	return p, nil
}

// countEpochs returns how many lane epochs the service has, in all logs.
func (n *node) countEpochs(ctx context.Context) (count int, err error) {
	for _, log := range n.sources {
		epochs, err := n.store.LaneEpochs(ctx, n.svc.name, log)
		if err != nil {
			return 0, err
		}
		count += len(epochs)
	}
	return count, nil
}

// current reports whether no epoch was added since the plan was made. Who opens
// a lane asks after it has read the lane's progress: an epoch that is added
// later takes the lane over with a row that is later too, which it will notice.
// Otherwise it could read the epochs before a take-over and the progress after
// it, and go past the border unnoticed.
func (p *plan) current(ctx context.Context, n *node) (bool, error) {
	for i := range p.logs {
		epochs, err := n.store.LaneEpochs(ctx, n.svc.name, p.logs[i].log)
		if err != nil || len(epochs) != len(p.logs[i].epochs) {
			return false, err
		}
	}
	return true, nil
}

// ahead reports whether the plan is further than the sources of consumer k are.
// A consumer beyond the lanes of the generation has none, and waits.
func (p *plan) ahead(k int, sources []*source) bool {
	if k >= p.lanes {
		return false
	}
	for i := range p.logs {
		if p.logs[i].epoch().Lanes != p.lanes {
			continue
		}
		found := false
		for _, s := range sources {
			if s.log == p.logs[i].log {
				found = true
				if p.logs[i].current > s.current {
					return true
				}
			}
		}
		if !found {
			return true
		}
	}
	return false
}

// finals returns where the lanes of the current epoch stand, and whether all of
// them have reached its end, or never have to.
func (n *node) finals(ctx context.Context, at *placeInLog) (ends []Cursor, finished bool, err error) {
	end, bounded := at.end()
	finished = bounded
	retired := slices.ContainsFunc(at.epochs[at.current+1:], func(e LaneEpoch) bool { return e.Retired })
	for k := range at.epoch().Lanes {
		p, err := laneProgress(ctx, n.store, at.epoch(), k)
		if err != nil {
			return nil, false, err
		}
		ends = append(ends, p.Cursor)
		finished = finished && (retired || !p.Cursor.Before(end))
	}
	return ends, finished, nil
}

func (n *node) openSource(ctx context.Context, at placeInLog, lane int) (*source, error) {
	s := &source{placeInLog: at, lane: lane}
	var err error
	if s.progress, err = laneProgress(ctx, n.store, at.epoch(), lane); err != nil {
		return nil, err
	}
	s.reached, s.recorded = s.progress.Cursor, n.rt.now()
	if at.current > 0 {
		before := at
		before.current--
		if s.former, _, err = n.finals(ctx, &before); err != nil {
			return nil, err
		}
	}
	if end, bounded := s.end(); bounded && !s.reached.Before(end) {
		return s, nil // finished
	}
	s.feed, err = n.transport(at.epoch()).Open(ctx, s.progress.Lane, at.epoch(), s.reached)
	return s, err
}

// transport chooses what carries the events of a lane epoch: the broker, if
// there is one and some of them need it. One carries all of them, because
// events of one stream must not overtake each other.
func (n *node) transport(e LaneEpoch) Transport {
	if n.rt.wire != nil && n.rt.tails[e.Log] == nil {
		return n.rt.wire
	}
	if n.rt.wire != nil && e.Log != n.svc.name {
		for _, typ := range e.Types {
			if n.rt.needOf(e.Log, typ) == Critical {
				return n.rt.wire
			}
		}
	}
	return n.rt.transport
}

// epochs returns the lane epochs of a source log. The first call of a process
// adds one if the declaration differs from the last that is recorded, and takes
// the lanes of the epochs before away from whoever still runs them. It does so
// again when others have added epochs since, of which the last is this
// program's: who added it may be gone before it took the lanes over.
func (n *node) epochs(ctx context.Context, log string) ([]LaneEpoch, error) {
	// Asked before the epochs are read: another lane of this process may declare
	// in between, and a list from before that would look like an older program's.
	joined := n.joinedEpoch(log)
	list, err := n.store.LaneEpochs(ctx, n.svc.name, log)
	if err != nil {
		return nil, err
	}
	want := LaneEpoch{Subscriber: n.svc.name, Log: log, N: len(list) + 1, Types: n.typesFrom(log), Lanes: n.rt.cfg.Lanes}
	var last LaneEpoch // without lanes as well if there is none
	if len(list) > 0 {
		last = list[len(list)-1]
	}
	if last.Lanes == 0 {
		// What this process has joined is over; whoever runs the subscriber
		// may begin, once it is added again.
		joined = 0
		n.leaveEpochs(log)
	}
	same := last.Lanes == want.Lanes && slices.Equal(last.Types, want.Types)
	switch {
	case last.Retired:
		return nil, &retiredError{last, list[:len(list)-1]}
	case joined > 0 && !same:
		return nil, errNewerProgram
	case joined > 0 && joined == len(list):
		return list, nil
	}
	taken := max(joined-1, 0) // epochs whose lanes are taken over
	takeOver := func(until int) error {
		for ; taken < until; taken++ {
			if err := takeOver(ctx, n.store, list[taken]); err != nil {
				return err
			}
		}
		return nil
	}
	if !same {
		if last.Lanes == 0 { // a new subscriber begins where it was told, or at the start of the log
			want.From = last.From
		} else {
			// Before the border is chosen, nobody may still go past the borders
			// before it: whoever works in the new epoch looks back one epoch only.
			if err := takeOver(len(list) - 1); err != nil {
				return nil, err
			}
			if want.From, err = n.border(ctx, list); err != nil {
				return nil, err
			}
		}
		err := n.store.AddLaneEpoch(ctx, want)
		if errors.Is(err, ErrFenced) {
			return n.epochs(ctx, log) // another instance was faster
		}
		if err != nil {
			return nil, err
		}
		list = append(list, want)
	}
	if err := takeOver(len(list) - 1); err != nil {
		return nil, err
	}
	n.joinEpoch(log, len(list))
	return list, nil
}

// border is where the epoch after the last one may begin. Of a log that is
// readable here it is its head. Of another one it is as far as the foremost lane
// is: of the last epoch, and of the one before that, whose lanes may have gone
// past the border between the two before they were taken over. Who works in the
// new epoch looks back one epoch only, and would decide on that again.
func (n *node) border(ctx context.Context, epochs []LaneEpoch) (Cursor, error) {
	last := epochs[len(epochs)-1]
	if store := n.rt.storeOf(last.Log); store != nil {
		return store.Head(ctx)
	}
	from := last.From
	for _, e := range epochs[max(len(epochs)-2, 0):] {
		for k := range e.Lanes {
			p, err := laneProgress(ctx, n.store, e, k)
			if err != nil {
				return from, err
			}
			if from.Before(p.Cursor) {
				from = p.Cursor
			}
		}
	}
	return from, nil
}

// record writes one progress row on its own.
func (n *node) record(ctx context.Context, p Progress) error {
	return commit(ctx, n.store, Changes{Progress: []Progress{p}})
}

func (n *node) joinedEpoch(log string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.joined[log]
}

func (n *node) joinEpoch(log string, epoch int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.joined == nil {
		n.joined = map[string]int{}
	}
	n.joined[log] = max(n.joined[log], epoch)
}

func (n *node) leaveEpochs(log string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.joined, log)
}

// typesFrom returns the event types of a log that the service reacts to, sorted.
func (n *node) typesFrom(log string) []string {
	var types []string
	for _, typ := range n.svc.types {
		if from := n.rt.emitter(typ); from == log || from == "" {
			types = append(types, typ)
		}
	}
	slices.Sort(types)
	return types
}

// emitter returns the service that emits the type, in this runtime or another
// process, "" if none is known.
func (rt *Runtime) emitter(typ string) string {
	for _, n := range rt.nodes {
		if _, ok := n.svc.events[typ]; ok {
			return n.svc.name
		}
	}
	for _, f := range rt.cfg.Foreign {
		if _, ok := f.Service.events[typ]; ok {
			return f.Service.name
		}
	}
	return ""
}

// sourceLogs returns the logs that may hold events the service reacts to: those
// of the services that emit them and, for types that nobody in this process
// emits, those of all foreign sources.
func (n *node) sourceLogs() []string {
	logs := map[string]bool{}
	for _, typ := range n.svc.types {
		if from := n.rt.emitter(typ); from != "" {
			logs[from] = true
			continue
		}
		for _, s := range n.rt.cfg.Sources {
			logs[s.Log()] = true
		}
	}
	var names []string
	for name := range logs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// publish tells readers in other goroutines how far a lane has come.
func (n *node) publish(s *source) {
	at := s.reached
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.places == nil {
		n.places = map[Lane]Cursor{}
	}
	n.places[s.progress.Lane] = at
}

// unpublish forgets how far a lane has come that is another process's now.
func (n *node) unpublish(s *source) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.places, s.progress.Lane)
}

// reached reports whether the service has processed a log up to the place.
func (n *node) reached(log string, to Cursor) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	newest := 0
	for lane := range n.places {
		if lane.Log == log {
			newest = max(newest, lane.Epoch)
		}
	}
	if newest == 0 {
		return false // not opened yet
	}
	found := 0
	for lane, at := range n.places {
		if lane.Log == log && lane.Epoch == newest {
			if at.Before(to) {
				return false
			}
			found++
		}
	}
	return found >= n.rt.cfg.Lanes
}

func (n *node) wakeAgenda() {
	for _, a := range n.agenda {
		a.actor.Wake()
	}
}

func (n *node) wakeConsumers() {
	for _, c := range n.consumers {
		c.actor.Wake()
	}
}

// setRetired remembers in which logs the service is retired, and says so when
// that is news.
func (n *node) setRetired(list []*retiredError) {
	retired := map[string]*retiredError{}
	for _, r := range list {
		retired[r.epoch.Log] = r
	}
	n.mu.Lock()
	before := n.retired
	n.retired = retired
	n.mu.Unlock()
	for log, r := range retired {
		if before[log] == nil {
			n.rt.log.Error("subscriber stopped", "service", n.svc.name, "error", r)
		}
	}
}

func (n *node) setStopped(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = err
}
