package audit

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// keyed is a row that belongs to a key, mostly an order's id.
type keyed interface{ key() string }

// cursor reads rows in the order of their keys, a piece at a time, through a
// cursor of the server. Several that are open on one transaction are merged by
// asking each for the rows of the smallest key that any of them is at.
type cursor[T keyed] struct {
	q     Querier
	name  string
	scan  func(pgx.CollectableRow) (T, error)
	piece []T // read and not yet taken
	ended bool
}

// rowsAtOnce is how many rows a piece has: some hundred kilobytes of events, and
// a small part of the time that reading them takes is the round trip.
const rowsAtOnce = 500

// open declares the cursor. The query must give the rows in the order of their
// keys' bytes.
func open[T keyed](ctx context.Context, q Querier, name, sql string, scan func(pgx.CollectableRow) (T, error)) (*cursor[T], error) {
	c := &cursor[T]{q: q, name: pgx.Identifier{name}.Sanitize(), scan: scan}
	_, err := q.Exec(ctx, "declare "+c.name+" no scroll cursor for "+sql)
	return c, err
}

// peek returns the key of the next row; false at the end.
func (c *cursor[T]) peek(ctx context.Context) (string, bool, error) {
	if len(c.piece) == 0 && !c.ended {
		if err := c.fetch(ctx); err != nil {
			return "", false, err
		}
	}
	if len(c.piece) == 0 {
		return "", false, nil
	}
	return c.piece[0].key(), true, nil
}

// take adds the rows of the key to the list, none if the next row is another's.
func (c *cursor[T]) take(ctx context.Context, key string, to []T) ([]T, error) {
	for {
		next, more, err := c.peek(ctx)
		if err != nil || !more || next != key {
			return to, err
		}
		n := 1
		for n < len(c.piece) && c.piece[n].key() == key {
			n++
		}
		to = append(to, c.piece[:n]...)
		c.piece = c.piece[n:]
	}
}

func (c *cursor[T]) fetch(ctx context.Context) error {
	rows, err := c.q.Query(ctx, fmt.Sprintf("fetch %d from %s", rowsAtOnce, c.name))
	if err != nil {
		return err
	}
	if c.piece, err = pgx.CollectRows(rows, c.scan); err != nil {
		return err
	}
	if len(c.piece) < rowsAtOnce {
		c.ended = true
		_, err = c.q.Exec(ctx, "close "+c.name)
	}
	return err
}

// reader is a cursor of any rows, as merging sees it.
type reader interface {
	peek(ctx context.Context) (key string, more bool, err error)
}

// smallest is the key that the merge is at; false when all have ended.
func smallest(ctx context.Context, readers []reader) (key string, more bool, err error) {
	for _, r := range readers {
		next, there, err := r.peek(ctx)
		if err != nil {
			return "", false, err
		}
		if there && (!more || next < key) {
			key, more = next, true
		}
	}
	return key, more, nil
}
