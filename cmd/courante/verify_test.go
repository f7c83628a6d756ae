//go:build linux || darwin

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/internal/audit"
	"github.com/courante-dev/courante/postgres"

	"github.com/courante-dev/courante/app"
)

// endings are orders that end in every way there is. All but "short" want two
// pieces of tea, and some cost nothing or need no carrier.
var endings = []struct{ id, lines, token, country, status string }{
	{"good", tea, "tok_ok", "GB", "confirmed"},
	{"lost", tea, "tok_lost", "GB", "confirmed"},
	{"free", `{"sku": "tea", "quantity": 2, "unit_price": 0}`, "tok_ok", "GB", "confirmed"},
	{"fee", `{"sku": "fee", "quantity": 1, "unit_price": 500, "kind": "charge"}`, "tok_ok", "GB", "confirmed"},
	{"part", tea, "tok_ok", "GB", "confirmed"},
	{"back", tea, "tok_ok", "GB", "confirmed"},
	{"short", `{"sku": "tea", "quantity": 1000, "unit_price": 450}`, "tok_ok", "GB", "cancelled"},
	{"declined", tea, "tok_declined", "GB", "cancelled"},
	{"timeout", tea, "tok_timeout", "GB", "cancelled"},
	{"nobody", tea, "tok_ok", "ZZ", "cancelled"},
	{"silent", tea, "tok_ok", "XS", "cancelled"},
}

const tea = `{"sku": "tea", "quantity": 2, "unit_price": 450}`

