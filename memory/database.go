package memory

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/courante-dev/courante"
)

// Config configures a [Database]. Its zero value is ready to use.
type Config struct {
	// Now is the clock, by which replies are forgotten. Default: time.Now.
	Now func() time.Time

	// Pause is called at each of the Point constants, never under a lock. With
	// it set the store starts no goroutine and waits on no channel. Default:
	// nil, callers run freely and wait for one another by blocking.
	Pause func(point string) error
}

// Points at which [Config.Pause] is called. An error that it returns at a point
// "before" fails the call and nothing happened; if the call belongs to a unit,
// the unit is rolled back, as after a lost connection. Reads have one point:
// between their answer and the caller's next call another actor runs at the
// point before that next call.
const (
	PointBegin       = "begin"         // before Begin
	PointLoad        = "load"          // before Load
	PointLockWait    = "lock wait"     // again and again, while another transaction holds what this one needs
	PointCommit      = "commit before" // before Commit
	PointCommitWrite = "commit write"  // ids and positions are given, nobody sees the rows; an error rolls back
	PointCommitAfter = "commit after"  // committed; the caller gets the error all the same, an unknown outcome
	PointAppend      = "append before" // before Append
	PointAppendWrite = "append write"  // as PointCommitWrite
	PointAppendAfter = "append after"  // as PointCommitAfter
	PointTick        = "tick before"   // before Tick
	PointTickTaken   = "tick taken"    // its snapshot is taken and not yet recorded
	PointTickAfter   = "tick after"    // recorded; the caller gets the error all the same
	PointRead        = "read"          // before Read
	PointReadStream  = "read stream"   // before ReadStream
	PointReadLog     = "read log"      // before ReadLog
	PointHead        = "head"          // before Head
	PointLocate      = "locate"        // before Locate
	PointProgress    = "progress"      // before Progress
	PointLaneEpochs  = "lane epochs"   // before LaneEpochs
	PointLaneEpoch   = "lane epoch before"
	PointLaneEpochOK = "lane epoch after" // recorded; the caller gets the error all the same
	PointParked      = "parked"           // before Parked
	PointAside       = "aside"            // before Aside
	PointReply       = "reply"            // before Reply
)

// Database implements [courante.Database] in process. Its methods may be
// called at once.
type Database struct {
	config    Config
	committed chan struct{}

	mu        sync.Mutex
	epoch     int32
	xid       uint64 // last one given out
	completed uint64 // highest that ended
	open      []*tx  // not ended, in the order they began
	active    []*tx  // those with a transaction id, ascending
	logs      map[string]*log
	names     []string // of the logs, sorted
}

var _ courante.Database = (*Database)(nil)

// New returns an empty database in its first epoch.
func New(config Config) *Database {
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Database{
		config:    config,
		committed: make(chan struct{}, 1),
		epoch:     1,
		logs:      make(map[string]*log),
	}
}

// Store returns a new handle on the context's log, as a process has that opens
// it. Handles of one name share everything but their fate: see [Database.Crash].
func (db *Database) Store(name string) *Store {
	db.mu.Lock()
	defer db.mu.Unlock()
	l := db.logs[name]
	if l == nil {
		l = newLog(name)
		db.logs[name] = l
		i, _ := slices.BinarySearch(db.names, name)
		db.names = slices.Insert(db.names, i, name)
	}
	return &Store{db: db, name: name}
}

// Tick implements [courante.Database]. Two tickers may run at once: each takes
// its snapshot first and records it afterwards, and of two that made the same
// tick the second records nothing. It returns the logs that this call moved.
func (db *Database) Tick(ctx context.Context) ([]string, error) {
	if err := db.pause(PointTick); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("tick: %w", err)
	}
	taken := db.takeTicks()
	if err := db.pause(PointTickTaken); err != nil {
		return nil, err
	}
	moved := db.recordTicks(taken)
	return moved, db.pause(PointTickAfter)
}

type takenTick struct {
	log  string
	tick courante.Tick
	seen uint64 // commits of the log that the tick's snapshot sees
}

func (db *Database) takeTicks() []takenTick {
	db.mu.Lock()
	defer db.mu.Unlock()
	var taken []takenTick
	for _, name := range db.names {
		l := db.logs[name]
		if l.commits == l.ticked {
			continue // a tick without events would say nothing, for ever
		}
		taken = append(taken, takenTick{name, l.nextTick(db.epoch, db.snapshot()), l.commits})
	}
	return taken
}

func (db *Database) recordTicks(taken []takenTick) (moved []string) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, t := range taken {
		l := db.logs[t.log]
		// The number is the fence, as the primary key is on PostgreSQL. A
		// snapshot from before a restore says nothing about this epoch.
		if t.tick.N != int64(len(l.ticks))+1 || t.tick.Epoch != db.epoch {
			continue
		}
		l.ticks = append(l.ticks, t.tick)
		l.ticked = t.seen
		moved = append(moved, t.log)
	}
	return moved
}

// Committed implements [courante.Database].
func (db *Database) Committed() <-chan struct{} { return db.committed }

// Ticked implements [courante.Database]: no other process can tick.
func (db *Database) Ticked() <-chan struct{} { return nil }

// Crash does what the death of the process does that held these handles: its
// open transactions are rolled back and what they locked is free. Every later
// call through the handles fails with courante.ErrClosed, and so does one
// that is waiting inside the store.
func (db *Database) Crash(handles ...*Store) {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, s := range handles {
		s.crashed = true
	}
	for _, t := range slices.Clone(db.open) {
		if t.store.crashed {
			t.end(errCrashed)
		}
	}
}

// snapshot says what is committed now, in PostgreSQL's terms: its xmax is
// behind the highest transaction that ended, so that a younger open one is not
// listed but not seen either. db.mu is held.
func (db *Database) snapshot() courante.Snapshot {
	s := courante.Snapshot{Xmin: db.completed + 1, Xmax: db.completed + 1}
	for _, t := range db.active {
		if t.xid >= s.Xmax {
			break
		}
		s.InProgress = append(s.InProgress, t.xid)
	}
	if len(s.InProgress) > 0 {
		s.Xmin = s.InProgress[0]
	}
	return s
}

func (db *Database) pause(point string) error {
	if db.config.Pause == nil {
		return nil
	}
	return db.config.Pause(point)
}

func (db *Database) signal() {
	select {
	case db.committed <- struct{}{}:
	default: // the ticker has not yet taken the last signal, which stands for this one too
	}
}
