package memory

import (
	"cmp"
	"slices"
	"time"

	"github.com/courante-dev/courante"
)

// log holds the tables of one context. Each row has its slot beside it; what
// the maps hold is committed, except for rows that only exist to be held.
type log struct {
	name     string
	position int64 // last one given out

	streams   map[string]*stream
	eras      []*era // by epoch, ascending; the index that ticks are read by
	ticks     []courante.Tick
	commits   uint64 // with events
	ticked    uint64 // of them, how many the last tick sees
	states    map[string]*state
	snapshots map[string]courante.State // newest of each stream
	lanes     map[courante.Lane]*lane
	epochs    map[subscription][]courante.LaneEpoch
	replies   map[string]*reply

	parkedID     int64 // last one given out
	parked       map[int64]*parked
	parkedInLine map[string][]*parked // by subscriber, in the order of their ids
}

// stream holds the events of one stream: version v is events[v-1]. Its slot is
// held by who has inserted the next versions.
type stream struct {
	slot
	events []courante.Event
}

// era is what the index (epoch, xid) gives on PostgreSQL.
type era struct {
	epoch int32
	xids  []uint64 // committed with events, ascending
	rows  map[uint64][]courante.Event
}

type state struct {
	slot
	row courante.State // Row is 0 while it is not committed
}

type lane struct {
	slot
	last courante.Progress // N is 0 while there is none
}

type subscription struct{ subscriber, log string }

type reply struct {
	slot
	courante.Reply
	at time.Time // zero while it is not committed
}

type parked struct {
	slot
	courante.Parked
}

func newLog(name string) *log {
	return &log{
		name:         name,
		streams:      make(map[string]*stream),
		states:       make(map[string]*state),
		snapshots:    make(map[string]courante.State),
		lanes:        make(map[courante.Lane]*lane),
		epochs:       make(map[subscription][]courante.LaneEpoch),
		replies:      make(map[string]*reply),
		parked:       make(map[int64]*parked),
		parkedInLine: make(map[string][]*parked),
	}
}

// row returns the table's row of that key, and adds an empty one to be held if
// there is none.
func row[K comparable, R any](table map[K]*R, key K) *R {
	r := table[key]
	if r == nil {
		r = new(R)
		table[key] = r
	}
	return r
}

func (l *log) nextPosition() int64 {
	l.position++
	return l.position
}

func (l *log) nextTick(epoch int32, s courante.Snapshot) courante.Tick {
	return courante.Tick{N: int64(len(l.ticks)) + 1, Epoch: epoch, Snapshot: s, High: l.position}
}

// apply makes a transaction's changes visible.
func (l *log) apply(t *tx) {
	c := t.changes
	if len(c.Events) > 0 {
		l.era(t.db.epoch).add(t.xid, c.Events)
		l.commits++
	}
	for _, e := range c.Events {
		s := l.streams[e.Stream]
		s.events = append(s.events, e)
	}
	for _, s := range c.States {
		s.Row++
		s.Events = nil
		l.states[s.Stream()].row = s
	}
	for _, s := range c.Snapshots {
		if have, ok := l.snapshots[s.Stream()]; !ok || have.Row < s.Row {
			l.snapshots[s.Stream()] = s
		}
	}
	for _, p := range c.Progress {
		l.lanes[p.Lane].last = p
	}
	for _, r := range c.Replies {
		row := l.replies[r.Key]
		row.Reply, row.at = r, t.db.config.Now()
		row.Token = t.token()
	}
	for _, p := range c.Park {
		l.park(p)
	}
	for _, id := range c.Unpark {
		l.unpark(id)
	}
}

// park adds the message, or writes again on the one of that id. It keeps the
// line in the order of the ids, which a transaction that began early and commits
// late has to be sorted into.
func (l *log) park(p courante.Parked) {
	if have := l.parked[p.ID]; have != nil {
		have.Cause, have.Stack, have.Fingerprint, have.Attempts, have.RetryAt = p.Cause, p.Stack, p.Fingerprint, p.Attempts, p.RetryAt
		have.FirstFailed, have.LastFailed, have.FirstBy, have.LastBy = p.FirstFailed, p.LastFailed, p.FirstBy, p.LastBy
		return
	}
	row := &parked{Parked: p}
	l.parked[p.ID] = row
	line := l.parkedInLine[p.Subscriber]
	i, _ := slices.BinarySearchFunc(line, p.ID, byParkedID)
	l.parkedInLine[p.Subscriber] = slices.Insert(line, i, row)
}

func (l *log) unpark(id int64) {
	row := l.parked[id]
	if row == nil {
		return
	}
	delete(l.parked, id)
	line := l.parkedInLine[row.Subscriber]
	if i, found := slices.BinarySearchFunc(line, id, byParkedID); found {
		l.parkedInLine[row.Subscriber] = slices.Delete(line, i, i+1)
	}
}

func byParkedID(p *parked, id int64) int { return cmp.Compare(p.ID, id) }

// era returns the index of the epoch and begins it with its first event.
func (l *log) era(epoch int32) *era {
	i, found := slices.BinarySearchFunc(l.eras, epoch, func(e *era, epoch int32) int { return cmp.Compare(e.epoch, epoch) })
	if !found {
		l.eras = slices.Insert(l.eras, i, &era{epoch: epoch, rows: make(map[uint64][]courante.Event)})
	}
	return l.eras[i]
}

func (a *era) add(xid uint64, events []courante.Event) {
	i, _ := slices.BinarySearch(a.xids, xid) // nearly always the end
	a.xids = slices.Insert(a.xids, i, xid)
	a.rows[xid] = events
}

// between returns what snapshot until may see and snapshot since does not,
// by PgQ's two ranges: transactions that began between the two, and those that
// were in progress at the first. Its cost does not grow with the log, nor with
// the time a transaction stays open.
func (a *era) between(since, until courante.Snapshot) []courante.Event {
	var events []courante.Event
	for _, xid := range since.InProgress {
		events = append(events, a.rows[xid]...)
	}
	from, _ := slices.BinarySearch(a.xids, since.Xmax)
	for _, xid := range a.xids[from:] {
		if xid >= until.Xmax {
			break
		}
		events = append(events, a.rows[xid]...)
	}
	return events
}