// endedShop is a system whose orders have ended in every way.
func endedShop(t *testing.T) *process {
	t.Helper()
	p := up(t, dataDir(t), "COURANTE_PAYMENT_DEADLINE=1s", "COURANTE_CARRIER_DEADLINE=1s")
	post := func(path, body string, want int, headers ...string) {
		t.Helper()
		if status, answer := p.call(http.MethodPost, path, body, headers...); status != want {
			t.Fatalf("POST %s: %d %v, want %d", path, status, answer, want)
		}
	}
	post("/v1/inventory/tea/receipts", `{"quantity": 100}`, http.StatusCreated, "Idempotency-Key", "receipt")
	post("/v1/inventory/tea/adjustments", `{"quantity": -1, "reason": "broken"}`, http.StatusCreated)
	for _, o := range endings {
		post("/v1/orders", fmt.Sprintf(`{"order_id": %q, "customer_id": "17850", "currency": "GBP", "lines": [%s],
			"payment": {"method": "card", "token": %q}, "ship_to": {"country": %q}}`, o.id, o.lines, o.token, o.country),
			http.StatusCreated, "Idempotency-Key", "key-of-"+o.id)
	}
	for _, o := range endings {
		p.becomes(o.id, o.status)
	}
	post("/v1/orders/part/returns", `{"lines": [{"sku": "tea", "quantity": 1}]}`, http.StatusAccepted)
	post("/v1/orders/back/returns", `{"lines": [{"line": 1, "quantity": 1}]}`, http.StatusAccepted)
	post("/v1/orders/back/returns", `{"lines": [{"line": 1, "quantity": 1}]}`, http.StatusAccepted, "Idempotency-Key", "return")
	p.becomes("back", "returned")
	letters := func() int {
		files, err := filepath.Glob(filepath.Join(p.ready.Data, "mail", "*.eml"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	p.until("all mails are sent", func() bool { return letters() == len(endings)+3 }, func() any { return letters() })
	p.until("nothing is under way", func() bool {
		r := p.verify(app.ExitOK)
		return r.Orders.UnderWay == 0 && settled(r)
	}, func() any { return p.verify(app.ExitOK) })
	return p
}

// settled reports whether all mails that were sent are noted as sent.
func settled(r *audit.Report) bool {
	for _, c := range r.Checks {
		if c.Name == "mails" {
			return c.LookedAt == len(endings)+3
		}
	}
	return false
}

// verify runs the command as programs do.
func (p *process) verify(want int, args ...string) *audit.Report {
	p.t.Helper()
	out, errs, code := p.run(append([]string{"verify", "--json"}, args...)...)
	r := &audit.Report{}
	if err := json.Unmarshal([]byte(out), r); err != nil || code != want {
		p.t.Fatalf("verify: %d, want %d; %v\n%s%s", code, want, err, out, errs)
	}
	return r
}

// TestVerify corrupts one thing after the other in a real system whose orders
// have ended in every way, and wants each to be named.
func TestVerify(t *testing.T) {
	t.Parallel()
	p := endedShop(t)
	r := p.verify(app.ExitOK)
	want := audit.Orders{Confirmed: 5, Returned: 1, Cancelled: 5}
	if r.Orders != want {
		t.Errorf("got orders %+v, want %+v", r.Orders, want)
	}
	for _, c := range r.Checks {
		if c.LookedAt == 0 || c.Skipped != "" {
			t.Errorf("check %s looked at %d rows (%s), want some", c.Name, c.LookedAt, c.Skipped)
		}
	}
	conn, err := pgx.Connect(t.Context(), p.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, c := range corruptions {
		t.Run(c.rule, func(t *testing.T) {
			r := audited(t, conn, filepath.Join(p.ready.Data, "mail"), c.sql)
			named(t, r, c)
			if c.stuck && r.Wrong > 0 {
				t.Errorf("%d rows are wrong, want only something stuck: %+v", r.Wrong, findings(r))
			}
		})
	}
	t.Run("nothing is left of it", func(t *testing.T) {
		if r := audited(t, conn, filepath.Join(p.ready.Data, "mail"), ""); !r.OK || r.Stuck > 0 {
			t.Errorf("got %+v, want nothing", findings(r))
		}
	})
	t.Run("a baseline that is right", func(t *testing.T) {
		sql := baseline(`"customer_id": "17850"`) + `;
			update ordering.snapshot set open = json_build_object('deadlines', (select notes->'set' from ordering.event where stream = 'order:good' and version = 1))`
		if r := audited(t, conn, "", sql); !r.OK {
			t.Errorf("got %+v, want nothing", findings(r))
		}
	})
	t.Run("a relay that went back for a subscriber", func(t *testing.T) {
		const lane = `'ordering/relay', 'ordering', 1`
		sql := `insert into ordering.lane_epoch (subscriber, log, n, lanes, epoch, tick, position, hash, types)
				select ` + lane + `, 1, epoch, tick, position, hash, types from payment.lane_epoch where log = 'ordering' and n = 1;
			insert into ordering.progress (subscriber, log, lane_epoch, k, n, epoch, tick, position, hash)
				select ` + lane + `, 0, row_number() over (order by n desc) - 1, epoch, tick, position, hash
				from (select * from payment.progress where subscriber = 'payment' and log = 'ordering' and k = 0 and n < 3) p`
		if r := audited(t, conn, "", sql); !r.OK {
			t.Errorf("got %+v, want nothing", findings(r))
		}
	})
	t.Run("sealed", func(t *testing.T) { verifySealed(t, p, conn) })
	t.Run("mails", func(t *testing.T) { verifyMails(t, p) })
	t.Run("stopped", func(t *testing.T) { verifyStopped(t, p) })
}

// audited runs the audit after the statements, and undoes them.
func audited(t *testing.T, conn *pgx.Conn, mails, sql string) *audit.Report {
	t.Helper()
	tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
	cfg := audit.Config{Mails: mails}
	for _, s := range declaredShop() {
		cfg.Manifests = append(cfg.Manifests, s.Manifest())
	}
	r, err := audit.Run(t.Context(), tx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func named(t *testing.T, r *audit.Report, want corruption) {
	t.Helper()
	for _, c := range r.Checks {
		for _, f := range c.Findings {
			if c.Name == want.check && strings.Contains(f.Row, want.row) && strings.Contains(f.Detail, want.says) && f.Stuck == want.stuck {
				return
			}
		}
	}
	t.Errorf("got:\n%s\nwant %s of %s in check %s", strings.Join(findings(r), "\n"), want.says, want.row, want.check)
}

func findings(r *audit.Report) []string {
	list := []string{}
	for _, c := range r.Checks {
		for _, f := range c.Findings {
			list = append(list, fmt.Sprintf("%s: %s: %s", c.Name, f.Row, f.Detail))
		}
	}
	return list
}

// verifySealed looks at logs in several parts, of which some are sealed: their
// ticks are gone, and their order is written into them.
func verifySealed(t *testing.T, p *process, conn *pgx.Conn) {
	db, err := postgres.Open(t.Context(), postgres.Config{URL: p.url()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, svc := range declaredShop() {
		store, err := db.Store(t.Context(), svc.Name())
		if err != nil {
			t.Fatal(err)
		}
		closed, err := store.ClosePart(t.Context())
		if err == nil && svc.Name() != "payment" { // which stays open to be sealed
			err = store.SealPart(t.Context(), closed)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.place("later", "tok_ok")
	p.becomes("later", "confirmed")
	p.until("all is noted", func() bool { return p.verify(app.ExitOK).Orders.UnderWay == 0 }, func() any { return p.verify(app.ExitOK).Orders })
	for _, c := range []corruption{
		{rule: "a version is in two parts", sql: `insert into payment.event
				(version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
				select version, at, 2, epoch, schema, stream, type, correlation, causation, subject, trace, data
				from payment.event where stream = 'payment:good' and version = 3`,
			check: "streams", row: "payment/payment:good@3", says: "the version is there twice"},
		{rule: "a tick is gone that is not sealed", sql: `delete from courante.tick where log = 'shipping' and n = (select last_tick from shipping.part where n = 1)`,
			check: "ticks", row: "courante.tick shipping"},
		{rule: "what is left of the sealed ticks is another", sql: `update shipping.sealed_tick set hashes = decode(repeat('00', length(hashes)), 'hex')`,
			check: "lanes", row: ".progress ", says: "other contents"},
	} {
		t.Run(c.rule, func(t *testing.T) { named(t, audited(t, conn, "", c.sql), c) })
	}
}

func verifyMails(t *testing.T, p *process) {
	dir := filepath.Join(p.ready.Data, "mail")
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("mails: %v, %v", files, err)
	}
	aside := filepath.Join(p.ready.Data, "aside.eml")
	if err := os.Rename(files[0], aside); err != nil {
		t.Fatal(err)
	}
	named(t, p.verify(app.ExitFailed), corruption{check: "mails", row: filepath.Base(files[0]), says: "not in the folder"})
	// A file that nobody asked for is one that was there before.
	other := filepath.Join(dir, "00.eml")
	if err := os.Rename(aside, other); err != nil {
		t.Fatal(err)
	}
	named(t, p.verify(app.ExitFailed), corruption{check: "mails", row: "00.eml", says: "nobody asked for it"})
	if err := os.Rename(other, files[0]); err != nil {
		t.Fatal(err)
	}
}

// verifyStopped looks at the system when it is stopped, and when it was killed
// with an order under way.
func verifyStopped(t *testing.T, p *process) {
	p.place("late", "tok_timeout")
	p.signal(syscall.SIGKILL)
	p.end()
	r := p.verify(app.ExitOK)
	if r.Orders.UnderWay != 1 || r.Orders.Total() != len(endings)+2 {
		t.Errorf("got orders %+v, want two more than %d, one of them under way", r.Orders, len(endings))
	}
	out, errs, code := p.run("verify")
	if code != app.ExitOK || !strings.Contains(out, "Everything adds up") || !strings.Contains(errs, "it is stopped") {
		t.Errorf("verify for people: %d\n%s%s", code, out, errs)
	}
}

// url is the address of the system's database.
func (p *process) url() string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.ready.Data, "courante.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	var c app.Connection
	if err := json.Unmarshal(text, &c); err != nil {
		p.t.Fatal(err)
	}
	return c.URL
}

// TestVerifyExitCodes wants what is stuck to fail, unless it is allowed.
func TestVerifyExitCodes(t *testing.T) {
	t.Parallel()
	p := up(t, dataDir(t))
	p.place("parked", "tok_declined")
	p.becomes("parked", "cancelled")
	conn, err := pgx.Connect(t.Context(), p.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `insert into payment.parked (attempts, subscriber, reaction, key, cause, program, event, data)
		values (1, 'payment', 'charge', 'parked', 'no', 'test', '{"log": "ordering", "stream": "order:parked", "version": 1}', '{}')`); err != nil {
		t.Fatal(err)
	}
	if r := p.verify(app.ExitFailed); !r.OK || r.Stuck == 0 {
		t.Errorf("got %+v, want only something stuck", r)
	}
	p.verify(app.ExitOK, "--allow-stuck")
	out, _, code := p.run("verify")
	if code != app.ExitFailed || !strings.Contains(out, "stuck  order parked: payment has parked") {
		t.Errorf("verify for people: %d\n%s", code, out)
	}
	// Given up, it is nothing that anybody has to see to: the order has ended.
	if out, errs, code := p.run("deadletter", "discard", "payment/1", "--reason", "only a test"); code != app.ExitOK {
		t.Fatalf("discard: %d %s%s", code, out, errs)
	}
	if r := p.verify(app.ExitOK); r.Stuck != 0 {
		t.Errorf("got %+v, want nothing stuck", r)
	}
	if _, errs, code := p.run("verify", "--data", t.TempDir()); code != app.ExitFailed || !strings.Contains(errs, "COURANTE_DATA") {
		t.Errorf("verify of nothing: %d %s", code, errs)
	}
}
