package outside

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
)

// Ledger keeps the books of the parties. It is an interface because tests and
// simulations want books in memory; what is written into them is decided above
// it, so both behave alike.
type Ledger interface {
	// update changes one row: change gets what is there, nil if nothing is,
	// and returns what is to be there. It may be called several times; the
	// last call counts. Changes of one row happen one after the other.
	update(ctx context.Context, book, key string, change func(row []byte) ([]byte, error)) error

	// all returns every row of a book, by key.
	all(ctx context.Context, book string) (map[string][]byte, error)
}

// update is Ledger.update on rows of type R.
func update[R any](ctx context.Context, l Ledger, book, key string, change func(R) R) error {
	return l.update(ctx, book, key, func(row []byte) ([]byte, error) {
		var r R
		if row != nil {
			if err := json.Unmarshal(row, &r); err != nil {
				return nil, fmt.Errorf("decode %s %s: %w", book, key, err)
			}
		}
		var zero R
		after, err := json.Marshal(change(r))
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", book, key, err)
		}
		if empty, _ := json.Marshal(zero); row == nil && bytes.Equal(after, empty) {
			return nil, nil // a look at what is not there leaves no trace
		}
		return after, nil
	})
}

// MemoryLedger keeps books in memory.
type MemoryLedger struct {
	mu    sync.Mutex // guards what follows
	books map[string]map[string][]byte
}

// NewMemoryLedger returns empty books.
func NewMemoryLedger() *MemoryLedger {
	return &MemoryLedger{books: map[string]map[string][]byte{}}
}

func (l *MemoryLedger) update(ctx context.Context, book, key string, change func([]byte) ([]byte, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	row, err := change(l.books[book][key])
	if err != nil || row == nil {
		return err
	}
	if l.books[book] == nil {
		l.books[book] = map[string][]byte{}
	}
	l.books[book][key] = row
	return nil
}

func (l *MemoryLedger) all(_ context.Context, book string) (map[string][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.books[book]), nil
}
