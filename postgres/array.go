package postgres

import (
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// array is a one-dimensional array parameter in the binary format, built in
// place and used again: the writers fill a dozen of them for every statement,
// and building them from slices by reflection would cost more than the rest
// of what they do.
type array struct{ b []byte }

const arrayHeader = 20 // dimensions, has nulls, element type, length, lower bound

func (a *array) reset(element uint32) {
	if cap(a.b) > 1<<20 {
		a.b = nil // an exceptional group must not keep its memory for ever
	}
	a.b = append(a.b[:0], make([]byte, arrayHeader)...)
	binary.BigEndian.PutUint32(a.b[0:], 1)
	binary.BigEndian.PutUint32(a.b[8:], element)
	binary.BigEndian.PutUint32(a.b[16:], 1)
}

func (a *array) count() {
	n := binary.BigEndian.Uint32(a.b[12:])
	binary.BigEndian.PutUint32(a.b[12:], n+1)
}

func (a *array) int8(v int64) {
	a.count()
	a.b = binary.BigEndian.AppendUint32(a.b, 8)
	a.b = binary.BigEndian.AppendUint64(a.b, uint64(v))
}

func (a *array) int4(v int32) {
	a.count()
	a.b = binary.BigEndian.AppendUint32(a.b, 4)
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(v))
}

func (a *array) text(v string) {
	a.count()
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(len(v)))
	a.b = append(a.b, v...)
}

func (a *array) bytes(v []byte) {
	a.count()
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(len(v)))
	a.b = append(a.b, v...)
}

// orNull is bytes, with nil for null.
func (a *array) orNull(v []byte) {
	if v != nil {
		a.bytes(v)
		return
	}
	a.count()
	binary.BigEndian.PutUint32(a.b[4:], 1)
	a.b = append(a.b, 0xff, 0xff, 0xff, 0xff)
}

func (a *array) time(v time.Time) { a.int8(v.UnixMicro() - year2000) }

// timeOrNull is time, with the zero time for null.
func (a *array) timeOrNull(v time.Time) {
	if v.IsZero() {
		a.orNull(nil)
		return
	}
	a.time(v)
}

// arrays are the parameters of one statement.
type arrays struct {
	list   []array
	values [][]byte
}

// reset makes one empty array for each element type.
func (p *arrays) reset(elements ...uint32) {
	for len(p.list) < len(elements) {
		p.list = append(p.list, array{})
	}
	p.list = p.list[:len(elements)]
	for i, element := range elements {
		p.list[i].reset(element)
	}
}

// params returns the arrays behind the given values.
func (p *arrays) params(before ...[]byte) [][]byte {
	p.values = append(p.values[:0], before...)
	for i := range p.list {
		p.values = append(p.values, p.list[i].b)
	}
	return p.values
}

const (
	oidInt8  = pgtype.Int8OID
	oidInt4  = pgtype.Int4OID
	oidText  = pgtype.TextOID
	oidJSON  = pgtype.JSONOID
	oidBytea = pgtype.ByteaOID
	oidTime  = pgtype.TimestamptzOID
)

// binaryFormat asks for, or says, the binary format in all columns.
var binaryFormat = []int16{1}

func int4Param(v int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }
func int8Param(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }
