package redis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/courante-dev/courante"
)

// A document is stored as its version in 20 digits, when it is to be loaded again
// in ms and how long that took in µs, the transactions that it saw, and its data.
const (
	versionDigits = 20
	headerSize    = versionDigits + 8 + 4 + 1
	seenSize      = 4 + 8
)

func encode(d *courante.Document, took time.Duration, again time.Time) []byte {
	seen := d.Seen[max(0, len(d.Seen)-math.MaxUint8):]
	b := make([]byte, 0, headerSize+seenSize*len(seen)+len(d.Data))
	b = fmt.Appendf(b, "%0*d", versionDigits, d.Version)
	b = binary.BigEndian.AppendUint64(b, uint64(again.UnixMilli()))
	b = binary.BigEndian.AppendUint32(b, uint32(min(took.Microseconds(), math.MaxUint32)))
	b = append(b, byte(len(seen)))
	for _, s := range seen {
		b = binary.BigEndian.AppendUint32(b, uint32(s.Epoch))
		b = binary.BigEndian.AppendUint64(b, s.Xid)
	}
	return append(b, d.Data...)
}

// stored is a document as it is in Redis.
type stored struct {
	courante.Document
	again time.Time     // when to load it again
	took  time.Duration // to load it
}

var errNotOurs = errors.New("a key holds what is no document")

// decode keeps b, which nobody may change.
func decode(id string, b []byte) (s stored, err error) {
	if len(b) < headerSize {
		return s, errNotOurs
	}
	for _, digit := range b[:versionDigits] {
		if digit < '0' || digit > '9' {
			return s, errNotOurs
		}
		s.Version = 10*s.Version + int64(digit-'0')
	}
	s.ID = id
	b = b[versionDigits:]
	s.again = time.UnixMilli(int64(binary.BigEndian.Uint64(b)))
	s.took = time.Duration(binary.BigEndian.Uint32(b[8:])) * time.Microsecond
	n := int(b[12])
	if b = b[13:]; len(b) < n*seenSize {
		return s, errNotOurs
	}
	if n > 0 {
		s.Seen = make([]courante.Seen, n)
		for i := range s.Seen {
			s.Seen[i] = courante.Seen{Epoch: int32(binary.BigEndian.Uint32(b)), Xid: binary.BigEndian.Uint64(b[4:])}
			b = b[seenSize:]
		}
	}
	s.Data = b
	return s, nil
}

// due reports whether the one who asks is to load the document again. It says so
// to some a little early, the earlier the longer loading takes, so that it is one
// of many readers, and not all when the time has come (XFetch: Vattani, Chierichetti,
// Lowenstein, Optimal Probabilistic Cache Stampede Prevention, 2015).
func (s *stored) due(now time.Time) bool {
	left := s.again.Sub(now)
	// Further away than this it would be chance of one in a billion.
	if left > 21*s.took {
		return false
	}
	return -float64(s.took)*math.Log(1-rand.Float64()) >= float64(left)
}

// refresh is how long a new document is good: those that were put together are
// not loaded again together.
func (c *Client) refresh() time.Duration {
	return c.config.Refresh - time.Duration(rand.Int64N(int64(c.config.Refresh/10)+1))
}
