package courante_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/memory"
	"github.com/courante-dev/courante/postgres"
)

func tables(sql string) fs.FS {
	return fstest.MapFS{"001_tables.sql": {Data: []byte(sql)}}
}

// heard is what the source's counting makes other services emit.
type heard struct {
	Key string `json:"key"`
}

func (heard) EventType() string { return "listener.heard" }

// listener is a service with a list of what it has heard, as a projection. The
// SQL is that of its table, "heard", and of a function gate(), which each
// transaction that projects calls.
type listener struct {
	svc *courante.Service
	say *courante.Command
	who *courante.Entity[struct{}]
}

func newListener(sql string) *listener {
	l := &listener{svc: courante.NewService("listener")}
	l.svc.Emits(courante.Critical, heard{})
	l.who = courante.Sourced[struct{}](l.svc, "who")
	hears := []courante.Outcome{{Emits: courante.Types(heard{})}}
	courante.On(l.svc, courante.Reaction[counted]{
		Step: courante.Step{Name: "hear", Outcomes: hears},
		Do: func(d *courante.Decision, e counted) error {
			l.who.Load(d, e.Key).Emit(heard{e.Key})
			return nil
		},
	})
	l.say = courante.NewCommand(l.svc, courante.Step{Name: "say", Outcomes: hears})
	l.svc.Tables(tables(sql))
	l.svc.Project(courante.Projection{
		Name: "heard", Version: 1, Tables: []string{"heard"}, Types: courante.Types(heard{}),
		Apply: func(b *pgx.Batch, events []courante.Event) error {
			keys := make([]string, len(events))
			for i := range events {
				keys[i] = events[i].Key()
			}
			b.Queue("select {schema}.gate()")
			b.Queue("insert into {schema}.heard select unnest($1::text[])", keys)
			return nil
		},
	})
	return l
}

