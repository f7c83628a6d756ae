package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/courante-dev/courante"
	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// lockStates locks the stored rows in the order of the streams it is given, so
// that two units that want the same rows do not wait for each other; it returns
// them as they are once the locks are held. readStates is the same without
// locks. A stream has one row, and behind it the versions that it had and that
// are not cleaned up yet: from the end of the index the first is the right one.
var (
	readStates = statesOf("")
	lockStates = statesOf(" for update")
)

func statesOf(lock string) string {
	return `
	select s.*
	from unnest($1::text[]) k(stream)
	cross join lateral (
		select stream, row_version, version, data, open from {schema}.state s
		where s.stream = k.stream order by s.chapter desc limit 1` + lock + `
	) s`
}

// readSourced returns of each stream the latest snapshot, as a row with
// baseline = 1, and the events after it. It is one statement because two would
// see two snapshots of the database: with a newer baseline appearing in
// between, the events between the two would be missing.
const readSourced = `
	with base as materialized (
		select k.stream, s.version, s.data, s.open
		from unnest($1::text[]) k(stream)
		left join lateral (
			select version, data, open from {schema}.snapshot s
			where s.stream = k.stream order by s.version desc limit 1
		) s on true
	)
	select 0::bigint, '0'::xid8, version, now(), 0::bigint, 1 as baseline, 0, stream, '', '', '', '', '', data, open
	from base where version is not null
	union all
	select e.position, e.xid, e.version, e.at, coalesce(e.tick, 0), -e.epoch, e.schema, e.stream, e.type, e.correlation, e.causation, e.subject, e.trace, e.data, e.notes
	from base join {schema}.event e on e.stream = base.stream and e.version > coalesce(base.version, 0)
	order by 8, 3`

// readAfter returns of each stream the event of the given version, without what
// is in it, and the events after it. The lateral keeps PostgreSQL from reading
// the whole log for the streams, whatever it believes of their number.
const readAfter = `
	select e.position, e.xid, e.version, e.at, coalesce(e.tick, 0), e.epoch, e.schema, e.stream, e.type, e.correlation, e.causation, e.subject, e.trace,
		case when e.version > k.version then e.data end, e.notes
	from unnest($1::text[], $2::bigint[]) k(stream, version)
	cross join lateral (
		select * from {schema}.event e where e.stream = k.stream and e.version >= k.version order by e.version offset 0
	) e`

// Read returns the states behind the keys as the last commit left them; see
// [courante.Store].
func (s *Store) Read(ctx context.Context, keys []courante.Key) ([]courante.State, error) {
	doing := "read states of " + s.name
	conn, err := s.db.log.pool.Acquire(ctx)
	if err != nil {
		return nil, translate(doing, err)
	}
	defer conn.Release()
	p := newPipeline(ctx, conn.Conn())
	found := newFound(s, keys, nil)
	found.load(p, readStates)
	if err := p.run(); err != nil {
		return nil, translate(doing, err)
	}
	return found.states(keys), nil
}

// found is what a Load has found so far.
type found struct {
	store   *Store
	byKey   map[courante.Key]*courante.State
	rows    map[string]*courante.State // by stream: stored states
	sourced map[string]*courante.State // by stream
	known   map[string]courante.Known  // by stream: of sourced states
	begun   bool
}

func newFound(s *Store, keys []courante.Key, known map[courante.Key]courante.Known) *found {
	f := &found{
		store: s, byKey: make(map[courante.Key]*courante.State, len(keys)),
		rows: map[string]*courante.State{}, sourced: map[string]*courante.State{}, known: map[string]courante.Known{},
	}
	for _, k := range keys {
		if f.byKey[k] != nil {
			continue
		}
		state := &courante.State{Key: k}
		f.byKey[k] = state
		stream := k.Stream()
		if !k.Sourced {
			f.rows[stream] = state
			continue
		}
		f.sourced[stream] = state
		if at, ok := known[k]; ok {
			f.known[stream] = at
		}
	}
	return f
}

func (f *found) states(keys []courante.Key) []courante.State {
	states := make([]courante.State, len(keys))
	for i, k := range keys {
		states[i] = *f.byKey[k]
	}
	return states
}

