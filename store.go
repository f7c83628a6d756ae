package courante

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// Store is the memory of one bounded context: its log of events, its stored
// states, and what its lanes have processed. It is an interface because the
// simulation needs an honest store that it can stop, crash and reorder; the
// two implementations are postgres.Store and memory.Store, and both pass
// courantetest.TestStore.
//
// All methods may be called at once. Errors of the infrastructure wrap
// [ErrTransient]; a commit whose answer was lost wraps [ErrUnknownOutcome].
type Store interface {
	// Log is the name of the context and of its log.
	Log() string

	// Append adds events to one stream, after version expected (0 for a new
	// stream), all or none. Concurrent appends share transactions; the
	// failure of one never fails or delays its neighbours. The store sets
	// Log, Stream and Version. No events is a no-op.
	// A stream that is at another version gives *ConflictError, and an event
	// over the store's limit ErrTooLarge.
	Append(ctx context.Context, stream string, expected int64, events ...Event) (Receipt, error)

	// Begin starts a unit of work: one transaction that will load states,
	// and write everything that was decided on them, or nothing.
	Begin(ctx context.Context) (Unit, error)

	// Read returns the states behind the keys, in the order of the keys, as the
	// last commit left them. It locks nothing: for queries, not for decisions.
	Read(ctx context.Context, keys []Key) ([]State, error)

	// ReadStream yields the stream's events after the version, in order. After
	// an error it ends. It leaves none out: when the first of them are no longer
	// in the database, the error is an *ArchivedError.
	ReadStream(ctx context.Context, stream string, after int64) iter.Seq2[Event, error]

	// ReadLog returns events after the cursor in the log's total order, about
	// max of them (a tick that is begun is read up to max, the next call
	// continues inside it), and the cursor behind the last one. It returns as
	// soon as it has something and does not wait: no events and a cursor that
	// is the same or further means the end of the log was reached.
	// A cursor that no longer fits the log gives *LogBrokenError.
	ReadLog(ctx context.Context, after Cursor, max int) ([]Event, Cursor, error)

	// Head is the cursor behind the last tick.
	Head(ctx context.Context) (Cursor, error)

	// Locate returns the cursor behind the first tick that sees the token's
	// transaction: whoever has processed the log up to there has seen it.
	// ErrNotFound if no tick sees it yet, *TokenEpochError if the token is of
	// another epoch than the log is in now.
	Locate(ctx context.Context, t Token) (Cursor, error)

	// Progress returns what the lane has last recorded; ErrNotFound if nothing.
	Progress(ctx context.Context, lane Lane) (Progress, error)

	// LaneEpochs returns the epochs of (subscriber, log) in the order they begin.
	LaneEpochs(ctx context.Context, subscriber, log string) ([]LaneEpoch, error)

	// AddLaneEpoch records the next epoch. It fails with ErrFenced if an epoch
	// of that number is there already. The store may give its lanes a first
	// progress at From, with a number of its choice to go on from.
	AddLaneEpoch(ctx context.Context, e LaneEpoch) error

	// Parked returns messages of the subscriber that are set aside and not yet
	// resolved, in the order they were set aside.
	Parked(ctx context.Context, subscriber string, which ParkedQuery) ([]Parked, error)

	// Aside returns which keys of the subscriber have messages set aside, of
	// those given; nil asks for all. It is cheap however many wait.
	Aside(ctx context.Context, subscriber string, keys []string) (Aside, error)

	// Reply returns the recorded answer to the idempotency key; ErrNotFound if
	// there is none.
	Reply(ctx context.Context, key string) (Reply, error)
}

// Unit is one transaction of a store. It is used by one goroutine and ends
// with Commit or Rollback; after that every method fails. Rollback after the
// end is a no-op, so it can be deferred.
type Unit interface {
	// Load returns the states behind the keys, in the order of the keys.
	// Stored rows are locked, in the order of their stream names, before they
	// are read. It may be called again with further keys.
	//
	// Of a sourced state that the caller knows up to some event, as known says,
	// only what comes after it is returned, with After set. If that event is not
	// in the stream any more, or not in reach, the state is returned whole.
	Load(ctx context.Context, keys []Key, known map[Key]Known) ([]State, error)

	// Commit writes the changes and ends the unit. On *ConflictError (it names
	// every stream that conflicts, if it is one that does), ErrFenced or any
	// other error nothing was written, but for ErrUnknownOutcome, where nobody
	// knows.
	Commit(ctx context.Context, c Changes) (Receipt, error)

	// Rehearse does all that Commit does, and undoes it before anybody can see
	// it: it ends the unit and returns the error that Commit would.
	Rehearse(ctx context.Context, c Changes) error

	Rollback(ctx context.Context)
}

