package courante

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// agenda is what a service still has to do by itself: deadlines to watch and
// effects to perform. It is derived from the notes on the service's own log,
// which it reads like any subscriber; no table has to agree with the log. From
// time to time it records what is open with its place in the log, so that a
// restart reads only what came after.
//
// A service's agenda has parts, so that several processes can have some each.
// What a stream set or asked for is in the part of its name; a journey is in
// that of its correlation id.
//
// Being late or doing something twice is harmless here: whether a deadline or
// an effect is still open is decided on the state, in the transaction that
// ends it.
type agenda struct {
	n     *node
	k     int // which part
	actor *Actor

	// The actor's own.
	opened   bool
	progress Progress
	reached  Cursor
	changed  int       // notes read since the last record
	recorded time.Time // when that was
	head     Cursor    // end of the log when it was opened

	mu     sync.Mutex // guards what follows; performers share it
	seen   Cursor     // reached, for others
	known  bool       // the log is read up to head; before that, what looks open may have ended long ago
	tasks  map[string]*task
	former map[string]*task // those before it was opened again, until it has caught up
	alarms alarms           // when a task is to be looked at again; old entries are skipped
	held   []*task          // effects that go to the performers once it has caught up
}

// task is an open deadline or effect.
type task struct {
	of *agenda

	Stream      string    `json:"stream"`
	Correlation string    `json:"correlation"`
	Trace       string    `json:"trace,omitempty"`
	Deadline    *Deadline `json:"deadline,omitempty"`
	Effect      *Request  `json:"effect,omitempty"`
	Asked       time.Time `json:"asked,omitzero"`    // when, of an effect
	Journey     *journey  `json:"journey,omitempty"` // nothing to do, but to know of

	at       time.Time // not before
	busy     bool      // it waits for a performer or is in the hands of one
	settled  bool      // its end is written; it goes when the log says so
	unknown  bool      // the last attempt may have been carried out
	attempts int
	outcome  any // of an effect, once it is answered
	answered bool
}

// A record of the agenda holds everything that is open, so it is rarer than a
// lane's: after notesPerRecord notes, or ticksPerRecord ticks, for each tick of
// Config.RecordEvery.
// As with a lane's, no part of the log can be detached before it is written, so
// it is when agendaRecordAfter has passed.
const (
	notesPerRecord, ticksPerRecord = 5, 10
	agendaRecordAfter              = 10 * time.Minute
)

// AgendaParts is how many parts the agenda of each service has, and so among how
// many processes its deadlines and effects can be shared. Each part reads the
// whole log, from memory.
const AgendaParts = 4

func newAgenda(n *node, k int) *agenda { return &agenda{n: n, k: k, tasks: map[string]*task{}} }

// AgendaSubscriber is the name under which the agenda of a service records its
// places in the log. Its lane epoch is the first, with AgendaParts lanes.
func AgendaSubscriber(service string) string { return service + "/agenda" }

func (a *agenda) lane() Lane {
	return Lane{Subscriber: AgendaSubscriber(a.n.svc.name), Log: a.n.svc.name, Epoch: 1, K: a.k}
}

// name is how the part is called in leases.
func (a *agenda) name() string { return fmt.Sprintf("agenda/%d", a.k) }

// has reports whether what belongs to a stream or correlation is in the part.
func (a *agenda) has(name string) bool { return LaneOf(name, AgendaParts) == a.k }

// step reads the service's log and fires the deadlines that are due.
func (a *agenda) step(ctx context.Context) (bool, error) {
	if !a.n.holds(a.name()) {
		a.stand()
		return false, nil
	}
	if !a.opened {
		if err := a.open(ctx); err != nil {
			return false, err
		}
	}
	read, err := a.read(ctx)
	if err != nil {
		a.opened = false
		return false, err
	}
	if !a.caughtUp() {
		return read, nil
	}
	fired, err := a.fire(ctx)
	return read || fired, err
}

// stand leaves what there is to do to another process.
func (a *agenda) stand() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened, a.known = false, false
	a.tasks, a.former, a.alarms, a.held = map[string]*task{}, nil, nil, nil
}