func (l *listener) list(t *testing.T) []string {
	t.Helper()
	list, err := courante.Select(t.Context(), l.svc, pgx.RowTo[string], "select key from {schema}.heard order by key::int")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// start runs the listener and a source of which the keys 0 to 39 were counted
// before, so that they come in one batch.
func (l *listener) start(t *testing.T, db *postgres.Database) {
	t.Helper()
	source := courante.NewService("source")
	source.Emits(courante.Critical, counted{})
	store := courantetest.PostgresStore(t, db, "source")
	for k := range 40 {
		e := courante.Event{Type: "source.counted", Schema: 1, Data: fmt.Appendf(nil, `{"key":"%d","n":1}`, k)}
		if _, err := store.Append(t.Context(), fmt.Sprintf("counter:%d", k), 0, e); err != nil {
			t.Fatal(err)
		}
	}
	rt, err := courante.NewRuntime(courante.Config{Database: db, Lanes: 1, Services: []courante.Mount{
		{Service: source, Store: store}, {Service: l.svc, Store: courantetest.PostgresStore(t, db, "listener")}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- rt.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	until(t, "the runtime is up", func() bool { return rt.CheckTicker() == nil })
}

func (l *listener) tell(t *testing.T, key string) error {
	t.Helper()
	_, err := l.say.Do(t.Context(), courante.Call{Keys: []courante.Key{l.who.Key(key)}, Do: func(d *courante.Decision) error {
		l.who.Load(d, key).Emit(heard{key})
		return nil
	}})
	return err
}

const gateOpen = `create function {schema}.gate() returns void language sql as '';`

func TestProjectionThatRefusesARowSetsItsMessageAsideAlone(t *testing.T) {
	t.Parallel()
	db := courantetest.Postgres(t)
	l := newListener(gateOpen + `create table {schema}.heard (key text check (key <> '7'))`)
	l.start(t, db)
	until(t, "39 rows", func() bool { return len(l.list(t)) == 39 })
	parked, err := courantetest.PostgresStore(t, db, "listener").Parked(t.Context(), "listener", courante.ParkedQuery{})
	if err != nil || len(parked) != 1 || parked[0].Key != "7" || !strings.Contains(parked[0].Cause, "projection heard") {
		t.Errorf("parked %+v (error %v), want the message of key 7, because of the projection", parked, err)
	}
	if _, _, err := l.who.Get(t.Context(), "7"); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("the stream of key 7: %v, want none", err)
	}

	if err := l.tell(t, "7"); err == nil || errors.Is(err, courante.ErrTransient) {
		t.Errorf("a command that the projection refuses: %v, want a lasting error", err)
	}
	if err := l.tell(t, "100"); err != nil {
		t.Errorf("another command: %v", err)
	}
	if list := l.list(t); len(list) != 40 || list[39] != "100" {
		t.Errorf("list %v, want the command's row in it at once", list)
	}
}

func TestProjectionThatFailsForAMomentPausesItsService(t *testing.T) {
	t.Parallel()
	db := courantetest.Postgres(t)
	l := newListener(`create table {schema}.heard (key text primary key);
		create table {schema}.closed (); insert into {schema}.closed default values;
		create sequence {schema}.tries; -- counts also what is rolled back
		create function {schema}.gate() returns void language plpgsql as $$
		begin
			perform nextval('{schema}.tries');
			if exists (select from {schema}.closed) then
				raise 'not now' using errcode = '40001';
			end if;
		end $$`)
	l.start(t, db)
	schema := db.Pool()
	store := courantetest.PostgresStore(t, db, "listener").(*postgres.Store)
	until(t, "some tries", func() bool {
		var tries int
		if err := schema.QueryRow(t.Context(), "select last_value from "+store.Schema()+".tries").Scan(&tries); err != nil {
			t.Fatal(err)
		}
		return tries >= 3
	})
	if parked, err := store.Parked(t.Context(), "listener", courante.ParkedQuery{}); err != nil || len(parked) > 0 {
		t.Errorf("parked %+v (error %v), want nothing: no message is to blame", parked, err)
	}
	if list := l.list(t); len(list) > 0 {
		t.Errorf("list %v, want none yet", list)
	}
	if _, err := schema.Exec(t.Context(), "delete from "+store.Schema()+".closed"); err != nil {
		t.Fatal(err)
	}
	until(t, "40 rows", func() bool { return len(l.list(t)) == 40 })
}

// What was counted is what the projection says, for every key, though
// connections are killed all the time.
func TestProjectionUnderLostConnections(t *testing.T) {
	t.Parallel()
	config := courantetest.PostgresConfig(t)
	victim := config
	victim.URL = named(config.URL, config.Schema)
	db, err := postgres.Open(t.Context(), victim)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	c := newCounting(false)
	c.source.Tables(tables(`create table {schema}.total (key text primary key, n bigint, events bigint)`))
	c.source.Project(courante.Projection{
		Name: "total", Version: 1, Tables: []string{"total"}, Types: courante.Types(counted{}),
		Apply: func(b *pgx.Batch, events []courante.Event) error {
			var keys []string
			var counts []int64
			for i := range events {
				e, err := courante.Decode[counted](&events[i])
				if err != nil {
					return err
				}
				keys, counts = append(keys, e.Key), append(counts, e.N)
			}
			b.Queue(`insert into {schema}.total as t select key, max(n), count(*) from unnest($1::text[], $2::bigint[]) a(key, n) group by key order by key
				on conflict (key) do update set n = excluded.n, events = t.events + excluded.events`, keys, counts)
			return nil
		},
	})
	c.start(t, base{db: db, store: func(name string) courante.Store { return courantetest.PostgresStore(t, db, name) }}, 2, nil)
	l := startLoad(t, 20, 8, func() *counting { return c })
	attacker, err := pgx.Connect(t.Context(), config.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { attacker.Close(context.Background()) })
	for round := range 5 {
		want := int64(100 * (round + 1))
		until(t, fmt.Sprintf("%d counts", want), func() bool { return l.sum() >= want })
		if _, err := attacker.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", config.Schema); err != nil {
			t.Fatal(err)
		}
	}
	l.stop()
	type total struct {
		Key       string
		N, Events int64
	}
	var list []total
	until(t, "an answer", func() bool {
		list, err = courante.Select(t.Context(), c.source, pgx.RowToStructByPos[total], "select key, n, events from {schema}.total")
		if err != nil && !errors.Is(err, courante.ErrTransient) {
			t.Fatal(err)
		}
		return err == nil
	})
	if len(list) != 20 {
		t.Errorf("%d keys, want 20", len(list))
	}
	for _, got := range list {
		if n := c.counted(t, got.Key); got.N != n || got.Events != n {
			t.Errorf("got %+v, want a count of %d", got, n)
		}
	}
}

func TestServiceWithAProjectionRunsWithoutSQL(t *testing.T) {
	t.Parallel()
	l := newListener(gateOpen)
	db := memory.New(memory.Config{})
	rt, err := courante.NewRuntime(courante.Config{Database: db, Stepped: true, Sources: []courante.Store{db.Store("source")},
		Services: []courante.Mount{{Service: l.svc, Store: db.Store("listener")}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Prepare(t.Context()); err != nil {
		t.Errorf("Prepare: %v", err)
	}
	if err := l.tell(t, "1"); err != nil {
		t.Errorf("a command: %v", err)
	}
	_, err = courante.Select(t.Context(), l.svc, pgx.RowTo[string], "select key from {schema}.heard")
	if !errors.Is(err, courante.ErrNoSQL) {
		t.Errorf("a query: %v, want ErrNoSQL", err)
	}
}

func TestRunEndsWhenTablesCannotBeMade(t *testing.T) {
	t.Parallel()
	db := courantetest.Postgres(t)
	l := newListener("create table {schema}.heard (key nonsense)")
	rt, err := courante.NewRuntime(courante.Config{Database: db, Sources: []courante.Store{courantetest.PostgresStore(t, db, "source")},
		Services: []courante.Mount{{Service: l.svc, Store: courantetest.PostgresStore(t, db, "listener")}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "001_tables") {
		t.Errorf("error %v, want one that names the migration", err)
	}
}

func TestProjectionsAreChecked(t *testing.T) {
	t.Parallel()
	apply := func(*pgx.Batch, []courante.Event) error { return nil }
	for rule, p := range map[string]courante.Projection{
		"it has a name":           {Name: "A b", Version: 1, Tables: []string{"a"}, Apply: apply},
		"its version begins at 1": {Name: "a", Tables: []string{"a"}, Apply: apply},
		"it fills tables":         {Name: "a", Version: 1, Apply: apply},
		"it does something":       {Name: "a", Version: 1, Tables: []string{"a"}},
		"its name is its own":     {Name: "heard", Version: 1, Tables: []string{"a"}, Apply: apply},
	} {
		l := newListener(gateOpen)
		l.svc.Project(p)
		db := memory.New(memory.Config{})
		_, err := courante.NewRuntime(courante.Config{Database: db, Sources: []courante.Store{db.Store("source")},
			Services: []courante.Mount{{Service: l.svc, Store: db.Store("listener")}}})
		if err == nil || !strings.Contains(err.Error(), "projection") {
			t.Errorf("%s: error %v, want one about the projection", rule, err)
		}
	}
}
