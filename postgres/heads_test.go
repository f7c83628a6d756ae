//go:build linux || darwin

package postgres

import (
	"errors"
	"testing"

	"github.com/courante-dev/courante"
)

// TestHeads attacks what a process believes of streams that it has written:
// whatever others do to them, an append finds its stream at the version that it
// expects, or has a conflict.
func TestHeads(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(t *testing.T, config Config, s *Store){
		"another process appends": func(t *testing.T, config Config, _ *Store) {
			_, other := openConfig(t, config)
			mustAppend(t, other, "order:1", 1, 1)
		},
		"a unit of the same process appends": func(t *testing.T, _ Config, s *Store) {
			unit, err := s.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer unit.Rollback(t.Context())
			e := noted()
			e.Stream, e.Version = "order:1", 2
			if _, err := unit.Commit(t.Context(), courante.Changes{Events: []courante.Event{e}}); err != nil {
				t.Fatal(err)
			}
		},
		"another process appends to the next part": func(t *testing.T, config Config, _ *Store) {
			_, other := openConfig(t, config)
			if _, err := other.ClosePart(t.Context()); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, other, "order:1", 1, 1)
		},
		"another process appends and closes the part": func(t *testing.T, config Config, s *Store) {
			_, other := openConfig(t, config)
			mustAppend(t, other, "order:1", 1, 1)
			if _, err := other.ClosePart(t.Context()); err != nil {
				t.Fatal(err)
			}
			// Now it knows of the part, by another stream.
			mustAppend(t, s, "order:3", 0, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := NewTestConfig(t)
			config.Committers = 1
			_, s := openConfig(t, config)
			mustAppend(t, s, "order:1", 0, 1)
			mustAppend(t, s, "order:2", 0, 2)
			meanwhile(t, config, s)
			for range 2 { // also once it is in doubt
				_, err := s.Append(t.Context(), "order:1", 1, noted())
				wantConflict(t, err)
			}
			_, err := s.Append(t.Context(), "order:1", 0, noted())
			wantConflict(t, err)
			mustAppend(t, s, "order:2", 2, 1)
			mustAppend(t, s, "order:1", 2, 2)
			mustAppend(t, s, "order:1", 4, 1)
			wantVersions(t, s, "order:1", 5)
			wantVersions(t, s, "order:2", 3)
		})
	}
}

// TestHeadsForgetOverRestore: a server that comes back without what it had
// acknowledged, as after a restore, gets no event whose predecessor it lost.
func TestHeadsForgetOverRestore(t *testing.T) {
	t.Parallel()
	_, s := openTest(t, oneCommitter)
	mustAppend(t, s, "order:1", 0, 3)
	mustAppend(t, s, "order:2", 0, 1)
	conn := testConn(t)
	mustExec(t, conn, s, "delete from {schema}.event where stream = 'order:1' and version = 3")
	if _, err := conn.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity
		where strpos(query, $1) > 0 and pid <> pg_backend_pid()`, s.quoted); err != nil {
		t.Fatal(err)
	}
	// Another stream's append finds that the session has ended.
	for {
		_, err := s.Append(t.Context(), "order:2", 1, noted())
		if err == nil {
			break
		}
		if !errors.Is(err, courante.ErrTransient) && !errors.Is(err, courante.ErrUnknownOutcome) {
			t.Fatal(err)
		}
	}
	_, err := s.Append(t.Context(), "order:1", 3, noted())
	wantConflict(t, err)
	wantVersions(t, s, "order:1", 2)
}

// TestHeadsOfALostServer: at a failover, a connection to the server that was
// left behind may still write to it. What it wrote there, no connection to the
// new one takes for granted.
func TestHeadsOfALostServer(t *testing.T) {
	t.Parallel()
	_, s := openTest(t, oneCommitter)
	mustAppend(t, s, "order:1", 0, 1)
	conn := testConn(t)
	// From here on, who connects is in another epoch.
	mustExec(t, conn, s, "update "+s.db.schema+".epoch set system_identifier = system_identifier + 1")
	in, err := s.connectInserter(t.Context(), s.db.config.LockTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.close)
	mustAppend(t, s, "order:1", 1, 1) // over the old connection
	mustExec(t, conn, s, "delete from {schema}.event where stream = 'order:1' and version = 2")
	c := &call{}
	if err := c.set("order:1", 2, notedTimes(1)); err != nil {
		t.Fatal(err)
	}
	outcomes, err := in.insert(t.Context(), []*call{c}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantConflict(t, outcomes[0].err)
	wantVersions(t, s, "order:1", 1)
}
