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
	"github.com/jackc/pgx/v5/pgproto3"
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
// they are closed, so what they hold does not change. What those held that are
// detached, see archivedVersion, is asked for last.
func insertEvents(schema string, n int32) string {
	older := ""
	if n > 1 {
		older = `(select e.version from {schema}.event e
		where e.part < {n} and e.stream = a.stream and e.version >= a.expected
		order by e.version desc limit 1),` + archivedVersion("a.stream") + `,`
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
//
// A group is one round trip and one transaction, which the server commits at
// the end of the messages by itself: first a COPY of the rows whose
// predecessors are known to be there, see [heads], then an insert of those for
// which the server has to look. The messages are encoded in place and sent as
// they are: what a driver does for any statement costs as much again as
// everything else that is done here.
type inserter struct {
	store *Store
	conn  *pgx.Conn
	epoch int32
	out   []byte // messages for the server
	rows  eventRows
	head  [4]byte // the epoch as a parameter
	names map[int32]statements
	used  time.Time
}

// statements are the names of the prepared statements of one part.
type statements struct{ insert, copy string }

// xidStatement tells the transaction of a COPY, which returns nothing.
const xidStatement = "append_xid"

func newInserter(ctx context.Context, s *Store, conn *pgx.Conn) (*inserter, error) {
	epoch, err := s.db.epochOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Prepare(ctx, xidStatement, "select pg_current_xact_id()"); err != nil {
		return nil, translate("prepare to append", err)
	}
	s.appender.heads.begin(epoch)
	in := &inserter{store: s, conn: conn, epoch: epoch, names: make(map[int32]statements), used: time.Now()}
	binary.BigEndian.PutUint32(in.head[:], uint32(epoch))
	return in, nil
}

// prepare returns the names of the statements of a part; the server has them.
func (in *inserter) prepare(ctx context.Context, part int32) (statements, error) {
	if names, ok := in.names[part]; ok {
		return names, nil
	}
	names := statements{insert: fmt.Sprintf("append_%d", part), copy: fmt.Sprintf("append_copy_%d", part)}
	for name, sql := range map[string]string{
		names.insert: insertEvents(in.store.quoted, part),
		names.copy:   copyEvents(in.store.quoted, part),
	} {
		if _, err := in.conn.Prepare(ctx, name, sql); err != nil {
			return names, &notSentError{err}
		}
	}
	in.names[part] = names
	return names, nil
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
	names, err := in.prepare(ctx, part)
	if err != nil {
		return outcomes, err
	}
	known := &in.store.appender.heads
	generation, sure := known.sure(in.epoch, part, group)
	in.out = in.encode(names, part, group, sure)
	before := len(outcomes)
	if err := in.send(); err != nil {
		return outcomes, err
	}
	if outcomes, err = in.receive(group, sure, outcomes); err != nil {
		known.doubt(group)
		return outcomes[:before], err
	}
	known.wrote(generation, group, outcomes[before:])
	return outcomes, nil
}

// encode makes the messages of a group, of which so many calls are sure.
func (in *inserter) encode(names statements, part int32, group []*call, sure int) []byte {
	out := in.out[:0]
	if cap(out) > 2*maxGroupBytes {
		out = nil // an exceptional group must not keep its memory for ever
	}
	if sure > 0 {
		out = encodeExecute(out, &pgproto3.Bind{PreparedStatement: xidStatement, ResultFormatCodes: binaryFormat})
		out = encodeExecute(out, &pgproto3.Bind{PreparedStatement: names.copy})
		var start int
		out, start = beginCopy(out)
		for _, call := range group {
			for i := range call.events {
				if call.sure {
					out = copyEvent(out, &call.events[i], call.stream, call.expected+int64(i)+1, part, in.epoch, call.notes[i])
				}
			}
		}
		out = endCopy(out, start)
	}
	if sure < len(group) {
		in.rows.reset()
		for _, call := range group {
			for i := range call.events {
				if !call.sure {
					in.rows.add(&call.events[i], call.stream, call.expected, call.expected+int64(i)+1, call.notes[i])
				}
			}
		}
		out = encodeExecute(out, &pgproto3.Bind{
			PreparedStatement: names.insert, Parameters: in.rows.params(in.head[:]),
			ParameterFormatCodes: binaryFormat, ResultFormatCodes: binaryFormat,
		})
	}
	return encoded((&pgproto3.Sync{}).Encode(out))
}

func encodeExecute(out []byte, bind *pgproto3.Bind) []byte {
	return encoded((&pgproto3.Execute{}).Encode(encoded(bind.Encode(out))))
}

// encoded is for messages that cannot be too long: a group is bounded.
func encoded(out []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return out
}

// send sends the messages. After a failure the connection is closed.
func (in *inserter) send() error {
	n, err := in.conn.PgConn().Conn().Write(in.out)
	if err == nil {
		return nil
	}
	in.close()
	if n == 0 {
		return &notSentError{err}
	}
	return lostAnswer{err}
}

// lostAnswer hides that the driver calls an error in receiving safe to retry:
// what was sent may have been done.
type lostAnswer struct{ err error }

func (e lostAnswer) Error() string { return e.err.Error() }

// receive reads the server's answer to a group and adds the calls' outcomes.
// The server has committed when it says that it is ready without having said
// that something failed.
func (in *inserter) receive(group []*call, sure int, outcomes []outcome) ([]outcome, error) {
	conn := in.conn.PgConn()
	var failed error
	var xid uint64 // of the COPY
	rest := group  // calls without an outcome
	next := func(o outcome) {
		outcomes = append(outcomes, o)
		rest = rest[1:]
	}
	repeats := 0 // further rows of one caller repeat what the first has said
	for {
		msg, err := conn.ReceiveMessage(context.Background())
		if err != nil && failed == nil {
			in.close()
			var server *pgconn.PgError
			if errors.As(err, &server) {
				return outcomes, server // the session's last words
			}
			return outcomes, lostAnswer{err}
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			failed = pgconn.ErrorResponseToPgError(msg)
		case *pgproto3.DataRow:
			value := binary.BigEndian.Uint64(msg.Values[0])
			if sure > 0 && xid == 0 {
				xid = value
				continue
			}
			if repeats > 0 {
				repeats--
				continue
			}
			// The rows come back in the order they were sent in.
			for stream := string(msg.Values[1]); len(rest) > 0; {
				if call := rest[0]; call.sure {
					next(outcome{xid: xid, epoch: in.epoch})
				} else if call.stream != stream {
					next(lostOutcome(call))
				} else {
					repeats = len(call.events) - 1
					next(outcome{xid: value, epoch: in.epoch})
					break
				}
			}
		case *pgproto3.ReadyForQuery:
			if failed != nil {
				return outcomes, failed
			}
			for len(rest) > 0 {
				if rest[0].sure {
					next(outcome{xid: xid, epoch: in.epoch})
				} else {
					next(lostOutcome(rest[0]))
				}
			}
			return outcomes, nil
		}
		if err != nil { // after an error that the server has told
			in.close()
			return outcomes, failed
		}
	}
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
