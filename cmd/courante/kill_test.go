//go:build linux || darwin

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/app"
)

var (
	kills       = flag.Int("courante.kills", 3, "how often TestKilled kills the program")
	serverKills = flag.Int("courante.server-kills", 1, "how often TestKilled kills PostgreSQL")
)

const (
	// killedWith is how many orders must be under way, at least, when something
	// is killed.
	killedWith    = 10
	ordersPerKill = 150
)

// TestKilled replays a shop's day, with everything that can go wrong in it, and
// meanwhile kills the program and its PostgreSQL again and again. In the end
// every record is accounted for, every order has ended, and the audit finds
// nothing. With -courante.kills 20 or more it goes on until every step that
// there was has been hit. Whoever rebuilds the list of orders meanwhile is killed
// too, and the next one goes on.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	day := filepath.Join(t.TempDir(), "day.ndjson")
	thorough := *kills >= 20
	most := *kills + *serverKills
	if thorough {
		most *= 3
	}
	if err := writeDay(day, "order", rnd, ordersPerKill*(most+1)); err != nil {
		t.Fatal(err)
	}

	address := freeAddress(t)
	env := []string{"COURANTE_PAYMENT_DEADLINE=3s", "COURANTE_CARRIER_DEADLINE=3s", "COURANTE_ORDER_DEADLINE=20s"}
	start := func() *process { return upOn(t, dir, address, env...) }
	p := start()
	replay := command(t, dir, nil, "replay", day, "--url", "http://"+address, "--json", "--rate", "150/s", "--concurrency", "64")
	var report, said bytes.Buffer
	replay.Stdout, replay.Stderr = &report, &said
	if err := replay.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = replay.Wait() // the exit code says it all
		close(ended)
	}()
	t.Cleanup(func() {
		replay.Process.Kill()
		<-ended
	})

	victims := append(slices.Repeat([]string{"program"}, *kills), slices.Repeat([]string{"PostgreSQL"}, *serverKills)...)
	rnd.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	var moments []time.Time
	var missed []string // steps that there were before the last kill, and that none has hit
	for n := 0; n < len(victims) || thorough && n < most && len(missed) > 0; n++ {
		awaitOrders(p, killedWith)
		rebuild := command(t, dir, nil, "projection", "rebuild", "ordering", "order_list")
		if err := rebuild.Start(); err != nil {
			t.Fatal(err)
		}
		// Chance decides in the middle of what it is hit.
		<-time.After(time.Duration(rnd.IntN(300)) * time.Millisecond)
		moments = append(moments, time.Now())
		rebuild.Process.Kill()
		_ = rebuild.Wait() // it was killed, or was quicker
		if n >= len(victims) || victims[n] == "program" {
			p.signal(syscall.SIGKILL)
			p.end()
			p = start()
		} else {
			if err := killPostgres(dir); err != nil {
				t.Fatal(err)
			}
			p.until("ready again", p.isReady, func() any { return p.said() })
		}
		if n+1 >= len(victims) && thorough {
			missed = whatWasHit(t, p, moments).never
		}
	}

	select {
	case <-ended:
	case <-time.After(5 * time.Minute):
		t.Fatalf("the replay does not end:\n%s", said.String())
	}
	if code := replay.ProcessState.ExitCode(); code != app.ExitOK {
		t.Errorf("the replay ended with %d:\n%s\n%s", code, report.String(), said.String())
	}
	var accounted struct {
		Checks string
		Orders struct {
			ByStatus map[string]int `json:"by_status"`
		}
	}
	if err := json.Unmarshal(report.Bytes(), &accounted); err != nil || accounted.Checks != "ok" {
		t.Errorf("the replay reports %q (%v), want every record accounted for", report.String(), err)
	}
	for _, status := range []string{"confirmed", "cancelled", "returned"} {
		if accounted.Orders.ByStatus[status] == 0 {
			t.Errorf("no order is %s: %v", status, accounted.Orders.ByStatus)
		}
	}
	checkSchemas(t, p)
	if out, said, code := p.run("projection", "rebuild", "ordering", "order_list", "--json"); code != app.ExitOK || !strings.Contains(out, `"same":true,"live":true`) {
		t.Errorf("the rebuild of the list ended with %d:\n%s\n%s", code, out, said)
	}
	hits := whatWasHit(t, p, moments)
	t.Logf("%d kills", len(moments))
	for _, step := range slices.Sorted(maps.Keys(hits.steps)) {
		t.Logf("hit %d times: %s", hits.steps[step], step)
	}
	for i, n := range hits.underWay {
		if n < killedWith {
			t.Errorf("%d orders were under way at kill %d, want %d at least", n, i+1, killedWith)
		}
	}
	for _, step := range missed {
		t.Errorf("never hit: %s", step)
	}
	if out, said, code := p.run("verify"); code != app.ExitOK {
		t.Errorf("verify ended with %d:\n%s\n%s", code, out, said)
	}
	p.signal(syscall.SIGINT)
	if code := p.end(); code != app.ExitOK {
		t.Errorf("got exit code %d after an interrupt, want %d", code, app.ExitOK)
	}
	if out, said, code := p.run("verify"); code != app.ExitOK {
		t.Errorf("verify of the stopped system ended with %d:\n%s\n%s", code, out, said)
	}
}

