package postgres

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/courante-dev/courante"
)

// codeExpect is what the function expect raises, with the kind of row as the
// table's name.
const codeExpect = "CR001"

// write is a unit's changes, checked and in the order in which they are
// written: the same for all units, so that two of them do not deadlock.
type write struct {
	store     *Store
	c         courante.Changes
	notes     [][]byte         // of the events
	expected  map[string]int64 // version that each stream of the events must be at
	documents documents
	inline    *inline     // that the events are projected by
	projected []projected // what came of it
}

// documents are JSON texts that were made for columns.
type documents struct{ stateOpen, snapshotOpen, parked [][]byte }

func newWrite(s *Store, c courante.Changes) (*write, error) {
	w := &write{store: s, c: c, expected: make(map[string]int64)}
	// The caller's slices stay as they are.
	w.c.Events = slices.Clone(c.Events)
	slices.SortStableFunc(w.c.Events, func(a, b courante.Event) int { return strings.Compare(a.Stream, b.Stream) })
	w.c.States = slices.Clone(c.States)
	slices.SortStableFunc(w.c.States, func(a, b courante.State) int { return strings.Compare(a.Stream(), b.Stream()) })
	w.c.Snapshots = slices.Clone(c.Snapshots)
	slices.SortStableFunc(w.c.Snapshots, func(a, b courante.State) int { return strings.Compare(a.Stream(), b.Stream()) })
	w.c.Progress = slices.Clone(c.Progress)
	slices.SortStableFunc(w.c.Progress, compareProgress)
	w.c.Replies = slices.Clone(c.Replies)
	slices.SortStableFunc(w.c.Replies, func(a, b courante.Reply) int { return strings.Compare(a.Key, b.Key) })
	w.c.Unpark = slices.Compact(slices.Sorted(slices.Values(c.Unpark)))
	err := errors.Join(w.checkEvents(), w.checkStates(), w.checkRest())
	if err != nil {
		return nil, err
	}
	w.inline = s.inline.Load()
	w.projected, err = w.inline.project(s, w.c.Events)
	return w, err
}

func compareProgress(a, b courante.Progress) int {
	return cmp.Or(strings.Compare(a.Subscriber, b.Subscriber), strings.Compare(a.Log, b.Log),
		cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.K, b.K), cmp.Compare(a.N, b.N))
}

func (w *write) empty() bool {
	c := &w.c
	return len(c.Events)+len(c.States)+len(c.Snapshots)+len(c.Progress)+len(c.Park)+len(c.Unpark)+len(c.Replies) == 0
}

func (w *write) checkEvents() error {
	last := int64(0)
	for i := range w.c.Events {
		e := &w.c.Events[i]
		if err := checkStream(e.Stream); err != nil {
			return fmt.Errorf("event %s@%d: %w", e.Stream, e.Version, err)
		}
		if _, again := w.expected[e.Stream]; !again {
			w.expected[e.Stream] = e.Version - 1
		} else if e.Version != last+1 {
			return fmt.Errorf("event %s@%d does not follow version %d", e.Stream, e.Version, last)
		}
		if last = e.Version; last < 1 {
			return fmt.Errorf("event %s@%d: versions begin at 1", e.Stream, e.Version)
		}
		notes, err := marshalNotes(e.Notes)
		if err == nil {
			_, err = checkEvent(e, notes)
		}
		if err != nil {
			return fmt.Errorf("event %s@%d (%s): %w", e.Stream, e.Version, e.Type, err)
		}
		w.notes = append(w.notes, notes)
	}
	return nil
}

func (w *write) checkStates() error {
	check := func(list []courante.State, open *[][]byte) error {
		for i, s := range list {
			stream := s.Stream()
			if err := checkStream(stream); err != nil {
				return fmt.Errorf("state %s: %w", stream, err)
			}
			if i > 0 && stream == list[i-1].Stream() && !s.Sourced {
				return fmt.Errorf("state %s is written twice", stream)
			}
			if err := checkDocument(s.Data); err != nil {
				return fmt.Errorf("state %s: %w", stream, err)
			}
			waits, err := marshalOpen(s.Open)
			if err != nil {
				return fmt.Errorf("state %s: what it waits for: %w", stream, err)
			}
			*open = append(*open, waits)
		}
		return nil
	}
	return errors.Join(check(w.c.States, &w.documents.stateOpen), check(w.c.Snapshots, &w.documents.snapshotOpen))
}

func (w *write) checkRest() error {
	for i, p := range w.c.Progress {
		if err := errors.Join(checkText("subscriber", p.Subscriber), checkText("log", p.Log), checkDocument(p.Note)); err != nil {
			return fmt.Errorf("progress of %s: %w", p.Subscriber, err)
		}
		repeats := i > 0 && p.Lane == w.c.Progress[i-1].Lane && p.N != w.c.Progress[i-1].N+1
		if p.N < 1 || repeats {
			return fmt.Errorf("progress %d of %s lane %d: %w", p.N, p.Subscriber, p.K, courante.ErrFenced)
		}
	}
	for _, p := range w.c.Park {
		event, err := marshalParked(p)
		if err != nil {
			return fmt.Errorf("parked message of %s: %w", p.Subscriber, err)
		}
		w.documents.parked = append(w.documents.parked, event)
	}
	for i, r := range w.c.Replies {
		if err := errors.Join(checkText("key", r.Key), checkDocument(r.Body)); err != nil {
			return fmt.Errorf("reply to %s: %w", r.Key, err)
		}
		if i > 0 && r.Key == w.c.Replies[i-1].Key {
			return &courante.ConflictError{Streams: []string{r.Key}}
		}
	}
	return nil
}

// checkDocument refuses of a document, which may be missing, what cannot be
// stored. That it is JSON, the server looks at anyway: what was just made by
// marshalling need not be read here as well.
func checkDocument(data []byte) error { return checkJSONText("data", data) }

// orNull is what a JSON column that must have a value holds of no value.
func orNull(data []byte) []byte {
	if len(data) == 0 {
		return []byte("null")
	}
	return data
}

func marshalOpen(o courante.Open) ([]byte, error) {
	if o.Empty() {
		return nil, nil
	}
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return data, checkJSONText("it", data)
}

// destination is where and how a unit's events are added.
type destination struct {
	part, epoch int32
	certain     bool // see unit.certain
}

// add adds the statements to the pipeline. The events' gives its transaction
// to token. Progress comes first: it finds out a zombie before the zombie
// waits for its heir, or asks for new partitions.
func (w *write) add(p *pipeline, at destination, token func([][]byte) error) {
	w.addProgress(p)
	if at.certain {
		w.copyEvents(p, at, token)
	} else {
		w.addEvents(p, at, token)
	}
	w.addStates(p)
	w.addSnapshots(p)
	w.addParked(p)
	w.addReplies(p, at.epoch)
	for _, projected := range w.projected {
		for _, q := range projected.statements {
			p.queued(projected.name, q)
		}
	}
}

func (w *write) addEvents(p *pipeline, at destination, token func([][]byte) error) {
	if len(w.c.Events) == 0 {
		return
	}
	var rows eventRows
	rows.reset()
	for i := range w.c.Events {
		e := &w.c.Events[i]
		rows.add(e, e.Stream, w.expected[e.Stream], e.Version, w.notes[i])
	}
	p.query(w.store.eventsOfUnit(at.part), token, append(rows.params(int4Param(at.epoch)), int8Param(int64(len(w.c.Events))), []byte(w.inline.kept))...)
}

// copyEvents is addEvents without looking for predecessors; it costs the server
// half. The statement behind it has the snapshot that is needed: the locks are
// taken by then.
func (w *write) copyEvents(p *pipeline, at destination, token func([][]byte) error) {
	if len(w.c.Events) == 0 {
		return
	}
	size := 0
	for i := range w.c.Events {
		size += len(w.c.Events[i].Data) + len(w.notes[i]) + 2*rowOverhead
	}
	out, start := beginCopy(make([]byte, 0, size))
	for i := range w.c.Events {
		e := &w.c.Events[i]
		out = copyEvent(out, e, e.Stream, e.Version, at.part, at.epoch, w.notes[i])
	}
	p.copy(copyEvents(w.store.quoted, at.part), endCopy(out, start))
	p.query(w.store.sql("select pg_current_xact_id(), "+expectProjections("$1")), token, []byte(w.inline.kept))
}

// eventsOfUnit is insertEvents with the checks that all were written, and that
// the unit changes the projections that it has to.
func (s *Store) eventsOfUnit(part int32) string {
	if text, ok := s.texts.Load(part); ok {
		return text.(string)
	}
	text := s.inSchema(`with w as (` + insertEvents(s.quoted, part) + `)
	select pg_current_xact_id(), {schema}.expect('event', count(*), $14::bigint), ` + expectProjections("$15") + ` from w`)
	s.texts.Store(part, text)
	return text
}

const (
	insertStates = `
	with k as (
		insert into {schema}.stored (stream) select unnest($3::text[])
	), w as (
		insert into {schema}.state (row_version, version, stream, data, open)
		select 1, a.version, a.stream, a.data, a.open
		from unnest($1::bigint[], $2::bigint[], $3::text[], $4::json[], $5::json[]) a(row_version, version, stream, data, open)
		returning 1
	) select {schema}.expect('state', count(*), $6::bigint) from w`

	// Rows that were loaded are locked; others are locked in the order of the
	// arrays, which are sorted.
	updateStates = `
	with w as (
		update {schema}.state s
		set row_version = a.row_version + 1, version = a.version, data = a.data, open = a.open
		from unnest($1::bigint[], $2::bigint[], $3::text[], $4::json[], $5::json[]) a(row_version, version, stream, data, open)
		where s.stream = a.stream and s.chapter = a.row_version / 16 and s.row_version = a.row_version
		returning 1
	) select {schema}.expect('state', count(*), $6::bigint) from w`

	// Older snapshots of the stream go: a load only wants the last one. A slow
	// process may write an older one after a newer; that stays until the next.
	writeSnapshots = `
	with a as (
		select * from unnest($1::bigint[], $2::text[], $3::json[], $4::json[]) a(version, stream, data, open)
	), w as (
		insert into {schema}.snapshot (version, stream, data, open)
		select version, stream, data, open from a
		on conflict do nothing
	)
	delete from {schema}.snapshot s using a where s.stream = a.stream and s.version < a.version`
)

func (w *write) addStates(p *pipeline) {
	for sql, new := range map[string]bool{insertStates: true, updateStates: false} {
		var rows arrays
		rows.reset(oidInt8, oidInt8, oidText, oidJSON, oidJSON)
		n := int64(0)
		for i, s := range w.c.States {
			if (s.Row == 0) != new {
				continue
			}
			n++
			rows.list[0].int8(s.Row)
			rows.list[1].int8(s.Version)
			rows.list[2].text(s.Stream())
			rows.list[3].bytes(orNull(s.Data))
			rows.list[4].orNull(w.documents.stateOpen[i])
		}
		if n > 0 {
			p.query(w.store.sql(sql), nil, append(rows.params(), int8Param(n))...)
		}
	}
}

func (w *write) addSnapshots(p *pipeline) {
	if len(w.c.Snapshots) == 0 {
		return
	}
	var rows arrays
	rows.reset(oidInt8, oidText, oidJSON, oidJSON)
	for i, s := range w.c.Snapshots {
		rows.list[0].int8(s.Row)
		rows.list[1].text(s.Stream())
		rows.list[2].bytes(orNull(s.Data))
		rows.list[3].orNull(w.documents.snapshotOpen[i])
	}
	p.query(w.store.sql(writeSnapshots), nil, rows.params()...)
}

