package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/courante-dev/courante"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

var errEnded = errors.New("postgres: the unit has ended")

// unit implements courante.Unit over one transaction. It takes a connection
// and begins with the first statement that it has to send, in the same round
// trip: a unit that loads nothing is one round trip in all, any other is one
// for each Load and one for the commit.
//
// Rows that are locked stay in the order of their streams within one Load. Two
// units that load in several rounds can still deadlock; then the server fails
// one of them, and that error is transient.
type unit struct {
	store *Store
	conn  *pgxpool.Conn // nil before the first statement and after the end
	epoch int32
	begun bool
	ended bool

	part   int32            // that was open before it loaded anything
	loaded map[string]int64 // by stream: the version that it was at
}

// Begin starts a unit of work; see [courante.Store].
func (s *Store) Begin(ctx context.Context) (courante.Unit, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &unit{store: s}, nil
}

// start returns a pipeline to add statements to, which begins the transaction
// if that has not happened.
func (u *unit) start(ctx context.Context) (*pipeline, error) {
	if u.conn == nil {
		conn, err := u.store.db.units.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		u.conn = conn
		if u.epoch, err = u.store.db.epochOf(ctx, conn.Conn()); err != nil {
			return nil, err
		}
	}
	p := newPipeline(ctx, u.conn.Conn())
	if !u.begun {
		p.exec("begin")
		u.begun = true
	}
	return p, nil
}

// Load returns the states behind the keys and locks the stored ones; see
// [courante.Unit]. After an error the unit has ended.
func (u *unit) Load(ctx context.Context, keys []courante.Key, known map[courante.Key]courante.Known) ([]courante.State, error) {
	doing := "load states of " + u.store.name
	if u.ended {
		return nil, fmt.Errorf("%s: %w", doing, errEnded)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	if u.loaded == nil {
		u.part, u.loaded = u.store.part.Load(), make(map[string]int64, len(keys))
	}
	found := newFound(u.store, keys, known)
	for {
		p, err := u.start(ctx)
		if err == nil {
			found.load(p, lockStates)
			err = p.run()
		}
		if err != nil {
			u.end(ctx)
			return nil, translate(doing, err)
		}
		if !found.again() {
			states := found.states(keys)
			for i := range states {
				u.loaded[states[i].Stream()] = states[i].Version
			}
			return states, nil
		}
	}
}

// certain reports whether all events can be added to the part without looking
// for their predecessors: because the unit has seen them itself, in the same
// transaction. What somebody else adds in between can only be in the part, if it
// was open all the time, where the primary key finds it; so it does for new
// streams, if there is no other part.
//
// What an inline projection's statements answer may be long, see runCopying.
func (u *unit) certain(w *write, part int32) bool {
	for stream, version := range w.expected {
		seen, ok := u.loaded[stream]
		if version == 0 && part > 1 || version > 0 && !(ok && seen == version && part == u.part) {
			return false
		}
	}
	return len(w.projected) == 0
}

// Rollback ends the unit without a trace.
func (u *unit) Rollback(ctx context.Context) { u.end(ctx) }

// end gives the connection back, rolling back what is not committed. It does
// so also when ctx has ended: the locks must go now.
func (u *unit) end(ctx context.Context) {
	u.ended = true
	if u.conn == nil {
		return
	}
	if conn := u.conn.Conn(); !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, err := conn.Exec(ctx, "rollback"); err != nil {
			conn.Close(ctx)
		}
	}
	u.conn.Release()
	u.conn = nil
}

