package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5"
)

// Comparison says what was compared before a switch, and what came of it.
type Comparison struct {
	// Basis is what was compared with what, as a sentence.
	Basis  string            `json:"basis"`
	Tables []TableComparison `json:"tables"`
}

// TableComparison is one table of a Comparison. Both sums are the same for the
// same rows, in whatever order.
type TableComparison struct {
	Table   string   `json:"table"`
	Rows    int64    `json:"rows"`     // of the first
	NewRows int64    `json:"new_rows"` // of the second
	Sum     string   `json:"checksum"` // of all columns of all rows of the first
	NewSum  string   `json:"new_checksum"`
	OnlyOld []string `json:"only_old,omitempty"` // some rows that the second lacks
	OnlyNew []string `json:"only_new,omitempty"` // some rows that the first lacks
}

// Same reports whether nothing differs.
func (c *Comparison) Same() bool {
	for _, t := range c.Tables {
		if !t.Same() {
			return false
		}
	}
	return true
}

// Same reports whether both have the same rows.
func (t *TableComparison) Same() bool { return t.Rows == t.NewRows && t.Sum == t.NewSum }

func (c *Comparison) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", c.Basis)
	if c.Same() {
		b.WriteString("the same")
		return b.String()
	}
	for _, t := range c.Tables {
		if t.Same() {
			continue
		}
		fmt.Fprintf(&b, "\n  %s: %d rows and %d differ", t.Table, t.Rows, t.NewRows)
		for _, row := range t.OnlyOld {
			fmt.Fprintf(&b, "\n    - %s", row)
		}
		for _, row := range t.OnlyNew {
			fmt.Fprintf(&b, "\n    + %s", row)
		}
	}
	return b.String()
}

// differing is how many rows a comparison shows that only one side has.
const differing = 5

// sameRows compares tables of two schemas by their rows, in one snapshot if q
// has one.
func sameRows(ctx context.Context, q pgx.Tx, basis, old, new string, tables []string) (*Comparison, error) {
	c := &Comparison{Basis: basis}
	for _, table := range tables {
		a, b := pgx.Identifier{old, table}.Sanitize(), pgx.Identifier{new, table}.Sanitize()
		t := TableComparison{Table: table}
		const sum = "count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text"
		for _, side := range []struct {
			table string
			rows  *int64
			sum   *string
		}{{a, &t.Rows, &t.Sum}, {b, &t.NewRows, &t.NewSum}} {
			if err := q.QueryRow(ctx, "select "+sum+" from "+side.table+" t").Scan(side.rows, side.sum); err != nil {
				return nil, err
			}
		}
		if !t.Same() {
			const only = "select r from (select a::text from %s a except all select b::text from %s b) differ(r) order by r limit %d"
			var err error
			if t.OnlyOld, err = texts(ctx, q, fmt.Sprintf(only, a, b, differing)); err != nil {
				return nil, err
			}
			if t.OnlyNew, err = texts(ctx, q, fmt.Sprintf(only, b, a, differing)); err != nil {
				return nil, err
			}
		}
		c.Tables = append(c.Tables, t)
	}
	return c, nil
}

func texts(ctx context.Context, q pgx.Tx, sql string) ([]string, error) {
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// sampleEvents is how much of a log is folded twice, and sampleCut how much at
// once the second time: small enough that most of what is counted together the
// first time is not the second.
const (
	sampleEvents = 2 * foldEvents
	sampleCut    = 997
)

// foldTwice looks whether the projection's Apply gives the same rows from the
// same events whenever it is called and however they are cut: it folds the
// first events of each log twice, in a transaction that leaves nothing. This is
// what can be checked of a version that no other was live of.
func (s *Store) foldTwice(ctx context.Context, f *folder) (c *Comparison, err error) {
	tx, err := s.db.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx)
	schemas := []string{s.schema + "_scratch_1", s.schema + "_scratch_2"}
	events := 0
	for i, schema := range schemas {
		statements := []string{"create schema " + pgx.Identifier{schema}.Sanitize()}
		for j, table := range s.qualified(schema, f.g.Tables) {
			statements = append(statements, fmt.Sprintf("create table %s (like %s including all)", table, s.qualified(s.schemaOf(&f.g), f.g.Tables)[j]))
		}
		if _, err := tx.Conn().PgConn().Exec(ctx, strings.Join(statements, "; ")).ReadAll(); err != nil {
			return nil, err
		}
		twin := *f
		twin.in = s.inTables(schema, f.p.Tables)
		n, err := twin.foldSample(ctx, tx, []int{foldEvents, sampleCut}[i])
		if err != nil {
			return nil, err
		}
		events = n
	}
	basis := fmt.Sprintf("the first %d events folded twice, %d and %d at a time", events, foldEvents, sampleCut)
	return sameRows(ctx, tx, basis, schemas[0], schemas[1], f.g.Tables)
}

