package courante_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/postgres"
)

// deployed is one process of the counting: the version before has a ledger of
// counts, the one after a ledger of counts and marks, more lanes, and two more
// subscribers.
type deployed struct {
	*counting
	late, fresh *courante.Entity[tally]
}

// startDeployed starts a process on connections of its own, and returns it with
// the two ways of its end.
func startDeployed(t *testing.T, config postgres.Config, operator *pgxpool.Pool, n int, newer bool) (d *deployed, stop, kill func()) {
	t.Helper()
	name := fmt.Sprintf("%s_%d", config.Schema, n)
	config.URL = named(config.URL, name)
	db, err := postgres.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	d = &deployed{counting: newCounting(newer)}
	mounts := []courante.Mount{
		{Service: d.source, Store: courantetest.PostgresStore(t, db, "source")},
		{Service: d.ledger, Store: courantetest.PostgresStore(t, db, "ledger")},
	}
	lanes := 2
	if newer {
		lanes = 3
		var late, fresh *courante.Service
		late, d.late = newLedger("late", true)
		fresh, d.fresh = newLedger("fresh", true)
		mounts = append(mounts,
			courante.Mount{Service: late, Store: courantetest.PostgresStore(t, db, "late")},
			courante.Mount{Service: fresh, Store: courantetest.PostgresStore(t, db, "fresh")})
	}
	if d.rt, err = courante.NewRuntime(courante.Config{Database: db, Services: mounts, Lanes: lanes, Batch: 32}); err != nil {
		t.Fatal(err)
	}
	d.run(t)
	ended := sync.OnceFunc(func() { d.stop(); db.Close() })
	t.Cleanup(ended)
	return d, ended, func() {
		// The server ends its sessions while they work, until the process is no
		// more: what it had sent may be done, and its answer never comes.
		gone := make(chan struct{})
		go func() { defer close(gone); ended() }()
		for {
			_, err := operator.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", name)
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-gone:
				return
			default:
			}
		}
	}
}

// TestDeployUnderLoad replaces a process, in the middle of load, by one of a
// newer version, with a further reaction, another number of lanes and two more
// subscribers, one added from the start and one from now, and then that one by
// another of its kind. What the log itself says is what everybody must have
// written down: nothing is lost, nothing comes twice, and each key's in order.
func TestDeployUnderLoad(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			const keys = 20
			config := courantetest.PostgresConfig(t)
			db, err := postgres.Open(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(db.Close)
			log := courantetest.PostgresStore(t, db, "source")
			var current atomic.Pointer[counting]
			var l *load
			replace := func(n int) *deployed {
				next, stop, kill := startDeployed(t, config, db.Pool(), n, n > 1)
				current.Store(next.counting)
				if l == nil {
					l = startLoad(t, keys, 8, current.Load)
				}
				until(t, fmt.Sprintf("process %d counts", n), func() bool { return l.sum() > int64(400*n) })
				switch {
				case n == 3:
					l.stop()
				case how == "stopped":
					stop()
				default:
					kill()
				}
				return next
			}
			replace(1)
			border, err := log.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for name, from := range map[string]courante.Cursor{"late": {}, "fresh": border} {
				if err := courante.AddSubscriber(t.Context(), courantetest.PostgresStore(t, db, name), "source", from, "ann"); err != nil {
					t.Fatal(err)
				}
			}
			replace(2)
			last := replace(3)
			until(t, "every count is visible", func() bool { return int64(len(ofType(readAll(t, log), counted{}))) >= l.sum() })

			events := readAll(t, log)
			for k := range keys {
				key := fmt.Sprint(k)
				all, after := tallyOf(events, key, courante.Cursor{}), tallyOf(events, key, border)
				if all.Wrong != 0 || all.Count < l.total[k].Load() {
					t.Fatalf("the log has %+v of key %s, and %d were counted", all, key, l.total[k].Load())
				}
				all.Wrong = 0
				for name, ledger := range map[string]*courante.Entity[tally]{"ledger": last.tallies, "late": last.late, "fresh": last.fresh} {
					want := all
					if name == "fresh" {
						want = after
					}
					var got tally
					until(t, name+" has written down key "+key, func() bool {
						got, _, _ = ledger.Get(t.Context(), key)
						return got.Last >= want.Last && got.LastMark >= want.LastMark
					})
					if got != want {
						t.Errorf("%s has %+v of key %s, and the log says %+v", name, got, key, want)
					}
				}
			}
		})
	}
}

// ofType are the events of the payload's type.
func ofType(events []courante.Event, p courante.Payload) (list []courante.Event) {
	for _, e := range events {
		if e.Type == p.EventType() {
			list = append(list, e)
		}
	}
	return list
}

// tallyOf is what a ledger that begins at the place must have of a key: that
// its first count does not follow number 0 is what it may find wrong.
func tallyOf(events []courante.Event, key string, from courante.Cursor) (want tally) {
	for i := range events {
		e := &events[i]
		if e.Key() != key || from.Covers(e) {
			continue
		}
		switch e.Type {
		case counted{}.EventType():
			c, _ := courante.Decode[counted](e)
			if c.N != want.Last+1 {
				want.Wrong++
			}
			want.Last = c.N
			want.Count++
		case marked{}.EventType():
			m, _ := courante.Decode[marked](e)
			if want.LastMark != 0 && m.N != want.LastMark+1 {
				want.Wrong++
			}
			want.LastMark = m.N
		}
	}
	return want
}