// Commit writes the changes and ends the unit; see [courante.Unit]. All
// statements and the commit are sent at once. A statement that cannot write
// all of its rows fails, so that the server does not reach the commit.
func (u *unit) Commit(ctx context.Context, c courante.Changes) (courante.Receipt, error) {
	doing := "commit to " + u.store.name
	if u.ended {
		return courante.Receipt{}, fmt.Errorf("%s: %w", doing, errEnded)
	}
	defer u.end(ctx)
	w, err := newWrite(u.store, c)
	if err != nil {
		return courante.Receipt{}, fmt.Errorf("postgres: %s: %w", doing, err)
	}
	if w.empty() {
		return courante.Receipt{Token: courante.Token{Log: u.store.name, Epoch: u.store.db.epoch}}, nil
	}
	loaded := u.begun
	for tries := 1; ; tries++ {
		receipt, err := u.write(ctx, w, "commit")
		if err == nil {
			if len(c.Events) > 0 {
				u.store.db.signalCommitted()
			}
			return receipt, nil
		}
		var projection *projectionError
		if errors.As(err, &projection) {
			return courante.Receipt{}, translateCommit(doing, err)
		}
		if partClosed(err) && tries <= maxRepeats {
			if err := u.store.refreshPart(ctx, u.store.db.log.pool); err != nil {
				return courante.Receipt{}, err
			}
			// What was loaded has to be loaded and locked again, which only
			// the caller can do.
			if loaded {
				return courante.Receipt{}, fmt.Errorf("postgres: %s: %w", doing, &courante.ConflictError{})
			}
			if _, rollback := u.conn.Exec(ctx, "rollback"); rollback != nil {
				return courante.Receipt{}, translate(doing, rollback)
			}
			u.begun = false
			continue
		}
		return courante.Receipt{}, u.explain(ctx, doing, w, err)
	}
}

// Rehearse does all that Commit does up to the commit; see [courante.Unit]. The
// rollback travels with the statements, so what they lock is free at once.
func (u *unit) Rehearse(ctx context.Context, c courante.Changes) error {
	doing := "rehearse a commit to " + u.store.name
	if u.ended {
		return fmt.Errorf("%s: %w", doing, errEnded)
	}
	defer u.end(ctx)
	w, err := newWrite(u.store, c)
	if err != nil {
		return fmt.Errorf("postgres: %s: %w", doing, err)
	}
	if w.empty() {
		return nil
	}
	_, err = u.write(ctx, w, "rollback")
	var projection *projectionError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &projection):
		return translate(doing, err)
	case partClosed(err):
		if err := u.store.refreshPart(ctx, u.store.db.log.pool); err != nil {
			return err
		}
		return fmt.Errorf("postgres: %s: %w", doing, &courante.ConflictError{})
	}
	return u.explain(ctx, doing, w, err)
}

func (u *unit) write(ctx context.Context, w *write, end string) (courante.Receipt, error) {
	p, err := u.start(ctx)
	if err != nil {
		return courante.Receipt{}, &notSentError{err}
	}
	token := courante.Token{Log: u.store.name, Epoch: u.epoch}
	part := u.store.part.Load()
	w.add(p, destination{part, u.epoch, u.certain(w, part)}, func(v [][]byte) error {
		token.Xid = binary.BigEndian.Uint64(v[0])
		return nil
	})
	p.end(end)
	if err := p.run(); err != nil {
		return courante.Receipt{}, err
	}
	return courante.Receipt{Token: token}, nil
}

// explain finds out what the failure of a write means to its caller.
func (u *unit) explain(ctx context.Context, doing string, w *write, err error) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return translateCommit(doing, err)
	}
	// The names of the tables are without the numbers of their partitions.
	switch table := baseTable(server.TableName); {
	case notKept(err):
		return errNotKept(doing)
	case (server.Code == codeExpect || server.Code == "23505") && (table == "progress" || table == "parked"):
		return fmt.Errorf("postgres: %s: %w", doing, courante.ErrFenced)
	case server.Code == codeExpect || server.Code == "23505":
		u.end(ctx) // and with it the locks, before the next statement
		return u.store.conflict(ctx, doing, w)
	case server.Code == "23514" && (table == "progress" || table == "reply"):
		u.end(ctx)
		return u.store.noPartition(ctx, doing, table, w)
	}
	return translateCommit(doing, err)
}
