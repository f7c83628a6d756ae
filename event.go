package courante

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Event is one fact that happened in one bounded context. The same value
// travels from append to handler; nothing copies it into an envelope or a
// transfer object on the way.
//
// An event is identified by (Log, Stream, Version): see [Event.ID]. The fields
// below "read from the log" are zero until a store has read the event back.
//
// An Event is immutable once appended: handlers and readers share the slices
// inside it and must not write to them.
type Event struct {
	Log     string // bounded context whose log holds it, e.g. "ordering"
	Stream  string // "category:id", e.g. "order:17"; see [Key]
	Version int64  // 1, 2, 3, ... without a gap within its stream

	Type   string    // hand-written stored name, e.g. "shop.order_created"
	Schema int       // version of the payload's schema that Data is written in, from 1
	Time   time.Time // when it was decided, UTC, microseconds

	Correlation string // id that everything of one saga or request shares, e.g. the order's id
	Causation   string // ID of the event, or the name of the command, that caused this one
	Subject     string // id of the key of the person whose data Data holds, "" if none
	Trace       string // W3C traceparent of the decision, "" if not traced

	Data  json.RawMessage // payload as stored, in the schema version Schema
	Notes *Notes          // what the runtime has to remember with this event, usually nil

	// Read from the log.
	Epoch    int32  // incarnation of the database cluster in which it was committed
	Tick     int64  // tick of its log that made it visible; (Tick, Position) is the total order
	TickHash uint64 // hash of that tick, for cursors that end inside it
	Position int64  // sequence number, unique within its log, given before the commit
	Xid      uint64 // transaction that appended it
}

// ID identifies the event for ever: "log/stream@version". It is the causation
// of what follows from it and the id on the wire.
func (e *Event) ID() string {
	return e.Log + "/" + e.Stream + "@" + strconv.FormatInt(e.Version, 10)
}

// Cursor is the place in the log right behind the event.
func (e *Event) Cursor() Cursor {
	return Cursor{Epoch: e.Epoch, Tick: e.Tick, Position: e.Position, Hash: e.TickHash}
}

// Key is the id part of the stream, "17" of "order:17". Events of all logs
// with one Key are handled by one lane of a subscriber, in order.
func (e *Event) Key() string {
	if _, id, ok := strings.Cut(e.Stream, ":"); ok {
		return id
	}
	return e.Stream
}

// Key names one state: an entity of a category. Its stream is "category:id".
type Key struct {
	Category string
	ID       string
	Sourced  bool // the state is a fold of its stream; otherwise it is a stored, versioned row
}

// Stream is the name of the stream that holds the events of the state.
func (k Key) Stream() string { return k.Category + ":" + k.ID }

// Notes are what an event makes the runtime remember: deadlines and effects.
// They are stored with the event, so that the log alone tells what is still
// open, and no second table has to agree with it. Names are unique within
// one stream.
type Notes struct {
	Set   []Deadline `json:"set,omitempty"`   // deadlines that start, or move, with this event
	Clear []string   `json:"clear,omitempty"` // names of deadlines that end with it, met or not
	Ask   []Request  `json:"ask,omitempty"`   // effects to perform once it is committed
	Done  []string   `json:"done,omitempty"`  // ids of effects whose outcome this event records
}

// Deadline is a moment by which something must have happened to a stream.
type Deadline struct {
	Name string    `json:"name"`
	Due  time.Time `json:"due"`
}

// Request asks for an effect: a call to the world outside.
type Request struct {
	ID     string          `json:"id"`     // idempotency key of the call, unique for ever
	Effect string          `json:"effect"` // name under which the service declared it
	Data   json.RawMessage `json:"data"`
}

// Open is what a stream still waits for: the deadlines set and the effects
// asked for by its events and not ended by a later one.
type Open struct {
	Deadlines []Deadline `json:"deadlines,omitempty"`
	Effects   []Request  `json:"effects,omitempty"`
}

// Apply returns o after an event with the notes n. It never changes o's slices
// in place, so a caller may keep o as the state before.
func (o Open) Apply(n *Notes) Open {
	if n == nil {
		return o
	}
	if len(n.Clear) > 0 || len(n.Set) > 0 {
		kept := make([]Deadline, 0, len(o.Deadlines)+len(n.Set))
		for _, d := range o.Deadlines {
			if !contains(n.Clear, d.Name) && !named(n.Set, d.Name) {
				kept = append(kept, d)
			}
		}
		kept = append(kept, n.Set...)
		o.Deadlines = kept
	}
	if len(n.Done) > 0 || len(n.Ask) > 0 {
		kept := make([]Request, 0, len(o.Effects)+len(n.Ask))
		for _, r := range o.Effects {
			if !contains(n.Done, r.ID) {
				kept = append(kept, r)
			}
		}
		kept = append(kept, n.Ask...)
		o.Effects = kept
	}
	return o
}

// Empty reports whether nothing is open.
func (o Open) Empty() bool { return len(o.Deadlines) == 0 && len(o.Effects) == 0 }

// Deadline returns the open deadline of that name.
func (o Open) Deadline(name string) (Deadline, bool) {
	for _, d := range o.Deadlines {
		if d.Name == name {
			return d, true
		}
	}
	return Deadline{}, false
}

// Effect returns the open request with that id.
func (o Open) Effect(id string) (Request, bool) {
	for _, r := range o.Effects {
		if r.ID == id {
			return r, true
		}
	}
	return Request{}, false
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

func named(list []Deadline, name string) bool {
	for _, d := range list {
		if d.Name == name {
			return true
		}
	}
	return false
}
