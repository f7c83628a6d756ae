package postgres

import (
	"encoding/binary"
	"fmt"

	"github.com/courante-dev/courante"
)

// copyEvents is the statement that adds events to part n of the log without
// asking for their predecessors: for callers whose predecessor is in [heads].
// It costs the server little more than half of insertEvents, which builds
// arrays, takes them apart, and probes an index for every row. A version that
// somebody else has written meanwhile fails it on the primary key, as a whole.
func copyEvents(schema string, n int32) string {
	return fmt.Sprintf(`copy %s.event_%d (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data, notes)
	from stdin (format binary)`, schema, n)
}

// copyHeader is what a binary COPY begins with: a signature, flags, and the
// length of an extension that there is not.
const copyHeader = "PGCOPY\n\377\r\n\000\000\000\000\000\000\000\000\000"

// A COPY's rows are one message of the protocol, whose length goes into its
// second to fifth byte once it is known.
func beginCopy(out []byte) ([]byte, int) {
	start := len(out)
	return append(append(out, 'd', 0, 0, 0, 0), copyHeader...), start
}

func endCopy(out []byte, start int) []byte {
	out = append(out, 0xff, 0xff)
	binary.BigEndian.PutUint32(out[start+1:], uint32(len(out)-start-1))
	return append(out, 'c', 0, 0, 0, 4) // done
}

// copyEvent adds an event to a COPY's rows.
func copyEvent(out []byte, e *courante.Event, stream string, version int64, part, epoch int32, notes []byte) []byte {
	out = binary.BigEndian.AppendUint16(out, 13) // columns
	out = copyInt8(out, version)
	out = copyInt8(out, e.Time.UnixMicro()-year2000)
	out = copyInt4(out, part)
	out = copyInt4(out, epoch)
	out = copyInt4(out, int32(e.Schema))
	out = copyText(out, stream)
	out = copyText(out, e.Type)
	out = copyText(out, e.Correlation)
	out = copyText(out, e.Causation)
	out = copyText(out, e.Subject)
	out = copyText(out, e.Trace)
	if len(e.Data) > 0 {
		out = copyText(out, e.Data)
	} else {
		out = copyText(out, "null")
	}
	if notes == nil {
		return append(out, 0xff, 0xff, 0xff, 0xff)
	}
	return copyText(out, notes)
}

func copyInt8(out []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(out, 8), uint64(v))
}

func copyInt4(out []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(out, 4), uint32(v))
}

func copyText[T ~string | ~[]byte](out []byte, v T) []byte {
	return append(binary.BigEndian.AppendUint32(out, uint32(len(v))), v...)
}