// findConflicts names what a write conflicts with: streams of its events that
// are at another version, stored rows that are, and replies that exist. It
// runs after the write has failed, and whatever made it fail is committed by
// then and does not go back.
var findConflicts = `
	select a.stream
	from unnest($1::text[], $2::bigint[]) a(stream, version)
	where coalesce((select e.version from {schema}.event e where e.stream = a.stream order by e.version desc limit 1), ` + archivedVersion("a.stream") + `, 0) <> a.version
	union
	select a.stream
	from unnest($3::text[], $4::bigint[]) a(stream, row_version)
	where coalesce((select s.row_version from {schema}.state s where s.stream = a.stream order by s.chapter desc limit 1), 0) <> a.row_version
	union
	select a.key from unnest($5::text[]) a(key)
	where exists (select from {schema}.reply r where r.key = a.key)
	order by 1`

func (s *Store) conflict(ctx context.Context, doing string, w *write) error {
	var streams, rows, keys []string
	var versions, rowVersions []int64
	for stream, version := range w.expected {
		streams, versions = append(streams, stream), append(versions, version)
	}
	for _, state := range w.c.States {
		rows, rowVersions = append(rows, state.Stream()), append(rowVersions, state.Row)
	}
	for _, r := range w.c.Replies {
		keys = append(keys, r.Key)
	}
	conn, err := s.db.log.pool.Acquire(ctx)
	if err != nil {
		return translate(doing+": find the conflicts", err)
	}
	defer conn.Release()
	conflict := &courante.ConflictError{}
	p := newPipeline(ctx, conn.Conn())
	p.query(s.sql(findConflicts), func(v [][]byte) error {
		conflict.Streams = append(conflict.Streams, string(v[0]))
		return nil
	}, textArray(streams), int8Array(versions), textArray(rows), int8Array(rowVersions), textArray(keys))
	if err := p.run(); err != nil {
		return translate(doing+": find the conflicts", err)
	}
	if len(conflict.Streams) == 0 {
		return courante.Transient(fmt.Errorf("postgres: %s: it was in conflict, and is no more", doing))
	}
	return fmt.Errorf("postgres: %s: %w", doing, conflict)
}

// baseTable is the name of a partition's table.
func baseTable(name string) string {
	name, _, _ = strings.Cut(name, "_")
	return name
}

// noPartition says what it means that there is no partition for a row: of
// progress that is behind, that its range was dropped; otherwise that nobody
// has made the next one in time, which is done now.
func (s *Store) noPartition(ctx context.Context, doing, table string, w *write) error {
	if err := s.Maintain(ctx, time.Now()); err != nil {
		return err
	}
	if table == "progress" {
		first, _, err := s.progressRange(ctx)
		if err != nil {
			return err
		}
		behind := slices.ContainsFunc(w.c.Progress, func(p courante.Progress) bool { return p.N < first })
		if behind {
			return fmt.Errorf("postgres: %s: %w", doing, courante.ErrFenced)
		}
	}
	return courante.Transient(fmt.Errorf("postgres: %s: there was no partition of %s yet; now there is", doing, table))
}

// marshalParked makes the event's column of a parked message: all but its
// data, which has a column of its own, because marshalling would change it.
func marshalParked(p courante.Parked) ([]byte, error) {
	for name, text := range map[string]string{"subscriber": p.Subscriber, "reaction": p.Reaction, "key": p.Key, "version": p.FirstBy, "last version": p.LastBy, "fingerprint": p.Fingerprint} {
		if err := checkText(name, text); err != nil {
			return nil, err
		}
	}
	if len(p.Event.Data) > 0 {
		if err := checkJSON("data", p.Event.Data); err != nil { // it may be from elsewhere
			return nil, err
		}
	}
	var b bytes.Buffer
	err := json.NewEncoder(&b).Encode(parkedEventOf(&p.Event))
	if err != nil {
		return nil, err
	}
	return b.Bytes(), checkJSONText("event", b.Bytes())
}