// load adds the statements that load what is not found yet to the pipeline.
func (f *found) load(p *pipeline, stored string) {
	if len(f.rows) > 0 && !f.begun {
		p.query(f.store.sql(stored), func(v [][]byte) error {
			return scanState(v, f.rows[string(v[0])])
		}, textArray(slices.Sorted(maps.Keys(f.rows))))
	}
	f.begun = true
	scan := scanner{log: f.store.name}
	var whole, parts []string
	var versions []int64
	for stream, state := range f.sourced {
		switch at, known := f.known[stream]; {
		case known:
			parts = append(parts, stream)
			versions = append(versions, at.Version)
		case !state.After && state.Version == 0:
			whole = append(whole, stream)
		}
	}
	if len(whole) > 0 {
		p.query(f.store.sql(readSourced), func(v [][]byte) error {
			return scan.sourced(v, f.sourced[string(v[7])])
		}, textArray(whole))
	}
	if len(parts) > 0 {
		p.query(f.store.sql(readAfter), func(v [][]byte) error {
			return scan.after(v, f.sourced[string(v[7])], f.known[string(v[7])])
		}, textArray(parts), int8Array(versions))
	}
}

// again reports whether something is known that is not in the stream, which
// then has to be loaded whole.
func (f *found) again() bool {
	more := false
	for stream := range f.known {
		more = more || !f.sourced[stream].After
	}
	clear(f.known)
	return more
}

func scanState(v [][]byte, state *courante.State) error {
	state.Row = int64(binary.BigEndian.Uint64(v[1]))
	state.Version = int64(binary.BigEndian.Uint64(v[2]))
	state.Data = slices.Clone(v[3])
	return scanOpen(v[4], state)
}

func scanOpen(data []byte, state *courante.State) error {
	if data == nil {
		return nil
	}
	if err := jsonv1.Unmarshal(data, &state.Open); err != nil {
		return fmt.Errorf("what %s waits for: %w", state.Stream(), err)
	}
	return nil
}

// sourced reads a row of readSourced. The epoch's column says which of the two
// kinds it is.
func (s *scanner) sourced(v [][]byte, state *courante.State) error {
	state.Version = int64(binary.BigEndian.Uint64(v[2]))
	if epoch := int32(binary.BigEndian.Uint32(v[5])); epoch > 0 {
		state.Row = state.Version
		state.Data = slices.Clone(v[13])
		return scanOpen(v[14], state)
	}
	state.Events = append(state.Events, courante.Event{})
	e := &state.Events[len(state.Events)-1]
	if err := s.scanValues(v, e); err != nil {
		return err
	}
	e.Epoch = -e.Epoch
	return nil
}

// after reads a row of readAfter. The first of a stream is the one that is
// known, if it is there.
func (s *scanner) after(v [][]byte, state *courante.State, known courante.Known) error {
	version := int64(binary.BigEndian.Uint64(v[2]))
	if version == known.Version {
		xid, epoch := binary.BigEndian.Uint64(v[1]), int32(binary.BigEndian.Uint32(v[5]))
		state.After = epoch == known.Epoch && xid == known.Xid
		if state.After {
			state.Version = version
		}
		return nil
	}
	if !state.After {
		return nil // another history; it is read whole
	}
	state.Version = version
	state.Events = append(state.Events, courante.Event{})
	return s.scanValues(v, &state.Events[len(state.Events)-1])
}

// streamPage is how many events ReadStream asks for at a time: no connection
// is held while the caller handles them, so it may use the store.
const streamPage = 1000

// ReadStream yields the stream's events after the version, in order; see
// [courante.Store].
func (s *Store) ReadStream(ctx context.Context, stream string, after int64) iter.Seq2[courante.Event, error] {
	return func(yield func(courante.Event, error) bool) {
		scan := scanner{log: s.name}
		for {
			events, more, err := s.readPage(ctx, &scan, stream, after)
			if err != nil {
				yield(courante.Event{}, err)
				return
			}
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
			if !more {
				return
			}
			after = events[len(events)-1].Version
		}
	}
}