// State is what a store knows of one key.
type State struct {
	Key
	Version int64           // last version of its stream, 0 if it has no events
	Row     int64           // version of the stored row, 0 if there is none; of a sourced state: version of the baseline
	Data    json.RawMessage // the stored row; of a sourced state: the snapshot that is the baseline, nil if none
	Events  []Event         // of a sourced state: the events after the baseline, in order
	Open    Open            // deadlines and effects still open; of a sourced state: as of the baseline
	After   bool            // Events come after what the caller knew, and Row, Data and Open are not given

	memo // what is kept of it between units
}

// Changes is everything that one unit writes, in a number of statements that
// does not depend on its size.
type Changes struct {
	// Events to append, each with Stream and Version set, of one stream in
	// ascending order. The version before the first of a stream must be there
	// and the versions themselves must not; otherwise the stream conflicts.
	Events []Event

	// States to store. Row is the version that was loaded (0: there was none);
	// the row is written with Row+1. A row at another version conflicts.
	States []State

	// Snapshots of sourced states: Row is the version they include. They are a
	// baseline for the next load and never a truth of their own.
	Snapshots []State

	// Progress rows. N must be the lane's last N + 1, otherwise ErrFenced.
	Progress []Progress

	Park    []Parked // messages to set aside; one with an ID replaces what that row says of failures and its retry time
	Unpark  []int64  // ids of parked messages that are resolved; one that is resolved already gives ErrFenced
	Discard string   // why the messages in Unpark are not handled, for the record; "": they were
	Replies []Reply  // answers to remember by idempotency key; one that exists is a conflict on its key
}

// Receipt tells when a commit becomes visible to readers of the log.
type Receipt struct {
	Token Token
}

// Token stands for a moment in a log, for read-your-writes: a reader whose
// tick sees transaction Xid has seen the command. Xid 0 stands for a command
// that emitted nothing: there is nothing to wait for.
type Token struct {
	Log   string
	Epoch int32
	Xid   uint64
}

// Lane is the unit of ordered delivery: the events of one source log for one
// subscriber whose keys hash to K.
type Lane struct {
	Subscriber string
	Log        string // source log
	Epoch      int    // lane epoch, see [LaneEpoch]
	K          int
}

// Progress is a row that a lane appends in the transaction of each batch. Its
// key is (Lane, N): a second owner's commit fails on it. The cursor says how
// far the source log is processed, and Note is what the lane needs to go on
// from there (the agenda keeps its open deadlines and effects in it).
type Progress struct {
	Lane
	N      int64
	Cursor Cursor
	Note   json.RawMessage
}

// LaneEpoch fixes, from a place in the source log on, which events a subscriber
// gets and over how many lanes. The next epoch begins when every lane of this
// one has reached the next one's From.
//
// An epoch without lanes says what an operator decided: where a subscriber
// begins that has not run yet, see [AddSubscriber], or that it is retired, see
// [RetireSubscriber]. A retirement ends the epochs before it wherever their
// lanes are.
type LaneEpoch struct {
	Subscriber string
	Log        string // source log
	N          int    // 1, 2, 3, ...
	From       Cursor
	Types      []string // event types, sorted; the filter
	Lanes      int
	Retired    bool
	By         string    // who decided it, "" if a program did
	Began      time.Time // when it was recorded; given by the store
}

// Reply is the answer to a command, remembered by its idempotency key for at
// least seven days.
type Reply struct {
	Key   string
	Hash  [32]byte // of the request
	Body  json.RawMessage
	Token Token // of the commit that recorded it; given by the store
}

// Database is what the logs of one database share: their ticker. The adapters'
// Database types implement it.
type Database interface {
	// Tick records, for every log of the database that has newly visible
	// events, the snapshot that ends its next tick, in one statement, and
	// returns the logs that moved. Several processes may tick at once: a tick
	// that somebody else recorded first is no error, it just moved already.
	Tick(ctx context.Context) (moved []string, err error)

	// Committed is signalled after commits that may need a tick. It has a
	// buffer of one and one receiver, the ticker's loop.
	Committed() <-chan struct{}

	// Ticked is signalled when another process of the fleet has ticked, so
	// that readers need not poll. Same form; nil if there is no other process.
	Ticked() <-chan struct{}
}
