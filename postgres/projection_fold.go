package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// foldEvents is how many events one transaction folds at most: enough that the
// commit and the fixed cost of each statement vanish beside them, and few enough
// that a crash loses little and a switch does not wait long for a fold.
const foldEvents = 10_000

// buildEvents is the same while nobody reads the tables: a row that several
// events change is written once for each stretch that they are in, and what
// happens to an order, say, is spread over some thousand events of others. Three
// stretches are in memory at a time, some 30 MB each.
const buildEvents = 30_000

// folder folds logs into one generation of a projection's tables. Each log is a
// lane of its own, whose progress is appended in the transaction of the tables:
// so each event counts once, and of two that fold the same generation one
// fails on the progress, before it has changed anything, and looks again where
// the other is. It is used by one goroutine.
type folder struct {
	store *Store
	p     *courante.Projection
	g     generation
	in    func(sql string) string
	logs  map[string]courante.ReadLog
	lanes map[string]*foldLane // nil: not opened
}

// foldLane is how far a generation is in one log.
type foldLane struct {
	courante.Progress
	foldNote
	unrecorded int // events that were not wanted since the last record
}

// foldNote goes with the progress: what a cursor alone does not say.
type foldNote struct {
	Events   int64 `json:"events"`   // of the log that are behind it
	Position int64 `json:"position"` // of the last of them
}

var errMoved = errors.New("the generation was switched or discarded")

func (s *Store) newFolder(p *courante.Projection, g *generation, logs map[string]courante.ReadLog) *folder {
	return &folder{store: s, p: p, g: *g, in: s.inGeneration(g, p.Tables), logs: logs}
}

// open reads how far the generation is, or has it begin at the start of a log
// that it has not begun with.
func (f *folder) open(ctx context.Context) error {
	if f.lanes != nil {
		return nil
	}
	lanes := make(map[string]*foldLane)
	for log := range f.logs {
		l, err := f.store.foldLane(ctx, &f.g, log)
		if errors.Is(err, courante.ErrNotFound) {
			if err = f.store.beginAtStart(ctx, &f.g, log, f.p.Types); err == nil {
				l, err = f.store.foldLane(ctx, &f.g, log)
			}
		}
		if err != nil {
			return err
		}
		lanes[log] = l
	}
	f.lanes = lanes
	return nil
}

// foldLane reads the lane of a generation on a log; ErrNotFound if there is none.
func (s *Store) foldLane(ctx context.Context, g *generation, log string) (*foldLane, error) {
	epochs, err := s.LaneEpochs(ctx, g.lane(), log)
	if err != nil {
		return nil, err
	}
	if len(epochs) == 0 || epochs[len(epochs)-1].Retired {
		return nil, courante.ErrNotFound
	}
	e := epochs[len(epochs)-1]
	p, err := s.Progress(ctx, courante.Lane{Subscriber: g.lane(), Log: log, Epoch: e.N, K: 0})
	if err != nil {
		return nil, err
	}
	l := &foldLane{Progress: p}
	if p.Note != nil {
		err = json.Unmarshal(p.Note, &l.foldNote)
	}
	return l, err
}

// beginAtStart has a generation follow a log from its first event on.
func (s *Store) beginAtStart(ctx context.Context, g *generation, log string, types []string) error {
	source, err := s.db.Store(ctx, log)
	if err != nil {
		return err
	}
	if _, err := source.Start(ctx); err != nil {
		return err
	}
	err = s.AddLaneEpoch(ctx, courante.LaneEpoch{Subscriber: g.lane(), Log: log, N: 1, Lanes: 1, Types: types})
	if errors.Is(err, courante.ErrFenced) {
		return nil // somebody else did
	}
	return err
}

// batch is a stretch of a log with the statements that fold it.
type batch struct {
	log        string
	events     []courante.Event
	statements []*pgx.QueuedQuery
	to         courante.Cursor
	err        error
}

