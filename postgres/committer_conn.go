package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// connected reports whether the committer has a connection that works, as far
// as it knows.
func (c *committer) connected() bool { return c.in != nil && !c.in.conn.IsClosed() }

// connect makes sure of a connection. After a failure the next attempt waits
// longer: the group that waits is told at once that the database cannot be
// reached, and a server that comes back is not overrun.
func (c *committer) connect() error {
	if c.connected() && !c.in.broken() {
		return nil
	}
	c.disconnect()
	if c.backoff > 0 {
		select {
		case <-time.After(c.backoff):
		case <-c.queue.stopping: // the last calls get one quick try
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	in, err := c.store.connectInserter(ctx, c.store.db.config.LockTimeout)
	if err != nil {
		c.backoff = min(maxBackoff, max(2*c.backoff, 10*time.Millisecond))
		c.log.Warn("cannot connect", "error", err, "next_try_in", c.backoff)
		return err
	}
	c.in, c.backoff = in, 0
	return nil
}

func (c *committer) disconnect() {
	if c.in != nil {
		c.in.close()
		c.in = nil
	}
}

// connectInserter opens a connection for appends. They run one statement for
// ever, whose plan was made when the log was small: the index is the only
// right way to it at any size, so the session leaves the planner no other.
func (s *Store) connectInserter(ctx context.Context, lockTimeout time.Duration) (*inserter, error) {
	config := s.db.pool.Config().ConnConfig
	onlyIndexes(config)
	config.RuntimeParams["lock_timeout"] = milliseconds(lockTimeout)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, translate("connect to append", err)
	}
	in, err := newInserter(ctx, s, conn)
	if err != nil {
		conn.Close(ctx)
		return nil, err
	}
	return in, nil
}

// onlyIndexes leaves the planner no choice but indexes and nested loops, for
// sessions whose statements are prepared once and must not depend on how
// large the tables were at the time.
func onlyIndexes(config *pgx.ConnConfig) {
	for _, method := range []string{"seqscan", "bitmapscan", "hashjoin", "mergejoin"} {
		config.RuntimeParams["enable_"+method] = "off"
	}
	config.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
}

// idleCheck is after how long without use a connection is looked at before it
// is used again. The look takes up to a millisecond.
const idleCheck = time.Second

// broken reports whether the connection broke while it was idle: found out
// before anything is sent, it costs no caller its certainty. A ping would cost a
// round trip and prove no more about the moment after it.
func (in *inserter) broken() bool {
	if time.Since(in.used) <= idleCheck {
		return false
	}
	in.deadline(answerTimeout)                 // behind that of the last use nothing can be read
	return in.conn.PgConn().CheckConn() != nil //nolint:staticcheck // see above
}

// deadline is when the server must have answered; it costs less than a context.
func (in *inserter) deadline(d time.Duration) {
	// An error means that the connection is gone, as the next use will find.
	in.used = time.Now()
	_ = in.conn.PgConn().Conn().SetDeadline(in.used.Add(d))
}

func (in *inserter) lockTimeout(d time.Duration) {
	in.deadline(answerTimeout)
	_, err := in.conn.Exec(context.Background(), fmt.Sprintf("set lock_timeout = '%s'", milliseconds(d)))
	if err != nil {
		in.close() // the session is in doubt; the next use connects anew
	}
}

func (in *inserter) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	in.conn.Close(ctx)
}
