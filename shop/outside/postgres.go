package outside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PostgresLedger keeps books in a schema of its own, on connections of its own.
//
// Thousands of calls a second must not be thousands of transactions: a writer
// takes what is queued, without lingering, and writes it in one. So the group
// grows by itself under load, and a single call does not wait.
type PostgresLedger struct {
	pool  *pgxpool.Pool
	queue chan *change
	stop  chan struct{} // closed by Close
	done  sync.WaitGroup
	once  sync.Once
}

// change is one call of update that waits for its transaction.
type change struct {
	book, key string
	apply     func([]byte) ([]byte, error)
	err       error
	done      chan struct{}
}

const (
	// writers is how many transactions run side by side: while one waits for
	// its commit, the other collects.
	writers = 2
	// maxGroup bounds a transaction; beyond it a larger one saves nothing.
	maxGroup = 256
)

// create makes the books. The key comes first in the primary key because all
// access is by key; fillfactor leaves room for the one update that a row gets,
// when it is voided or cancelled, to stay on its page.
const create = `
create schema if not exists outside;
create table if not exists outside.ledger (
	key  text  not null,
	book text  not null,
	row  json not null, -- as written: equal bytes mean that nothing changed,
	primary key (key, book)
) with (fillfactor = 90)`

// OpenLedger connects to the database and makes the books if they are not
// there. Close it when nobody calls any more.
func OpenLedger(ctx context.Context, connString string) (*PostgresLedger, error) {
	cfg, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("outside: %w", err)
	}
	cfg.MaxConns = writers + 1 // one more for reading the books
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("outside: %w", err)
	}
	// Two processes may do this at once, and "if not exists" does not wait for
	// the other's transaction: take turns.
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtext('courante outside'))`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, create)
		return err
	})
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("outside: make the books: %w", err)
	}
	l := &PostgresLedger{pool: pool, queue: make(chan *change, maxGroup), stop: make(chan struct{})}
	for range writers {
		l.done.Go(l.write)
	}
	return l, nil
}

// Close waits for what is being written and disconnects. Calls that come later
// fail.
func (l *PostgresLedger) Close() {
	l.once.Do(func() {
		close(l.stop)
		l.done.Wait()
		l.pool.Close()
	})
}

var errClosed = errors.New("outside: the ledger is closed")

func (l *PostgresLedger) update(ctx context.Context, book, key string, apply func([]byte) ([]byte, error)) error {
	c := &change{book: book, key: key, apply: apply, done: make(chan struct{})}
	select {
	case l.queue <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.stop:
		return errClosed
	}
	// From here on it is written or not, whatever ctx says: the caller would
	// read variables that apply is about to set.
	select {
	case <-c.done:
		return c.err
	case <-l.stop:
	}
	l.done.Wait() // the writers are finishing; afterwards c is done or nobody will touch it
	select {
	case <-c.done:
		return c.err
	default:
		return errClosed
	}
}

// write is the loop of one writer.
func (l *PostgresLedger) write() {
	for {
		var group []*change
		select {
		case c := <-l.queue:
			group = append(group, c)
		case <-l.stop:
			return
		}
	collect:
		for len(group) < maxGroup {
			select {
			case c := <-l.queue:
				group = append(group, c)
			default:
				break collect
			}
		}
		l.commit(group)
	}
}

// commit writes a group in one transaction. The rows are locked in the order of
// their keys, so that two writers never wait for each other in a circle.
func (l *PostgresLedger) commit(group []*change) {
	slices.SortStableFunc(group, func(a, b *change) int {
		return strings.Compare(a.key+"\x00"+a.book, b.key+"\x00"+b.book)
	})
	// A call is short, and cutting it off would leave its outcome unknown to
	// nobody's use: a writer never gives up but by the server's own limits.
	ctx := context.Background()
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error { return writeGroup(ctx, tx, group) })
	for _, c := range group {
		if err != nil {
			c.err = fmt.Errorf("outside: write %s %s: %w", c.book, c.key, err)
		}
		close(c.done)
	}
}

type rowKey struct{ book, key string }

func writeGroup(ctx context.Context, tx pgx.Tx, group []*change) error {
	var books, keys []string
	for i, c := range group {
		if i == 0 || c.key != group[i-1].key || c.book != group[i-1].book {
			books, keys = append(books, c.book), append(keys, c.key)
		}
	}
	// A row that is not there cannot be locked, and of two writers that both
	// miss it the second would overwrite the first's answer. Advisory locks on
	// the keys, taken in one order, close the gap.
	rows, err := tx.Query(ctx, `
		with turn as materialized (
			select book, key, pg_advisory_xact_lock(hashtextextended(key, 0))
			from unnest($1::text[], $2::text[]) as u (book, key)
		)
		select count(*) from turn`, books, keys)
	if err != nil {
		return err
	}
	if _, err := pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		return err
	}
	// A statement of its own, so that its snapshot is taken with the locks held.
	rows, err = tx.Query(ctx, `
		select l.book, l.key, l.row
		from unnest($1::text[], $2::text[]) as u (book, key)
		join outside.ledger l on l.key = u.key and l.book = u.book`, books, keys)
	if err != nil {
		return err
	}
	have := map[rowKey][]byte{}
	var book, key string
	var row []byte
	if _, err := pgx.ForEachRow(rows, []any{&book, &key, &row}, func() error {
		have[rowKey{book, key}] = bytes.Clone(row)
		return nil
	}); err != nil {
		return err
	}

	after := map[rowKey][]byte{}
	for _, c := range group {
		k := rowKey{c.book, c.key}
		row, changed := after[k]
		if !changed {
			row = have[k]
		}
		next, err := c.apply(row)
		if c.err = err; err == nil && next != nil && !bytes.Equal(next, row) {
			after[k] = next
		}
	}
	books, keys = books[:0], keys[:0]
	var data []string
	for k, row := range after {
		books, keys, data = append(books, k.book), append(keys, k.key), append(data, string(row))
	}
	if len(keys) == 0 {
		return nil
	}
	_, err = tx.Exec(ctx, `
		insert into outside.ledger (key, book, row)
		select key, book, row::json from unnest($1::text[], $2::text[], $3::text[]) as u (book, key, row)
		on conflict (key, book) do update set row = excluded.row`, books, keys, data)
	return err
}

func (l *PostgresLedger) all(ctx context.Context, book string) (map[string][]byte, error) {
	rows, err := l.pool.Query(ctx, `select key, row from outside.ledger where book = $1`, book)
	if err != nil {
		return nil, fmt.Errorf("outside: read the books: %w", err)
	}
	found := map[string][]byte{}
	var key string
	var row []byte
	if _, err := pgx.ForEachRow(rows, []any{&key, &row}, func() error {
		found[key] = bytes.Clone(row)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("outside: read the books: %w", err)
	}
	return found, nil
}