// read returns what comes behind a place in the log, and the statements that
// fold it.
func (f *folder) read(ctx context.Context, log string, after courante.Cursor) batch {
	return f.prepare(f.fetch(ctx, log, after))
}

// fetch reads what comes behind a place in the log. Neither it nor prepare needs
// anything of the folder that changes.
func (f *folder) fetch(ctx context.Context, log string, after courante.Cursor) batch {
	most := foldEvents
	if f.g.State == stateBuilding {
		most = buildEvents
	}
	b := batch{log: log}
	b.events, b.to, b.err = f.logs[log](ctx, after, most)
	return b
}

// prepare adds the statements that fold what was fetched.
func (f *folder) prepare(b batch) batch {
	if b.err == nil && len(b.events) > 0 {
		b.statements, b.err = f.statements(b.events)
	}
	return b
}

func (f *folder) statements(events []courante.Event) ([]*pgx.QueuedQuery, error) {
	// As a unit has them: without what they got by being committed. Others may
	// have been given the same slice.
	events = slices.Clone(events)
	for i := range events {
		e := &events[i]
		e.Epoch, e.Tick, e.TickHash, e.Position, e.Xid = 0, 0, 0, 0, 0
	}
	list, err := apply(f.p, events, f.in)
	if err != nil {
		return nil, foldError(events, err)
	}
	return list, nil
}

func foldError(events []courante.Event, err error) error {
	return fmt.Errorf("fold %s to %s: %w", events[0].ID(), events[len(events)-1].ID(), err)
}

// advance is the lane behind the batch.
func (l foldLane) advance(b batch) foldLane {
	l.N++
	l.Cursor = b.to
	if n := len(b.events); n > 0 {
		l.Events += int64(n)
		l.Position = b.events[n-1].Position
	}
	l.unrecorded = 0
	return l
}

// commit changes the tables by the batch and moves the place, both or neither.
// What has nothing for the projection is only recorded now and then.
func (f *folder) commit(ctx context.Context, b batch) error {
	lane := f.lanes[b.log]
	next := lane.advance(b)
	if len(b.statements) == 0 && lane.unrecorded+len(b.events) < foldEvents {
		next.N, next.unrecorded = lane.N, lane.unrecorded+len(b.events)
		*lane = next
		return nil
	}
	if err := f.write(ctx, b, &next); err != nil {
		return err
	}
	*lane = next
	return nil
}

// record writes down a place that commit has kept to itself.
func (f *folder) record(ctx context.Context, log string) error {
	lane := f.lanes[log]
	next := lane.advance(batch{to: lane.Cursor})
	if err := f.write(ctx, batch{log: log}, &next); err != nil {
		return err
	}
	*lane = next
	return nil
}

func (f *folder) write(ctx context.Context, b batch, next *foldLane) error {
	s := f.store
	doing := fmt.Sprintf("fold %s into projection %s of %s", b.log, f.p.Name, s.name)
	note, err := json.Marshal(next.foldNote)
	if err != nil {
		return err
	}
	next.Note = note
	w := &write{store: s, c: courante.Changes{Progress: []courante.Progress{next.Progress}}}
	conn, err := s.db.units.Acquire(ctx)
	if err != nil {
		return translate(doing, err)
	}
	u := &unit{store: s, conn: conn, begun: true}
	defer u.end(ctx)
	p := newPipeline(ctx, conn.Conn())
	p.exec("begin")
	// What a crash takes back goes with its place, and is folded again.
	p.exec("set local synchronous_commit = off")
	w.addProgress(p)
	p.query(s.sql(holdGeneration), nil, int8Param(f.g.N), boolParam(f.g.Beside))
	for _, q := range b.statements {
		p.queued(f.p.Name, q)
	}
	p.exec("commit")
	err = p.run()
	if err == nil {
		return nil
	}
	return f.explain(ctx, doing, u, w, b, err)
}

// holdGeneration fails unless the generation is where it was, and keeps it there
// until the transaction ends.
const holdGeneration = `
	select {schema}.expect('generation', count(*), 1)
	from (select from {schema}.generation where n = $1 and beside = $2 for share) held`