// readPage reads the stream's next events after the version and says whether
// there may be more.
func (s *Store) readPage(ctx context.Context, scan *scanner, stream string, after int64) (events []courante.Event, more bool, err error) {
	doing := "read stream " + stream
	attached := func() ([]courante.Event, error) {
		rows, err := s.db.log.pool.Query(ctx, s.sql("select "+logColumns+" from {schema}.event where stream = $1 and version > $2 order by version limit $3"),
			inBinary, stream, after, streamPage)
		if err != nil {
			return nil, err
		}
		return scan.scanEvents(rows, nil)
	}
	if events, err = attached(); err != nil {
		return nil, false, translate(doing, err)
	}
	if len(events) > 0 && events[0].Version == after+1 {
		return events, len(events) == streamPage, nil
	}
	end, parts, err := s.archivedUpTo(ctx, stream)
	if err != nil {
		return nil, false, translate(doing, err)
	}
	if len(events) == 0 && end <= after {
		return nil, false, nil
	}
	// It is asked again, now that the end is known: what was appended, or
	// attached, between the two is no gap.
	if events, err = attached(); err != nil {
		return nil, false, translate(doing, err)
	}
	if len(events) > 0 {
		if events[0].Version == after+1 {
			return events, len(events) == streamPage, nil
		}
		end = events[0].Version - 1
	}
	events, err = s.readArchived(ctx, scan, stream, after, end, parts)
	return events, true, err
}

// pipeline sends statements together and reads their results together: one
// round trip. The first that fails keeps the later ones from running.
type pipeline struct {
	ctx    context.Context
	conn   *pgx.Conn
	steps  []step
	copies bool  // a step is a COPY
	ends   bool  // the last step ends the transaction
	err    error // of a preparation
}

type step struct {
	sql       string
	statement *pgconn.StatementDescription // nil: sql has no parameters and no result
	params    [][]byte
	formats   []int16                     // of params; nil: all are binary
	row       func(values [][]byte) error // nil: rows are of no interest
	copy      []byte                      // messages that follow it: the rows of a COPY

	projection string // that has queued it; "" for our own
}

func newPipeline(ctx context.Context, conn *pgx.Conn) *pipeline {
	return &pipeline{ctx: ctx, conn: conn}
}

// exec adds a plain command, such as begin.
func (p *pipeline) exec(sql string) { p.steps = append(p.steps, step{sql: sql}) }

// end adds the command that ends the transaction, as the last step.
func (p *pipeline) end(sql string) {
	p.exec(sql)
	p.ends = true
}

// query adds a statement with parameters in the binary format. It is prepared,
// at the cost of a round trip, when the connection sees it for the first time.
func (p *pipeline) query(sql string, row func([][]byte) error, params ...[]byte) {
	if p.err != nil {
		return
	}
	statement, err := p.conn.Prepare(p.ctx, sql, sql)
	if err != nil {
		p.err = &notSentError{err}
		return
	}
	p.steps = append(p.steps, step{sql: sql, statement: statement, params: params, row: row})
}

func (p *pipeline) run() (err error) {
	if p.err != nil {
		return p.err
	}
	if len(p.steps) == 0 {
		return nil
	}
	if p.copies {
		return p.runCopying()
	}
	line := p.conn.PgConn().StartPipeline(p.ctx)
	defer func() {
		// A commit that was answered is done: the session may end behind it
		// before the server is ready again, and that is no failure of it.
		if closeErr := line.Close(); err == nil && !p.ends {
			err = closeErr
		}
	}()
	for _, s := range p.steps {
		if s.statement == nil {
			line.SendQueryParams(s.sql, nil, nil, nil, nil)
		} else {
			formats := s.formats
			if formats == nil {
				formats = binaryFormat
			}
			line.SendQueryStatement(s.statement, s.params, formats, binaryFormat)
		}
	}
	if err := line.Sync(); err != nil {
		return err
	}
	for _, s := range p.steps {
		if err := s.read(line); err != nil {
			if s.projection != "" {
				return &projectionError{s.projection, err}
			}
			return err
		}
	}
	return nil
}

func (s *step) read(line *pgconn.Pipeline) error {
	results, err := line.GetResults()
	if err != nil {
		return err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("unexpected answer %T to %q", results, s.sql)
	}
	var scanErr error
	for reader.NextRow() {
		if s.row != nil && scanErr == nil {
			scanErr = s.row(reader.Values())
		}
	}
	if _, err := reader.Close(); err != nil {
		return err
	}
	return scanErr
}

func textArray(list []string) []byte {
	var a array
	a.reset(oidText)
	for _, text := range list {
		a.text(text)
	}
	return a.b
}

func int8Array(list []int64) []byte {
	var a array
	a.reset(oidInt8)
	for _, n := range list {
		a.int8(n)
	}
	return a.b
}
