//go:build linux || darwin

package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

// TestTerminatedInCommit ends a session while its transaction commits: as the
// server does with all of them when it is restarted. Whoever is told that it
// failed writes again, so then nothing may have been written.
func TestTerminatedInCommit(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(t *testing.T, s *Store, stream string) error{
		"of a unit": func(t *testing.T, s *Store, stream string) error {
			return commit(t, s, courante.Changes{Events: []courante.Event{eventAt(stream, 1)}})
		},
		"of a group of appends": func(t *testing.T, s *Store, stream string) error {
			_, err := s.Append(t.Context(), stream, 0, noted())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, s := openTest(t, oneCommitter, func(c *Config) {
				c.URL = withParam(t, c.URL, "application_name", c.Schema)
				// A commit takes long enough to be hit.
				c.URL = withParam(t, withParam(t, c.URL, "commit_delay", "30000"), "commit_siblings", "0")
			})
			conn := testConn(t)
			for round := range 8 {
				stream := fmt.Sprintf("order:%d", round)
				done := make(chan error, 1)
				go func() { done <- write(t, s, stream) }()
				eventually(t, "the transaction to be hit, or to end", func() bool {
					tag, err := conn.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
						where application_name = $1 and backend_xid is not null`, s.db.config.Schema)
					if err != nil {
						t.Fatal(err)
					}
					return tag.RowsAffected() > 0 || len(done) > 0
				})
				switch err := <-done; {
				case err == nil:
					wantVersionsAt(t, conn, s, stream, 1)
				case errors.Is(err, courante.ErrTransient):
					wantVersionsAt(t, conn, s, stream, 0)
				case !errors.Is(err, courante.ErrUnknownOutcome):
					t.Error(err)
				}
			}
		})
	}
}

// TestIdleConnectionThatBroke: however long it was idle, a committer's
// connection that has ended is noticed before anything is sent over it, so
// that no caller has an append of unknown outcome.
func TestIdleConnectionThatBroke(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	in, err := s.connectInserter(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.close)
	in.deadline(time.Nanosecond) // that of the last answer has passed
	broken := func() bool {
		in.used = time.Now().Add(-time.Hour)
		return in.broken()
	}
	if broken() {
		t.Error("the connection is said to be broken, and is not")
	}
	in.deadline(time.Nanosecond)
	conn := testConn(t)
	if _, err := conn.Exec(t.Context(), "select pg_terminate_backend($1, 10000)", in.conn.PgConn().PID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the connection to be noticed", broken)
}

// TestPoolerThatLostTheServer: what a pooler says when its connection to the
// server has broken, in answer to a commit, leaves the outcome open. The
// trigger says it in the pooler's place.
func TestPoolerThatLostTheServer(t *testing.T) {
	t.Parallel()
	_, s := openTest(t)
	mustExec(t, testConn(t), s, `create function {schema}.pooler() returns trigger language plpgsql as
		$$ begin raise exception 'server conn crashed?' using errcode = '08P01'; end $$;
		create constraint trigger pooler after insert on {schema}.event deferrable initially deferred for each row execute function {schema}.pooler()`)
	_, err := s.Append(t.Context(), "order:1", 0, noted())
	if !errors.Is(err, courante.ErrUnknownOutcome) {
		t.Errorf("append: %v, want an unknown outcome", err)
	}
	err = commit(t, s, courante.Changes{Events: []courante.Event{eventAt("order:2", 1)}})
	if !errors.Is(err, courante.ErrUnknownOutcome) {
		t.Errorf("unit: %v, want an unknown outcome", err)
	}
}