// caughtUp reports whether the agenda knows all that had ended when it was
// opened. It does not ask for more, because under load a log always grows.
func (a *agenda) caughtUp() bool {
	if a.reached.Before(a.head) {
		return false
	}
	a.mu.Lock()
	held := a.held
	a.known, a.former, a.held = true, nil, nil
	a.mu.Unlock()
	a.n.performers.add(held...)
	return true
}

// open restores what was open at the last record.
func (a *agenda) open(ctx context.Context) error {
	p, err := firstPlace(ctx, a.n.store, a.lane(), AgendaParts)
	if err != nil {
		return err
	}
	head, err := a.n.store.Head(ctx)
	if err != nil {
		return err
	}
	var saved []*task
	if len(p.Note) > 0 {
		if err := json.Unmarshal(p.Note, &saved); err != nil {
			return fmt.Errorf("agenda of %s: decode record %d: %w", a.n.svc.name, p.N, err)
		}
	}
	a.mu.Lock()
	a.former, a.tasks = a.tasks, map[string]*task{}
	a.alarms, a.known, a.seen = nil, false, p.Cursor
	for _, t := range saved {
		t.of = a
		if t.Deadline != nil {
			t.at = t.Deadline.Due
		}
		a.add(t)
	}
	a.mu.Unlock()
	a.progress, a.reached, a.head, a.changed, a.opened = p, p.Cursor, head, 0, true
	a.recorded = a.n.rt.now()
	return nil
}

// add makes the task one of those to do. An effect that was known before the
// agenda was opened again goes on where it was: a performer may have it, and
// what became of its last attempt is worth knowing. The mutex is held.
func (a *agenda) add(t *task) {
	if old := a.former[t.id()]; old != nil && t.Effect != nil {
		t = old
	}
	a.tasks[t.id()] = t
	if t.Effect != nil && !t.busy {
		a.hand(t)
		return
	}
	if t.Deadline != nil {
		a.alarms.push(t)
	}
}

// hand gives an effect to the performers, or keeps it until the agenda has
// caught up. The mutex is held.
func (a *agenda) hand(t *task) {
	t.busy = true
	if a.known {
		a.n.performers.add(t)
		return
	}
	a.held = append(a.held, t)
}

func (t *task) id() string {
	switch {
	case t.Effect != nil:
		return t.Effect.ID
	case t.Journey != nil:
		return journeyID(t.Journey.Saga, t.Correlation)
	}
	return t.Stream + "/" + t.Deadline.Name
}

