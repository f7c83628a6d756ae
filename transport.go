package courante

import (
	"context"
	"fmt"
)

// Transport carries the events of source logs to the lanes of subscribers. The
// log itself is the transport when no broker is configured, and it is as safe.
//
// The seam is thin on purpose. Above it, the consumer batches, decides, retries,
// parks and records progress; below it, a transport only brings a lane's events
// in order. courantetest.TestTransport states the contract as a test.
type Transport interface {
	// Name is what `courante routes` calls it.
	Name() string

	// Open begins to carry a lane's events from the place after its progress.
	// The epoch's Types and Lanes say which events belong to the lane. There is
	// at most one feed of a lane in a process; in another process there may be
	// a zombie's, which the lane's progress fences off.
	Open(ctx context.Context, lane Lane, epoch LaneEpoch, after Cursor) (Feed, error)
}

// Feed is one lane's stream of events. It is used by one goroutine.
type Feed interface {
	// Fetch returns the next events of the lane, in order, about max at most,
	// and the place they reach to. It does not wait: no events and an unmoved
	// cursor mean that there is nothing new yet. An event may come again after
	// a reconnection; one is never left out.
	Fetch(ctx context.Context, max int) ([]Event, Cursor, error)

	// Ack says that everything up to the place is processed and recorded. A
	// failure is harmless, the events come again.
	Ack(ctx context.Context, upTo Cursor) error

	// Close releases what the feed holds. Events fetched and not acknowledged
	// come again to the next feed of the lane.
	Close()
}

// LogTransport is the transport that needs no broker: each lane reads the logs
// of the stores itself. A runtime makes its own, which shares the newest events
// between lanes.
func LogTransport(stores ...Store) Transport {
	tails := map[string]*tail{}
	for _, s := range stores {
		tails[s.Log()] = newTail(nil, s)
	}
	return &logTransport{tails: tails}
}

// logTransport serves lanes from the logs themselves: each feed reads the
// source log at its own place and keeps what belongs to its lane.
type logTransport struct {
	tails map[string]*tail
}

func (*logTransport) Name() string { return "log" }

func (t *logTransport) Open(_ context.Context, lane Lane, epoch LaneEpoch, after Cursor) (Feed, error) {
	tail := t.tails[lane.Log]
	if tail == nil {
		return nil, fmt.Errorf("log %q is not among the runtime's services and sources", lane.Log)
	}
	f := &logFeed{tail: tail, k: lane.K, lanes: epoch.Lanes, at: after, types: map[string]bool{}}
	for _, typ := range epoch.Types {
		f.types[typ] = true
	}
	return f, nil
}

type logFeed struct {
	tail     *tail
	types    map[string]bool
	k, lanes int
	at       Cursor
	checked  bool
}

func (f *logFeed) Fetch(ctx context.Context, max int) ([]Event, Cursor, error) {
	// The first read goes to the store, because only the store compares the
	// cursor's hash with the log.
	read := f.tail.read
	if !f.checked {
		read = f.tail.store.ReadLog
	}
	// A subscriber to rare events may have to read much to find little. It
	// comes back after some reads, so that it can be stopped and its progress
	// be recorded.
	const reads = 16
	var mine []Event
	for i := 0; i < reads && len(mine) < max; i++ {
		events, to, err := read(ctx, f.at, max-len(mine))
		if err != nil {
			return nil, f.at, err
		}
		f.checked, read = true, f.tail.read
		for j := range events {
			if f.types[events[j].Type] && LaneOf(events[j].Key(), f.lanes) == f.k {
				mine = append(mine, events[j])
			}
		}
		if to == f.at {
			break
		}
		f.at = to
		if len(events) == 0 {
			break
		}
	}
	return mine, f.at, nil
}

func (f *logFeed) Ack(context.Context, Cursor) error { return nil }
func (f *logFeed) Close()                            {}

// LaneOf is the lane, of so many, to which a key belongs. It is FNV-1a and part
// of what a lane epoch fixes: another function would be another epoch.
func LaneOf(key string, lanes int) int {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	// FNV's low bits are weak for short keys; fold the high half in.
	return int((h ^ h>>32) % uint64(lanes))
}