func (f *folder) foldSample(ctx context.Context, tx pgx.Tx, cut int) (events int, err error) {
	for _, read := range f.logs {
		var at courante.Cursor
		for n := 0; n < sampleEvents; {
			list, to, err := read(ctx, at, foldEvents)
			if err != nil {
				return 0, err
			}
			if to == at {
				break
			}
			list = list[:min(len(list), sampleEvents-n)]
			n, at, events = n+len(list), to, events+len(list)
			for len(list) > 0 {
				part := list[:min(cut, len(list))]
				list = list[len(part):]
				statements, err := f.statements(part)
				if err != nil {
					return 0, err
				}
				if err := tx.SendBatch(ctx, &pgx.Batch{QueuedQueries: statements}).Close(); err != nil {
					return 0, foldError(part, err)
				}
			}
		}
	}
	return events, nil
}

// errAhead says that the live generation is behind the other one, so that they
// cannot be compared at one place.
var errAhead = errors.New("the live generation is behind")

// compareLive compares the folder's generation with the live one of the same
// version at the same place of all logs, all rows of it. Writers of the live
// tables are kept out only while the other one is folded to that place and a
// snapshot is taken, in which then both are read.
func (s *Store) compareLive(ctx context.Context, f *folder, live *generation) (*Comparison, error) {
	frozen, err := s.db.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer frozen.Rollback(ctx)
	if err := s.lockTables(ctx, frozen, "share", s.qualified(s.schema, live.Tables)...); err != nil {
		return nil, err
	}
	if err := f.foldTo(ctx, live); err != nil {
		return nil, err
	}
	snapshot, err := s.db.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer snapshot.Rollback(ctx)
	if _, err := snapshot.Exec(ctx, "select"); err != nil { // takes the snapshot
		return nil, err
	}
	if err := frozen.Rollback(ctx); err != nil {
		return nil, err
	}
	basis := fmt.Sprintf("all rows of generation %d, which is live, and of generation %d, at the same place of the log", live.N, f.g.N)
	return sameRows(ctx, snapshot, basis, s.schema, s.besideSchema(&f.g), f.g.Tables)
}

// foldTo folds up to where the live generation is, which does not move.
func (f *folder) foldTo(ctx context.Context, live *generation) error {
	if f.p.Kind() == courante.Inline {
		if _, err := f.store.db.Tick(ctx); err != nil {
			return err
		}
		return f.catchUp(ctx, 0, nil)
	}
	if err := f.open(ctx); err != nil {
		return err
	}
	for log := range f.logs {
		l, err := f.store.foldLane(ctx, live, log)
		if err != nil {
			return err
		}
		if err := f.foldLogTo(ctx, log, l.Cursor); err != nil {
			f.lanes = nil
			return err
		}
	}
	return nil
}

func (f *folder) foldLogTo(ctx context.Context, log string, end courante.Cursor) error {
	for f.lanes[log].Cursor.Before(end) {
		b := f.read(ctx, log, f.lanes[log].Cursor)
		if b.err != nil {
			return b.err
		}
		if b.to == f.lanes[log].Cursor {
			return errAhead // of a log that lost its end: the live one will not come
		}
		if end.Before(b.to) {
			n := len(b.events)
			for n > 0 && !end.Covers(&b.events[n-1]) {
				n--
			}
			b.events, b.to, b.statements = b.events[:n], end, nil
			var err error
			if n > 0 {
				if b.statements, err = f.statements(b.events); err != nil {
					return err
				}
			}
		}
		if err := f.commit(ctx, b); err != nil {
			return err
		}
	}
	if end.Before(f.lanes[log].Cursor) {
		return errAhead
	}
	return nil
}

// compare says whether a generation has the rows that it should have, compared
// with what there is to compare it with.
func (s *Store) compare(ctx context.Context, f *folder) (*Comparison, error) {
	began := time.Now()
	for {
		list, err := s.generations(ctx, s.db.pool, f.p.Name)
		if err != nil {
			return nil, err
		}
		live := list.live()
		if live == nil || live.Version != f.p.Version || !f.g.Beside {
			return s.foldTwice(ctx, f)
		}
		c, err := s.compareLive(ctx, f, live)
		if !errors.Is(err, errAhead) {
			return c, err
		}
		if time.Since(began) > waitForLive {
			c, err := s.foldTwice(ctx, f)
			if err == nil {
				c.Basis += fmt.Sprintf(" (generation %d, which is live, stands still behind, and so could not be compared)", live.N)
			}
			return c, err
		}
		// Whoever carries the live one on is about to reach it.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(recordPlace):
		}
	}
}

// waitForLive is how long a comparison waits for the live generation to be as
// far as the other: longer than a process takes to take over from another.
const waitForLive = 2 * standBack