// read applies the notes of the next events.
func (a *agenda) read(ctx context.Context) (bool, error) {
	events, to, err := a.n.rt.tails[a.n.svc.name].read(ctx, a.reached, tailRead)
	if err != nil {
		return false, err
	}
	stale := a.n.rt.now().Sub(a.recorded) >= agendaRecordAfter
	if to == a.reached {
		if stale {
			return false, a.checkpoint(ctx)
		}
		return false, nil
	}
	a.mu.Lock()
	for i := range events {
		e := &events[i]
		a.travel(ctx, e)
		if e.Notes != nil && a.has(e.Stream) {
			a.apply(e, e.Notes)
			a.changed++
		}
	}
	a.seen = to
	a.mu.Unlock()
	a.reached = to
	if every := a.n.rt.cfg.RecordEvery; stale || a.changed >= notesPerRecord*every || a.reached.Tick-a.progress.Cursor.Tick >= int64(ticksPerRecord*every) {
		if err := a.checkpoint(ctx); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (a *agenda) apply(e *Event, notes *Notes) {
	for _, name := range notes.Clear {
		delete(a.tasks, e.Stream+"/"+name)
	}
	for _, id := range notes.Done {
		delete(a.tasks, id)
	}
	for i := range notes.Set {
		a.add(&task{of: a, Stream: e.Stream, Correlation: e.Correlation, Trace: e.Trace, Deadline: &notes.Set[i], at: notes.Set[i].Due})
	}
	for i := range notes.Ask {
		if a.tasks[notes.Ask[i].ID] == nil { // else it is read again and goes on
			a.add(&task{of: a, Stream: e.Stream, Correlation: e.Correlation, Trace: e.Trace, Effect: &notes.Ask[i], Asked: e.Time})
		}
	}
}

// checkpoint records what is open. ErrFenced means that another instance did;
// the place is read again.
func (a *agenda) checkpoint(ctx context.Context) error {
	if !a.opened || a.reached == a.progress.Cursor {
		return nil
	}
	a.mu.Lock()
	open := make([]*task, 0, len(a.tasks))
	for _, t := range a.tasks {
		open = append(open, t)
	}
	slices.SortFunc(open, func(x, y *task) int { return strings.Compare(x.id(), y.id()) })
	note, err := json.Marshal(open)
	a.mu.Unlock()
	if err != nil {
		return err
	}
	p := Progress{Lane: a.lane(), N: a.progress.N + 1, Cursor: a.reached, Note: note}
	if err := a.n.record(ctx, p); err != nil {
		return err
	}
	a.progress, a.changed, a.recorded = p, 0, a.n.rt.now()
	return nil
}

// fireAtOnce is how many deadlines one transaction takes.
const fireAtOnce = 256

// fire decides on the deadlines that are due, oldest first, and hands effects
// whose retry is due to the performers.
func (a *agenda) fire(ctx context.Context) (bool, error) {
	due, retries := a.due()
	if len(due) == 0 {
		return retries, nil
	}
	w := &work{}
	for _, t := range due {
		w.items = append(w.items, a.fired(t))
	}
	end := a.n.rt.beginBatch(ctx, a.n, w.items)
	err := a.n.process(ctx, w)
	end(err)
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, t := range due {
		if err != nil {
			a.alarms.push(t)
			continue
		}
		if err := w.items[i].err; err != nil {
			a.failed(t, "deadline "+t.Deadline.Name, err)
			continue
		}
		t.settled = true
	}
	return true, err
}

// due takes the tasks whose time has come.
func (a *agenda) due() (deadlines []*task, retries bool) {
	now := a.n.rt.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(deadlines) < fireAtOnce {
		t := a.alarms.pop(now)
		if t == nil {
			break
		}
		if a.tasks[t.id()] != t || t.settled || t.busy {
			continue // it ended, or was replaced
		}
		if t.Effect != nil {
			a.hand(t)
			retries = true
			continue
		}
		deadlines = append(deadlines, t)
	}
	return deadlines, retries
}

// failed puts a task off whose handler did not decide. Money or goods may hang
// on it, so it is never given up; the log and the metrics say that it hangs.
func (a *agenda) failed(t *task, what string, err error) {
	t.attempts++
	t.at = a.n.rt.now().Add(a.n.rt.backoff(t.attempts, 100*time.Millisecond, 30*time.Second))
	t.busy = false
	a.alarms.push(t)
	a.n.rt.log.Error("decision failed; trying again", "service", a.n.svc.name, "what", what, "stream", t.Stream,
		"correlation_id", t.Correlation, "attempts", t.attempts, "retry_at", t.at, "error", err)
}

// fired is the item of a deadline.
func (a *agenda) fired(t *task) *item {
	category, id, _ := strings.Cut(t.Stream, ":")
	it := &item{
		correlation: t.Correlation, causation: t.Stream + "/deadline/" + t.Deadline.Name, parent: t.Trace,
		closing: &closing{key: a.n.svc.key(category, id), deadline: *t.Deadline},
	}
	dl := a.n.svc.deadlines[category+"/"+t.Deadline.Name]
	if dl == nil {
		// The program that set it knew what to do and this one does not. It
		// ends here, visibly.
		it.step = &step{Step: Step{Name: "deadline " + t.Deadline.Name}, service: a.n.svc}
		it.decide = func(*Decision) error {
			return fmt.Errorf("deadline %q of category %s is not declared in this program", t.Deadline.Name, category)
		}
		return it
	}
	it.step, it.decide = dl.step, func(d *Decision) error { return dl.do(d, id) }
	return it
}

// key names a state of the service by its category.
func (s *Service) key(category, id string) Key {
	for _, k := range s.entities {
		if k.Category == category {
			k.ID = id
			return k
		}
	}
	return Key{Category: category, ID: id, Sourced: true}
}

// next is when the first deadline or retry is due.
func (a *agenda) next() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.alarms) > 0 {
		t := a.alarms[0].task
		if a.tasks[t.id()] == t && !t.settled && !t.busy {
			return a.alarms[0].at
		}
		a.alarms.drop()
	}
	return time.Time{}
}
