package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5/pgtype"
)

// A tick can be larger than any call: an import of a million events in one
// transaction, or the first tick after the ticker was away. There is no index
// by position, which every append would pay for, so the order of such a tick
// is found once, as the places of its rows in their tables, and read from there
// piece by piece.

const (
	// largeList bounds a list of places to 24 MB. A tick that is longer still
	// is listed in several goes.
	largeList = 1 << 20

	// largeKept is how many lists are kept: readers are rarely in more than
	// one large tick at a time.
	largeKept = 2
)

type place struct {
	position int64
	part     int32
	tid      pgtype.TID
}

// largeTick is the order of one tick's events after some position.
type largeTick struct {
	tick     int64
	hash     uint64
	after    int64 // places begin after this position
	places   []place
	complete bool // nothing of the tick comes after the last place
}

type largeTicks struct {
	mu   sync.Mutex
	kept []*largeTick
}

func (l *largeTicks) find(t courante.Tick, position int64) *largeTick {
	l.mu.Lock()
	defer l.mu.Unlock()
	hash := t.Hash()
	for _, list := range l.kept {
		if list.tick == t.N && list.hash == hash && list.after <= position &&
			(list.complete || position < list.places[len(list.places)-1].position) {
			return list
		}
	}
	return nil
}

// has reports whether the tick is known to be large.
func (l *largeTicks) has(t courante.Tick) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.kept, func(list *largeTick) bool { return list.tick == t.N })
}

func (l *largeTicks) keep(list *largeTick) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) >= largeKept {
		l.kept = append(l.kept[:0:0], l.kept[1:]...)
	}
	l.kept = append(l.kept, list)
}

func (l *largeTicks) drop(list *largeTick) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = slices.DeleteFunc(l.kept, func(have *largeTick) bool { return have == list })
}

// readLarge reads on in one large tick.
func (r *readCall) readLarge(ctx context.Context, after courante.Cursor, before, tick courante.Tick) ([]courante.Event, courante.Cursor, error) {
	end := behind(tick)
	position := int64(0)
	if after.Tick == tick.N {
		position = after.Position
	}
	// A list gets stale when its part is rewritten by sealing; a fresh one is
	// then right, unless another part is sealed just then.
	for range 3 {
		list := r.reader.large.find(tick, position)
		if list == nil {
			var err error
			if list, err = r.listLarge(ctx, before, tick, position); err != nil {
				return nil, after, err
			}
			if len(list.places) == 0 {
				if err := r.checkAttached(ctx, after, tick.N); err != nil {
					return nil, after, err
				}
			}
			r.reader.large.keep(list)
		}
		i := sort.Search(len(list.places), func(i int) bool { return list.places[i].position > position })
		places := list.places[i:min(i+r.max, len(list.places))]
		events, err := r.readPlaces(ctx, places)
		if err != nil {
			return nil, after, err
		}
		if events == nil && len(places) > 0 {
			r.reader.large.drop(list)
			continue
		}
		for i := range events {
			events[i].Tick, events[i].TickHash = tick.N, end.Hash
		}
		if i+len(places) == len(list.places) && list.complete {
			r.reader.large.drop(list)
		} else {
			end.Position = places[len(places)-1].position
		}
		return events, end, nil
	}
	return nil, after, courante.Transient(fmt.Errorf("tick %d is being rewritten", tick.N))
}

func (r *readCall) listLarge(ctx context.Context, before, tick courante.Tick, position int64) (*largeTick, error) {
	list := &largeTick{tick: tick.N, hash: tick.Hash(), after: position}
	args := append([]any{inBinary}, windowArgs(before, []courante.Tick{tick})...)
	rows, err := r.conn.Query(ctx, r.windowEvents("position, part, ctid", " and position > $7")+" order by position limit $8",
		append(args, position, largeList)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		v := rows.RawValues()
		list.places = append(list.places, place{
			position: int64(binary.BigEndian.Uint64(v[0])),
			part:     int32(binary.BigEndian.Uint32(v[1])),
			tid: pgtype.TID{
				BlockNumber:  binary.BigEndian.Uint32(v[2]),
				OffsetNumber: binary.BigEndian.Uint16(v[2][4:]),
				Valid:        true,
			},
		})
	}
	list.complete = len(list.places) < largeList
	return list, rows.Err()
}

// readPlaces reads the events at the places, in their order; nil if other rows
// are there now.
func (r *readCall) readPlaces(ctx context.Context, places []place) ([]courante.Event, error) {
	tids := make(map[int32][]pgtype.TID, 1)
	for _, p := range places {
		tids[p.part] = append(tids[p.part], p.tid)
	}
	events := make([]courante.Event, 0, len(places))
	for part, list := range tids {
		rows, err := r.conn.Query(ctx, "select "+logColumns+" from "+r.partTable(int(part))+" where ctid = any($1)", inBinary, list)
		if err != nil {
			return nil, err
		}
		if events, err = r.scanner.scanEvents(rows, events); err != nil {
			return nil, err
		}
	}
	if len(events) != len(places) {
		return nil, nil
	}
	slices.SortFunc(events, func(a, b courante.Event) int { return int(a.Position - b.Position) })
	for i := range events {
		if events[i].Position != places[i].position {
			return nil, nil
		}
	}
	return events, nil
}
