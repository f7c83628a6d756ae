package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// insertEvents is the statement that adds events to part n of the log: $1 is
// the epoch, the rest are arrays, see eventRows.
//
// An event is written if its stream is at the version that its caller expects:
// one index probe finds the stream's last version from there on. It proves
// that the version before is there and that the new one is not. All rows of
// a caller ask the same question, of the same snapshot, so a caller gets all
// of its rows or none. What the snapshot does not show, the row of a
// transaction that is not yet committed, makes the insert wait for that
// transaction and then fail on the primary key, as a whole. There is no "on
// conflict do nothing": with it a caller could get the second of its rows
// behind the first of somebody else, and it costs a fifth more.
//
// It names the part's table: that saves finding the partition for every row,
// and locks one table however many parts the log has. The insert fails on the
// table's constraint when the part is closed.
//
// Older parts are asked only for a stream that has no such row in this part;
// they are closed, so what they hold does not change.
func insertEvents(schema string, n int32) string {
	older := ""
	if n > 1 {
		older = `(select e.version from {schema}.event e
		where e.part < {n} and e.stream = a.stream and e.version >= a.expected
		order by e.version desc limit 1),`
	}
	return strings.NewReplacer("{schema}", schema, "{n}", fmt.Sprint(n)).Replace(`
	insert into {schema}.event_{n} (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data, notes)
	select a.version, a.at, {n}, $1::int, a.schema, a.stream, a.type, a.correlation, a.causation, a.subject, a.trace, a.data, a.notes
	from unnest($2::bigint[], $3::bigint[], $4::timestamptz[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::json[], $13::json[])
		as a(expected, version, at, schema, stream, type, correlation, causation, subject, trace, data, notes)
	where coalesce(
		(select e.version from {schema}.event_{n} e
		where e.stream = a.stream and e.version >= a.expected
		order by e.stream desc, e.version desc limit 1),
		` + older + ` 0) = a.expected
	returning xid, stream`)
}

// eventRows are the arrays of insertEvents.
type eventRows struct{ arrays }

func (r *eventRows) reset() {
	r.arrays.reset(oidInt8, oidInt8, oidTime, oidInt4, oidText, oidText, oidText, oidText, oidText, oidText, oidJSON, oidJSON)
}

func (r *eventRows) add(e *courante.Event, stream string, expected, version int64, notes []byte) {
	c := r.list
	c[0].int8(expected)
	c[1].int8(version)
	c[2].time(e.Time)
	c[3].int4(int32(e.Schema))
	c[4].text(stream)
	c[5].text(e.Type)
	c[6].text(e.Correlation)
	c[7].text(e.Causation)
	c[8].text(e.Subject)
	c[9].text(e.Trace)
	if len(e.Data) > 0 {
		c[10].bytes(e.Data)
	} else {
		c[10].text("null")
	}
	c[11].orNull(notes)
}

// inserter writes groups of calls over one connection.
type inserter struct {
	store *Store
	conn  *pgx.Conn
	epoch int32
	rows  eventRows
	head  [4]byte // the epoch as a parameter
	names map[int32]string
	used  time.Time
}

func newInserter(ctx context.Context, s *Store, conn *pgx.Conn) (*inserter, error) {
	epoch, err := s.db.epochOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	in := &inserter{store: s, conn: conn, epoch: epoch, names: make(map[int32]string), used: time.Now()}
	binary.BigEndian.PutUint32(in.head[:], uint32(epoch))
	return in, nil
}

// notSentError is a failure before the group was sent: it was not written.
type notSentError struct{ err error }

func (e *notSentError) Error() string     { return e.err.Error() }
func (e *notSentError) Unwrap() error     { return e.err }
func (e *notSentError) SafeToRetry() bool { return true }

// insert writes the calls, which are of different streams and sorted by them,
// in one transaction, and adds the outcome of each to outcomes. After an error
// there are none, and none was written unless the answer was lost.
func (in *inserter) insert(ctx context.Context, group []*call, outcomes []outcome) ([]outcome, error) {
	part := in.store.part.Load()
	if _, ok := in.names[part]; !ok {
		in.names[part] = fmt.Sprintf("append_%s_%d", in.store.schema, part)
	}
	// Prepared once; pgx remembers statements by name.
	statement, err := in.conn.Prepare(ctx, in.names[part], insertEvents(in.store.quoted, part))
	if err != nil {
		return outcomes, &notSentError{err}
	}
	in.rows.reset()
	for _, call := range group {
		for i := range call.events {
			in.rows.add(&call.events[i], call.stream, call.expected, call.expected+int64(i)+1, call.notes[i])
		}
	}
	result := in.conn.PgConn().ExecStatement(ctx, statement, in.rows.params(in.head[:]), binaryFormat, binaryFormat)
	before := len(outcomes)
	// The rows come back in the order they were sent in.
	for result.NextRow() {
		row := result.Values()
		for len(group) > 0 && group[0].stream != string(row[1]) {
			outcomes = append(outcomes, lostOutcome(group[0]))
			group = group[1:]
		}
		if len(group) == 0 {
			break
		}
		// Further rows of one caller repeat what the first has said.
		xid := binary.BigEndian.Uint64(row[0])
		outcomes = append(outcomes, outcome{xid: xid, epoch: in.epoch})
		for range group[0].events[1:] {
			result.NextRow()
		}
		group = group[1:]
	}
	if _, err := result.Close(); err != nil {
		return outcomes[:before], err
	}
	for _, call := range group {
		outcomes = append(outcomes, lostOutcome(call))
	}
	return outcomes, nil
}

func lostOutcome(c *call) outcome {
	return outcome{err: &courante.ConflictError{Streams: []string{c.stream}}}
}

// partClosed reports whether an insert failed because its part takes no more
// events, or is no longer there.
func partClosed(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) &&
		(server.Code == "23514" && strings.HasPrefix(server.TableName, "event_") || server.Code == "42P01")
}

// hasCode reports whether the server answered with one of the SQLSTATEs.
func hasCode(err error, codes ...string) bool {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return false
	}
	for _, code := range codes {
		if server.Code == code {
			return true
		}
	}
	return false
}

// refreshPart looks up which part of the log is open.
func (s *Store) refreshPart(ctx context.Context, conn queryer) error {
	var n int32
	err := conn.QueryRow(ctx, "select n from "+s.quoted+".part where closed is null order by n desc limit 1").Scan(&n)
	if err != nil {
		return translate("find the open part of log "+s.name, err)
	}
	s.part.Store(n)
	return nil
}
