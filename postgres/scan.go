package postgres

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/jackc/pgx/v5"
)

// logColumns are what scanner reads, in its order.
const logColumns = "position, xid, version, at, coalesce(tick, 0), epoch, schema, stream, type, correlation, causation, subject, trace, data, notes"

// scanner turns rows of logColumns in the binary format into events. It reads
// the raw bytes because this is the hottest loop of every reader: an event
// takes two allocations here, for its texts and its data, and more only where
// it has notes. Values that repeat are shared.
type scanner struct {
	log     string
	types   map[string]string // interned: a log has some dozens of types
	scratch []byte
}

// The binary format counts time in microseconds from the year 2000.
var year2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func (s *scanner) scan(rows pgx.Rows, e *courante.Event) error {
	return s.scanValues(rows.RawValues(), e)
}

func (s *scanner) scanValues(v [][]byte, e *courante.Event) error {
	e.Log = s.log
	e.Position = int64(binary.BigEndian.Uint64(v[0]))
	e.Xid = binary.BigEndian.Uint64(v[1])
	e.Version = int64(binary.BigEndian.Uint64(v[2]))
	e.Time = time.UnixMicro(int64(binary.BigEndian.Uint64(v[3])) + year2000).UTC()
	e.Tick = int64(binary.BigEndian.Uint64(v[4]))
	e.Epoch = int32(binary.BigEndian.Uint32(v[5]))
	e.Schema = int(int32(binary.BigEndian.Uint32(v[6])))
	// One string holds the texts of the row; the fields are parts of it.
	stream, kind, rest := v[7], v[8], v[9:13]
	s.scratch = append(s.scratch[:0], stream...)
	for _, text := range rest {
		s.scratch = append(s.scratch, text...)
	}
	all := string(s.scratch)
	cut := func(n int) string {
		part := all[:n]
		all = all[n:]
		return part
	}
	e.Stream = cut(len(stream))
	e.Correlation = cut(len(rest[0]))
	e.Causation = cut(len(rest[1]))
	e.Subject = cut(len(rest[2]))
	e.Trace = cut(len(rest[3]))
	e.Type = s.intern(kind)
	e.Data = append(json.RawMessage(nil), v[13]...)
	if v[14] != nil {
		e.Notes = new(courante.Notes)
		if err := jsonv1.Unmarshal(v[14], e.Notes); err != nil {
			return fmt.Errorf("notes of %s: %w", e.ID(), err)
		}
	}
	return nil
}

func (s *scanner) intern(b []byte) string {
	if text, ok := s.types[string(b)]; ok { // no allocation: the compiler knows this form
		return text
	}
	if s.types == nil {
		s.types = make(map[string]string)
	}
	text := string(b)
	s.types[text] = text
	return text
}

// scanEvents reads all rows of logColumns.
func (s *scanner) scanEvents(rows pgx.Rows, events []courante.Event) ([]courante.Event, error) {
	defer rows.Close()
	for rows.Next() {
		events = append(events, courante.Event{})
		if err := s.scan(rows, &events[len(events)-1]); err != nil {
			return nil, err
		}
	}
	return events, rows.Err()
}

// inBinary asks for the binary format in all columns.
var inBinary = pgx.QueryResultFormats{pgx.BinaryFormatCode}