func boolParam(v bool) []byte {
	if v {
		return []byte{1}
	}
	return []byte{0}
}

// explain finds out what the failure of a fold means.
func (f *folder) explain(ctx context.Context, doing string, u *unit, w *write, b batch, err error) error {
	var projection *projectionError
	var server *pgconn.PgError
	isServer := errors.As(err, &server)
	switch {
	case errors.As(err, &projection):
		if hasCode(err, "3F000", "42P01") { // no such schema or table: it may have been moved away
			u.end(ctx)
			if there, lookup := f.there(ctx); lookup == nil && !there {
				return errMoved
			}
		}
		if len(b.events) > 0 {
			err = foldError(b.events, err)
		}
		return translateCommit(doing, err)
	case isServer && server.TableName == "generation" && server.Code == codeExpect:
		return errMoved
	case isServer && (server.Code == codeExpect || server.Code == "23505") && baseTable(server.TableName) == "progress":
		return fmt.Errorf("postgres: %s: %w", doing, courante.ErrFenced)
	case isServer && server.Code == "23514" && baseTable(server.TableName) == "progress":
		u.end(ctx)
		return f.store.noPartition(ctx, doing, "progress", w)
	}
	return translateCommit(doing, err)
}

// there reports whether the generation is where the folder takes it to be.
func (f *folder) there(ctx context.Context) (there bool, err error) {
	err = f.store.db.pool.QueryRow(ctx, f.store.sql("select exists (select from {schema}.generation where n = $1 and beside = $2)"), f.g.N, f.g.Beside).Scan(&there)
	return there, err
}

// catchUp folds every log to its end, or, if most is not 0, that many stretches
// of each. It reads the next stretch while it works out the statements of one
// and writes another. told, which may be nil, hears of each.
func (f *folder) catchUp(ctx context.Context, most int, told func(*folder)) error {
	if err := f.open(ctx); err != nil {
		return err
	}
	for log := range f.logs {
		if err := f.catchUpLog(ctx, log, most, told); err != nil {
			f.lanes = nil // in doubt: they are read again
			return err
		}
	}
	return nil
}

func (f *folder) catchUpLog(ctx context.Context, log string, most int, told func(*folder)) error {
	reading, cancel := context.WithCancel(ctx)
	fetched, batches := make(chan batch), make(chan batch)
	defer func() {
		cancel()
		for range batches { //nolint:revive // until both have ended
		}
	}()
	go func(after courante.Cursor) {
		defer close(fetched)
		for n := 1; ; n++ {
			b := f.fetch(reading, log, after)
			select {
			case fetched <- b:
			case <-reading.Done():
				return
			}
			if b.err != nil || b.to == after || n == most {
				return
			}
			after = b.to
		}
	}(f.lanes[log].Cursor)
	go func() {
		defer close(batches)
		for b := range fetched {
			select {
			case batches <- f.prepare(b):
			case <-reading.Done():
			}
		}
	}()
	for b := range batches {
		if b.err != nil {
			return b.err
		}
		if b.to == f.lanes[log].Cursor {
			return nil
		}
		if err := f.commit(ctx, b); err != nil {
			return err
		}
		if told != nil {
			told(f)
		}
	}
	return ctx.Err()
}

// lockLog keeps units out, for as long as tx is open, once those under way
// have ended. It needs no lock of theirs for that: inserting takes one on the
// log's table anyway. If one is under way for long, it lets those pass who wait
// behind us and fails as transient.
func (s *Store) lockLog(ctx context.Context, tx pgx.Tx) error {
	return s.lockTables(ctx, tx, "share", s.quoted+".event")
}

func (s *Store) lockTables(ctx context.Context, tx pgx.Tx, mode string, tables ...string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, fmt.Sprintf("set local lock_timeout = '%s'; lock table %s in %s mode; set local lock_timeout = 0",
		milliseconds(partLockTimeout), strings.Join(tables, ", "), mode)).ReadAll()
	return err
}
