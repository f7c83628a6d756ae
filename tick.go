package courante

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Snapshot says which transactions a reader sees, as PostgreSQL's pg_snapshot
// does: everything below Xmin, nothing from Xmax on, and between the two
// everything but the transactions in progress.
type Snapshot struct {
	Xmin, Xmax uint64
	InProgress []uint64 // ascending
}

// Visible reports whether the snapshot sees what transaction xid wrote, given
// that the transaction committed.
func (s Snapshot) Visible(xid uint64) bool {
	if xid < s.Xmin {
		return true
	}
	if xid >= s.Xmax {
		return false
	}
	_, found := slices.BinarySearch(s.InProgress, xid)
	return !found
}

// String writes the snapshot as PostgreSQL does: "xmin:xmax:xip,xip".
func (s Snapshot) String() string {
	return string(s.append(nil))
}

func (s Snapshot) append(b []byte) []byte {
	b = append(strconv.AppendUint(b, s.Xmin, 10), ':')
	b = append(strconv.AppendUint(b, s.Xmax, 10), ':')
	for i, xid := range s.InProgress {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, xid, 10)
	}
	return b
}

// ParseSnapshot reads what [Snapshot.String] and PostgreSQL write.
func ParseSnapshot(text string) (Snapshot, error) {
	var s Snapshot
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 {
		return s, fmt.Errorf("snapshot %q: want xmin:xmax:xip", text)
	}
	var err error
	if s.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return s, fmt.Errorf("snapshot %q: %w", text, err)
	}
	if s.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return s, fmt.Errorf("snapshot %q: %w", text, err)
	}
	if parts[2] == "" {
		return s, nil
	}
	for _, field := range strings.Split(parts[2], ",") {
		xid, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return s, fmt.Errorf("snapshot %q: %w", text, err)
		}
		s.InProgress = append(s.InProgress, xid)
	}
	slices.Sort(s.InProgress)
	return s, nil
}

// Tick is one durable step of a log: it says which snapshot ends the step. The
// events of tick n are those that its snapshot sees and that of tick n-1 does
// not, ordered by position; (tick, position) is therefore one total order that
// every reader sees alike, at any time.
//
// It holds because version v+1 of a stream can only be inserted after v
// committed, so v is in the same or an earlier tick and has the lower position
// (the sequence has no per-session cache). An open transaction delays its own
// events and no others. The idea is PgQ's (Skype, 2007).
type Tick struct {
	N        int64
	Epoch    int32
	Snapshot Snapshot
	High     int64 // highest position given out when it was taken; sizes a read, decides nothing
}

// Hash identifies what a tick stands for. A cursor keeps it: after a restore or
// a promotion that lost its tail, tick n may exist again with other contents,
// and only the hash tells.
func (t Tick) Hash() uint64 {
	var buf [128]byte
	b := append(strconv.AppendInt(buf[:0], int64(t.Epoch), 10), '/')
	b = append(strconv.AppendInt(b, t.N, 10), '/')
	h := fnv.New64a()
	_, _ = h.Write(t.Snapshot.append(b)) // never fails
	return h.Sum64()
}

// Order gives each event the first tick that sees it and sorts them into the
// total order. ticks are consecutive and ascending, of one epoch, and each
// event is seen by the last of them and by none before the first; an event
// that the last tick does not see is left out.
func Order(events []Event, ticks []Tick) []Event {
	hashes := make([]uint64, len(ticks)) // 0: not computed yet
	hashOf := func(i int) uint64 {
		if hashes[i] == 0 {
			hashes[i] = ticks[i].Hash()
		}
		return hashes[i]
	}
	kept := events[:0]
	for _, e := range events {
		// The first candidate is the first tick whose xmax is past the
		// event's transaction; while that one lists it as in progress, go on.
		i := sort.Search(len(ticks), func(i int) bool { return ticks[i].Snapshot.Xmax > e.Xid })
		for i < len(ticks) && !ticks[i].Snapshot.Visible(e.Xid) {
			i++
		}
		if i == len(ticks) {
			continue
		}
		e.Tick, e.TickHash = ticks[i].N, hashOf(i)
		kept = append(kept, e)
	}
	slices.SortFunc(kept, func(a, b Event) int {
		if a.Tick != b.Tick {
			if a.Tick < b.Tick {
				return -1
			}
			return 1
		}
		if a.Position < b.Position {
			return -1
		}
		return 1
	})
	return kept
}

// Cursor is a place in a log's total order: everything up to and including
// (Tick, Position) is behind it. The zero Cursor is the beginning of the log.
type Cursor struct {
	Epoch    int32  `json:"epoch"`
	Tick     int64  `json:"tick"`
	Position int64  `json:"position"`    // MaxPosition: the whole tick is behind it
	Hash     uint64 `json:"hash,string"` // of the tick; see [Tick.Hash]
}

// MaxPosition in a cursor says that its whole tick is behind it.
const MaxPosition = 1<<63 - 1

// Before reports whether c is an earlier place than d.
func (c Cursor) Before(d Cursor) bool {
	if c.Tick != d.Tick {
		return c.Tick < d.Tick
	}
	return c.Position < d.Position
}

// Covers reports whether the event lies behind the cursor.
func (c Cursor) Covers(e *Event) bool {
	return e.Tick < c.Tick || e.Tick == c.Tick && e.Position <= c.Position
}

func (c Cursor) String() string {
	if c == (Cursor{}) {
		return "start"
	}
	if c.Position == MaxPosition {
		return fmt.Sprintf("%d.%d", c.Epoch, c.Tick)
	}
	return fmt.Sprintf("%d.%d/%d", c.Epoch, c.Tick, c.Position)
}
