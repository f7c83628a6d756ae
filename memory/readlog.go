package memory

import (
	"fmt"
	"slices"
	"sort"

	"github.com/courante-dev/courante"
)

// read is ReadLog: the events after the cursor, in the order that the ticks
// decide.
func (l *log) read(after courante.Cursor, limit int) ([]courante.Event, courante.Cursor, error) {
	if reason := l.mismatch(after); reason != "" {
		return nil, courante.Cursor{}, &courante.LogBrokenError{Log: l.name, Cursor: after, Reason: reason}
	}
	limit = max(limit, 1)
	next := after.Tick // index of the first tick to read; tick n is ticks[n-1]
	if after.Tick > 0 && after.Position != courante.MaxPosition {
		next-- // that tick is not finished
	}
	// A cursor on the last event of an unfinished tick finds nothing in it. No
	// events would tell the caller that the log ends here, so go on.
	for next < int64(len(l.ticks)) {
		events, last := l.readTicks(next, after, limit)
		if len(events) > 0 {
			return cut(events, l.ticks, last, limit)
		}
		after = cursorBehind(l.ticks[last])
		next = last + 1
	}
	return nil, after, nil
}

// readTicks reads ticks from index first on, as many of one epoch as hold
// about limit events, and returns what the cursor does not cover and the index
// of the last tick read.
func (l *log) readTicks(first int64, after courante.Cursor, limit int) ([]courante.Event, int64) {
	var since courante.Snapshot // sees nothing: the beginning of an epoch
	var low int64
	if first > 0 {
		low = l.ticks[first-1].High
		if l.ticks[first-1].Epoch == l.ticks[first].Epoch {
			since = l.ticks[first-1].Snapshot
		}
	}
	last := first
	for last+1 < int64(len(l.ticks)) && l.ticks[last+1].Epoch == l.ticks[first].Epoch && l.ticks[last].High-low < int64(limit) {
		last++
	}
	ticks := l.ticks[first : last+1]
	events := l.era(ticks[0].Epoch).between(since, ticks[len(ticks)-1].Snapshot)
	events = courante.Order(events, ticks)
	return slices.DeleteFunc(events, func(e courante.Event) bool { return after.Covers(&e) }), last
}

// cut returns at most limit of the events, which end with the tick at index
// last, and the cursor behind them.
func cut(events []courante.Event, ticks []courante.Tick, last int64, limit int) ([]courante.Event, courante.Cursor, error) {
	if len(events) <= limit {
		return events, cursorBehind(ticks[last]), nil
	}
	end := events[limit-1]
	cursor := cursorBehind(ticks[end.Tick-1])
	if events[limit].Tick == end.Tick {
		cursor.Position = end.Position
	}
	return events[:limit], cursor, nil
}

// mismatch says why the cursor does not fit the log, "" if it does.
func (l *log) mismatch(c courante.Cursor) string {
	if c == (courante.Cursor{}) {
		return ""
	}
	if c.Tick < 1 || c.Tick > int64(len(l.ticks)) {
		return fmt.Sprintf("the log has no tick %d, its last is %d", c.Tick, len(l.ticks))
	}
	t := l.ticks[c.Tick-1]
	if t.Epoch != c.Epoch {
		return fmt.Sprintf("tick %d is of epoch %d", c.Tick, t.Epoch)
	}
	if t.Hash() != c.Hash {
		return fmt.Sprintf("tick %d is another one than the cursor has read", c.Tick)
	}
	return ""
}

// locate finds the first tick that sees the token's transaction. The bounds of
// an epoch's snapshots never go back, so only ticks that list the transaction
// as in progress are looked at one by one.
func (l *log) locate(t courante.Token) (courante.Cursor, bool) {
	i := sort.Search(len(l.ticks), func(i int) bool {
		tick := l.ticks[i]
		return tick.Epoch > t.Epoch || tick.Epoch == t.Epoch && tick.Snapshot.Xmax > t.Xid
	})
	for ; i < len(l.ticks) && l.ticks[i].Epoch == t.Epoch; i++ {
		if l.ticks[i].Snapshot.Visible(t.Xid) {
			return cursorBehind(l.ticks[i]), true
		}
	}
	return courante.Cursor{}, false
}

func (l *log) head() courante.Cursor {
	if len(l.ticks) == 0 {
		return courante.Cursor{}
	}
	return cursorBehind(l.ticks[len(l.ticks)-1])
}

func cursorBehind(t courante.Tick) courante.Cursor {
	return courante.Cursor{Epoch: t.Epoch, Tick: t.N, Position: courante.MaxPosition, Hash: t.Hash()}
}
