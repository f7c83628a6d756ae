package courante

import (
	"context"
	"time"
)

// Document is what readers get of one state: bytes that were made once, and are
// handed out many times.
type Document struct {
	ID      string
	Version int64  // of the state's stream that it was made of
	Data    []byte // empty: there is nothing to show of the state, any more
	Seen    []Seen // transactions whose events are in it, the latest last
}

// Seen is one transaction of the log that a document was made from.
type Seen struct {
	Epoch int32
	Xid   uint64
}

// saw reports whether the document was made of what the token's command wrote.
// It is certain only of commands that changed the document's own state.
func (d *Document) saw(log string, t Token) bool {
	if t.Log != log {
		return false
	}
	for _, s := range d.Seen {
		if s.Epoch == t.Epoch && s.Xid == t.Xid {
			return true
		}
	}
	return false
}

// Cache keeps documents near to those who read them, and may lose any of them,
// or all, at any time. It is an interface because it is outside of the process:
// redis.Cache.
//
// The documents of a collection belong to a generation. Whoever carries the
// collection on after its log gives readers leave to use a generation for some
// time; when that has passed, because he is behind, gone, or cannot reach the
// cache, readers ask the source of truth again.
type Cache interface {
	// Mark returns what Put marked last; zero if the cache is empty, or has lost
	// it.
	Mark(ctx context.Context, collection string) (CacheMark, error)

	// Put writes the documents, each unless a newer version of it is there, and
	// after that marks how far they were carried on. Readers may use the mark's
	// generation for as long as leave, from now; 0 leaves it as it was. A mark
	// below the one that is there gives [ErrFenced]: somebody else carries the
	// collection on.
	Put(ctx context.Context, collection string, mark CacheMark, leave time.Duration, docs []Document) error

	// Get returns a document, at best from the memory of the process. If there
	// is none, or no leave, it is load's, which callers that come at once share.
	// A cache that fails, or is slow, is no error: then, too, it is load's.
	Get(ctx context.Context, collection, id string, load LoadDocument) (Document, error)
}

// LoadDocument makes a document from the source of truth. ErrNotFound if there
// is no such state.
type LoadDocument func(ctx context.Context) (Document, error)

// CacheMark is how far a collection in a cache was carried on.
type CacheMark struct {
	Generation int64
	N          int64 // counts what was put, so that a cache that lost the last of it is noticed
}

// Before reports whether m is the older mark.
func (m CacheMark) Before(other CacheMark) bool {
	return m.Generation < other.Generation || m.Generation == other.Generation && m.N < other.N
}