// freeAddress is an address that was free a moment ago: a program that is
// started again must be found where it was.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitOrders waits until so many orders are under way.
func awaitOrders(p *process, n int) {
	p.t.Helper()
	count := 0
	p.until(fmt.Sprint(n, " orders under way"), func() bool {
		count = 0
		for _, status := range []string{"created", "reserved", "paid", "shipped", "cancelling"} {
			_, answer := p.call("GET", "/v1/orders?limit=200&status="+status, "")
			items, _ := answer["items"].([]any)
			count += len(items)
		}
		return count >= n
	}, func() any { return count })
}

// database is a connection to the database of a running system.
func (p *process) database() *pgx.Conn {
	p.t.Helper()
	g := app.Globals{Data: p.ready.Data}
	url, err := g.FindDatabase()
	if err != nil {
		p.t.Fatal(err)
	}
	db, err := pgx.Connect(p.t.Context(), url)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { db.Close(context.Background()) })
	return db
}

// hits is what the kills have hit.
type hits struct {
	underWay []int          // orders, at each kill
	steps    map[string]int // by event: orders and returns with a cause for it, and not yet with it
	never    []string       // events of orders and returns for which that never was so
}

// whatWasHit finds in the log what was under way at each of the moments.
func whatWasHit(t *testing.T, p *process, moments []time.Time) hits {
	t.Helper()
	db := p.database()
	var logs []string
	for _, log := range []string{"ordering", "inventory", "payment", "shipping", "notification"} {
		logs = append(logs, "select '"+log+"' as log, at, type, correlation, stream, version, causation from "+log+".event")
	}
	// The cause of what an effect or a deadline brought is the event that they
	// were set by; its id comes first.
	if _, err := db.Exec(t.Context(), `
		create temp table step as
		select type, correlation, at, log || '/' || stream || '@' || version as id, substring(causation from '^.*@[0-9]+') as cause
		from (`+strings.Join(logs, " union all ")+`) e
		where correlation in (select correlation from ordering.event where type in ('shop.order_created', 'shop.return_requested'));
		create index on step (id);
		analyze step`); err != nil {
		t.Fatal(err)
	}
	h := hits{steps: map[string]int{}}
	for _, moment := range moments {
		var n int
		if err := db.QueryRow(t.Context(), `select count(*) from (
			select from step group by correlation having min(at) < $1 and max(at) >= $1 and bool_or(type = 'shop.order_created')) o`, moment).Scan(&n); err != nil {
			t.Fatal(err)
		}
		h.underWay = append(h.underWay, n)
		rows, err := db.Query(t.Context(), `select e.type, count(distinct e.correlation) from step e join step c on c.id = e.cause
			where c.at < $1 and e.at >= $1 group by e.type`, moment)
		if err != nil {
			t.Fatal(err)
		}
		var step string
		if _, err := pgx.ForEachRow(rows, []any{&step, &n}, func() error {
			h.steps[step] += n
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := db.Query(t.Context(), "select distinct type from step where cause is not null order by type")
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range all {
		if h.steps[step] == 0 {
			h.never = append(h.never, step)
		}
	}
	return h
}
