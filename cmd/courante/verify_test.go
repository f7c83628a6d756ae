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
		r := p.verify(exitOK)
		return r.Orders.UnderWay == 0 && settled(r)
	}, func() any { return p.verify(exitOK) })
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

// corruption is a way in which a system can be off, and what has to be said.
type corruption struct {
	rule  string
	sql   string
	check string
	row   string // of the finding, or a part of it
	says  string // the same of its detail
	stuck bool   // nothing is wrong, but something is stuck
}

var corruptions = []corruption{
	// The log.
	{rule: "an event is gone", sql: `delete from ordering.event where stream = 'order:good' and version = 3`,
		check: "streams", row: "ordering/order:good@4", says: "version 3 is missing"},
	{rule: "the last event of a stream is gone", sql: `delete from ordering.event where stream = 'order:good' and type = 'shop.order_confirmed'`,
		check: "reactions", row: "notification/mail:good@1", says: "is not in the log"},
	{rule: "an event is there twice", sql: copyEvent("payment", "payment:good", "shop.payment_processed", "version + 1"),
		check: "reactions", row: "payment/payment:good@4", says: "handled twice"},
	{rule: "a receipt is there twice", sql: copyEvent("inventory", "stock:tea", "shop.stock_adjusted", "version + 1"),
		check: "reactions", row: "inventory/stock:tea@3", says: "handled twice"},
	{rule: "a version is another", sql: `update shipping.event set version = 9 where stream = 'shipment:good' and version = 3`,
		check: "streams", row: "shipping/shipment:good@9", says: "versions 3 to 8 are missing"},
	{rule: "a stream is out of order", sql: `update payment.event set position = 0 where stream = 'payment:good' and version = 3`,
		check: "streams", row: "payment/payment:good@3", says: "comes before version 2"},
	{rule: "an event is of an epoch that nobody knows", sql: `update payment.event set epoch = epoch - 1 where stream = 'payment:good' and version = 3`,
		check: "streams", row: "payment/payment:good@3", says: "none ever will"},
	{rule: "an epoch is not known", sql: `delete from courante.epoch`,
		check: "ticks", row: "courante.tick ordering 1", says: "is not known"},
	{rule: "a tick is gone", sql: `delete from courante.tick where log = 'payment' and n = 2`,
		check: "ticks", row: "courante.tick payment 3", says: "those between are missing"},
	{rule: "the first tick is gone", sql: `delete from courante.tick where log = 'payment' and n = 1`,
		check: "ticks", row: "courante.tick payment 2", says: "tick 1 is missing"},
	{rule: "a tick sees less than the one before", sql: `update courante.tick set snapshot = '1:1:' where log = 'payment' and n = 3`,
		check: "ticks", row: "courante.tick payment 3", says: "does not see all"},
	{rule: "the last tick is gone", sql: `delete from courante.tick t where n = (select max(n) from courante.tick where log = t.log)`,
		check: "lanes", row: ".progress ", says: "does not have"},
	{rule: "a tick has other contents", sql: `update courante.tick t set epoch = epoch + 1 where n = (select max(n) from courante.tick where log = t.log)`,
		check: "lanes", row: ".progress ", says: "other contents"},

	// Lanes and reactions.
	{rule: "a row of progress is gone", sql: `delete from payment.progress where subscriber = 'payment' and log = 'ordering' and n = 1`,
		check: "lanes", row: "payment.progress payment on ordering", says: "those between are missing"},
	{rule: "the last row of progress is gone", sql: `delete from payment.progress p where log = 'inventory' and n = (select max(n) from payment.progress where subscriber = p.subscriber and log = p.log and lane_epoch = p.lane_epoch and k = p.k)`,
		check: "reactions", row: "payment/payment:", says: "its progress was lost"},
	{rule: "a lane has gone back", sql: `update payment.progress p set (epoch, tick, position, hash) = (select epoch, tick, position, hash from payment.progress
			where n = 0 and subscriber = p.subscriber and log = p.log and lane_epoch = p.lane_epoch and k = p.k) where n = 2`,
		check: "lanes", row: "payment.progress payment on", says: "which is before"},
	{rule: "a lane epoch is gone", sql: `delete from shipping.lane_epoch where log = 'payment'`,
		check: "lanes", row: "shipping.progress shipping on payment", says: "no such lane epoch"},
	{rule: "a reaction did not happen", sql: `delete from shipping.event where stream = 'shipment:declined'`,
		check: "reactions", row: "ordering/order:declined@1", says: `did not "note the order"`},
	{rule: "a reaction did something else", sql: `update shipping.event set type = 'shipping.refused' where stream = 'shipment:good' and version = 1`,
		check: "reactions", row: "shipping/shipment:good@1", says: "declares no step"},
	{rule: "an event that nobody declares", sql: `update shipping.event set type = 'shipping.lost' where stream = 'shipment:good' and version = 1`,
		check: "reactions", row: "shipping/shipment:good@1", says: "does not declare"},
	{rule: "an event of a cause that is not there", sql: `update ordering.event set causation = 'payment/payment:other@1' where stream = 'order:good' and version = 3`,
		check: "reactions", row: "ordering/order:good@3", says: "is not in the log"},

	// Effects and deadlines, orders that hang.
	{rule: "an outcome that does not end its effect", sql: `update payment.event set notes = null where stream = 'payment:good' and type = 'shop.payment_processed'`,
		check: "effects", row: "payment/payment:good@3", says: "does not end it"},
	{rule: "an effect that ends twice", sql: `update payment.event t set notes = (select notes from payment.event where stream = t.stream and type = 'shop.payment_processed')
			where stream = 'payment:good' and version = 1`,
		check: "effects", row: "payment/payment:good@1", says: "which is not open"},
	{rule: "an order hangs beyond its deadline", sql: forget("good") + `;
			update ordering.event set at = at - interval '1 hour', notes = replace(notes::text, to_char(now(), 'YYYY-'), '2020-')::json where stream = 'order:good'`,
		check: "orders", row: "order good", says: "has not ended"},
	{rule: "a deadline did not fire", sql: forget("good") + `;
			update ordering.event set at = at - interval '1 hour', notes = replace(notes::text, to_char(now(), 'YYYY-'), '2020-')::json where stream = 'order:good'`,
		check: "effects", row: "ordering/order:good", says: "nothing came of it"},
	{rule: "nothing is to come", sql: `delete from ordering.event where stream = 'order:short' and version = 2;
			insert into ordering.event select e.* from ordering.event e where false`,
		check: "orders", row: "order short", says: "has not ended"},
	{rule: "the post does not answer", sql: `delete from notification.event where stream = 'mail:good' and version = 2;
			update notification.event set at = at - interval '1 hour' where stream = 'mail:good'`,
		check: "orders", row: "order good", says: "does not answer notification/mail:good@1/mail", stuck: true},
	{rule: "a message is parked", sql: `insert into payment.parked (attempts, subscriber, reaction, key, cause, program, event, data)
			select 6, 'payment', 'charge', 'good', 'no such luck', 'test', json_build_object('log', 'inventory', 'stream', stream, 'version', version), data
			from inventory.event where stream = 'reservation:good' and version = 1`,
		check: "orders", row: "order good", says: `payment has parked inventory/reservation:good@1 ("charge"): no such luck`, stuck: true},
	{rule: "a lane is behind", sql: `insert into ordering.event (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
			select 1, now() - interval '1 hour', part, epoch, schema, 'order:new', type, 'new', 'command:new', subject, trace, replace(data::text, '"free"', '"new"')::json
			from ordering.event where stream = 'order:free' and version = 1;
			insert into ordering.order_list select 1, total, now() - interval '1 hour', lines, 'new', customer_id, 'created', currency from ordering.order_list where order_id = 'free'`,
		check: "orders", row: "order new", says: "behind ordering/order:new@1", stuck: true},
	{rule: "an order without its beginning", sql: `delete from ordering.event where stream = 'order:declined'`,
		check: "orders", row: "inventory/reservation:declined@1", says: "there is no such order"},

	// Money and parcels.
	{rule: "a charge is gone", sql: `delete from outside.ledger where book = 'charges' and key = 'order:good'`,
		check: "money", row: "order good", says: "the provider took 0 GBP"},
	{rule: "a charge of nobody", sql: `insert into outside.ledger (book, key, row) values ('charges', 'order:ghost', '{"state":"approved","amount":1,"currency":"GBP"}')`,
		check: "money", row: "outside.ledger charges order:ghost", says: "there is no such order"},
	{rule: "a charge under another key", sql: `insert into outside.ledger (book, key, row) values ('charges', 'ghost', '{"state":"approved","amount":1,"currency":"GBP"}')`,
		check: "money", row: "outside.ledger charges ghost", says: "there is no such order"},
	{rule: "a charge that nobody asked for", sql: `insert into outside.ledger (book, key, row) values ('charges', 'order:free', '{"state":"approved","token":"tok_ok","amount":0,"currency":"GBP"}')`,
		check: "money", row: "outside.ledger charges order:free", says: "never asked for"},
	{rule: "the provider took another amount", sql: ledgerSet("charges", "good", "amount", "901"),
		check: "money", row: "outside.ledger charges order:good", says: "901 GBP"},
	{rule: "the sum of all is another", sql: ledgerSet("charges", "good", "amount", "901"),
		check: "money", row: "all of GBP", says: "the provider took"},
	{rule: "money is kept for an order that was cancelled", sql: ledgerSet("charges", "nobody", "state", `"approved"`),
		check: "money", row: "outside.ledger charges order:nobody", says: "gave 0 GBP back; our events say 900 GBP and 900 GBP"},
	{rule: "our event says another amount", sql: eventSet("payment", "payment:good", "shop.payment_processed", "{amount,amount}", "899"),
		check: "money", row: "order good", says: "899 GBP were taken for it and its total is 900 GBP"},
	{rule: "a total is not that of the lines", sql: eventSet("ordering", "order:good", "shop.order_created", "{lines,0,unit_price}", "451"),
		check: "money", row: "order good", says: "its lines add up to 902 GBP"},
	{rule: "a refund was never made", sql: `update outside.ledger set row = (row::jsonb - 'refunds')::json where book = 'charges' and key = 'order:part'`,
		check: "money", row: "outside.ledger charges order:part", says: "the provider gave 0 back"},
	{rule: "a refund of no return", sql: ledgerSet("charges", "good", "refunds", `{"order:good/return:x": 5}`),
		check: "money", row: "outside.ledger charges order:good", says: "there is no such return"},
	{rule: "a refund is not that of its lines", sql: eventSet("ordering", "order:part", "shop.return_requested", "{refund,amount}", "449"),
		check: "money", row: "of order part", says: "its lines cost 450 GBP"},
	{rule: "more is returned than was bought", sql: eventSet("ordering", "order:part", "shop.return_requested", "{lines,0,quantity}", "3"),
		check: "orders", row: "of order part", says: "1 more are returned than were bought"},
	{rule: "all goods are back and the order does not say so", sql: `delete from ordering.event where stream = 'order:back' and type = 'shop.order_returned'`,
		check: "orders", row: "order back", says: "that all are returned was said: false"},
	{rule: "a booking is gone", sql: `delete from outside.ledger where book = 'bookings' and key = 'order:good'`,
		check: "shipments", row: "order good", says: "the carrier has no booking"},
	{rule: "a booking of nobody", sql: `insert into outside.ledger (book, key, row) values ('bookings', 'order:ghost', '{"tracking":"X"}')`,
		check: "shipments", row: "outside.ledger bookings order:ghost", says: "there is no such order"},
	{rule: "a parcel of an order that was cancelled", sql: `insert into outside.ledger (book, key, row) values ('bookings', 'order:declined', '{"tracking":"X","country":"GB"}')`,
		check: "shipments", row: "outside.ledger bookings order:declined", says: "not shipped"},
	{rule: "another tracking number", sql: ledgerSet("bookings", "good", "tracking", `"X"`),
		check: "shipments", row: "outside.ledger bookings order:good", says: `"X"`},

	// Stock and states.
	{rule: "the stock is another", sql: stateSet("stock:tea", "{on_hand}", "1000"),
		check: "stock", row: "inventory.state stock:tea", says: "there are 1000 on hand"},
	{rule: "something stays reserved", sql: stateSet("stock:tea", "{reserved}", "2"),
		check: "stock", row: "inventory.state stock:tea", says: "2 reserved"},
	{rule: "the stock was negative for a while", sql: eventSet("inventory", "stock:tea", "shop.stock_received", "{quantity}", "1"),
		check: "stock", row: "SKU tea", says: "there were"},
	{rule: "an event tells of another stock", sql: eventSet("inventory", "stock:tea", "shop.stock_adjusted", "{on_hand}", "1"),
		check: "stock", row: "inventory/stock:tea@2", says: "it says that there are 1 on hand"},
	{rule: "the stock of a SKU is gone", sql: `delete from inventory.state where stream = 'stock:tea'`,
		check: "stock", row: "inventory.state stock:tea", says: "it is missing"},
	{rule: "a reservation is gone", sql: `delete from inventory.state where stream = 'reservation:good'`,
		check: "states", row: "inventory.state reservation:good", says: "it is missing"},
	{rule: "a reservation holds something still", sql: stateSet("reservation:good", "{items}", `[{"sku": "tea", "quantity": 2}]`),
		check: "states", row: "inventory.state reservation:good", says: "it holds map[tea:2]"},
	{rule: "a reservation remembers something else", sql: stateSet("reservation:good", "{past}", `[]`),
		check: "states", row: "inventory.state reservation:good", says: "it says that [] happened"},
	{rule: "a state is at another version", sql: `update inventory.state set version = version + 1 where stream = 'reservation:good'`,
		check: "states", row: "inventory.state reservation:good", says: "its stream has 2 events"},
	{rule: "a state of nothing", sql: `insert into inventory.state (row_version, version, stream, data) values (1, 0, 'reservation:free:x', '{"past": []}')`,
		check: "states", row: "inventory.state reservation:free:x", says: "there is no such order"},
	{rule: "a baseline is another", sql: baseline(`"customer_id": "0"`),
		check: "states", row: "ordering.snapshot order:good, version 1", says: "its customer_id is 0, and the log says 17850"},
	{rule: "a baseline waits for something else", sql: baseline(`"customer_id": "17850"`),
		check: "states", row: "ordering.snapshot order:good, version 1", says: "it waits for []"},

	// What is derived.
	{rule: "a row of the list is another", sql: `update ordering.order_list set status = 'paid' where order_id = 'good'`,
		check: "order list", row: "ordering.order_list good", says: "paid"},
	{rule: "a row of the list is gone", sql: `delete from ordering.order_list where order_id = 'good'`,
		check: "order list", row: "ordering.order_list good", says: "there are 0 rows"},
	{rule: "a row of the list of no order", sql: `insert into ordering.order_list select version, total, created_at, lines, 'ghost', customer_id, status, currency from ordering.order_list where order_id = 'good'`,
		check: "order list", row: "ordering.order_list ghost", says: "there is no such order"},
	{rule: "an answer of a commit that is not there", sql: `update ordering.reply set xid = '3' where key like '%good'`,
		check: "replies", row: "key-of-good", says: "transaction 3"},
	{rule: "an answer about an order that is not there", sql: `update ordering.reply set body = jsonb_set(body::jsonb, '{order_id}', '"ghost"')::json where key like '%good'`,
		check: "replies", row: "key-of-good", says: "order ghost is not in the log"},
}

// copyEvent inserts an event again.
func copyEvent(schema, stream, typ, version string) string {
	return fmt.Sprintf(`insert into %s.event (version, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data)
		select %s, at, part, epoch, schema, stream, type, correlation, causation, subject, trace, data
		from %s.event where stream = '%s' and type = '%s'`, schema, version, schema, stream, typ)
}

func eventSet(schema, stream, typ, path, value string) string {
	return fmt.Sprintf(`update %s.event set data = jsonb_set(data::jsonb, '%s', '%s')::json where stream = '%s' and type = '%s'`, schema, path, value, stream, typ)
}

func stateSet(stream, path, value string) string {
	return fmt.Sprintf(`update inventory.state set data = jsonb_set(data::jsonb, '%s', '%s')::json where stream = '%s'`, path, value, stream)
}

func ledgerSet(book, id, field, value string) string {
	return fmt.Sprintf(`update outside.ledger set row = jsonb_set(row::jsonb, '{%s}', '%s')::json where book = '%s' and key = 'order:%s'`, field, value, book, id)
}

// baseline inserts one of order good at version 1, with a field of its state set.
func baseline(field string) string {
	return fmt.Sprintf(`insert into ordering.snapshot (version, stream, data)
		select 1, stream, json_build_object('shape', '', 'state', data::jsonb || '{%s, "refunded": {"currency": "GBP"}, "past": ["shop.order_created"]}')
		from ordering.event where stream = 'order:good' and version = 1`, field)
}

// forget takes away all that came after an order was placed.
func forget(id string) string {
	var b strings.Builder
	for _, log := range []string{"ordering", "inventory", "payment", "shipping", "notification"} {
		fmt.Fprintf(&b, `delete from %s.event where stream like '%%:%s' and stream <> 'order:%s' or stream = 'order:%s' and version > 1;`, log, id, id, id)
	}
	return b.String() + fmt.Sprintf(`delete from inventory.state where stream = 'reservation:%s'; delete from outside.ledger where key = 'order:%s';
		update ordering.order_list set status = 'created', version = 1 where order_id = '%s'`, id, id, id)
}

// TestVerify corrupts one thing after the other in a real system whose orders
// have ended in every way, and wants each to be named.
func TestVerify(t *testing.T) {
	t.Parallel()
	p := endedShop(t)
	r := p.verify(exitOK)
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
	p.until("all is noted", func() bool { return p.verify(exitOK).Orders.UnderWay == 0 }, func() any { return p.verify(exitOK).Orders })
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
	named(t, p.verify(exitFailed), corruption{check: "mails", row: filepath.Base(files[0]), says: "not in the folder"})
	// A file that nobody asked for is one that was there before.
	other := filepath.Join(dir, "00.eml")
	if err := os.Rename(aside, other); err != nil {
		t.Fatal(err)
	}
	named(t, p.verify(exitFailed), corruption{check: "mails", row: "00.eml", says: "nobody asked for it"})
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
	r := p.verify(exitOK)
	if r.Orders.UnderWay != 1 || r.Orders.Total() != len(endings)+2 {
		t.Errorf("got orders %+v, want two more than %d, one of them under way", r.Orders, len(endings))
	}
	out, errs, code := p.run("verify")
	if code != exitOK || !strings.Contains(out, "Everything adds up") || !strings.Contains(errs, "it is stopped") {
		t.Errorf("verify for people: %d\n%s%s", code, out, errs)
	}
}

// url is the address of the system's database.
func (p *process) url() string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.ready.Data, connectionFile))
	if err != nil {
		p.t.Fatal(err)
	}
	var c connection
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
	if r := p.verify(exitFailed); !r.OK || r.Stuck == 0 {
		t.Errorf("got %+v, want only something stuck", r)
	}
	p.verify(exitOK, "--allow-stuck")
	out, _, code := p.run("verify")
	if code != exitFailed || !strings.Contains(out, "stuck  order parked: payment has parked") {
		t.Errorf("verify for people: %d\n%s", code, out)
	}
	if _, errs, code := p.run("verify", "--data", t.TempDir()); code != exitFailed || !strings.Contains(errs, "COURANTE_DATA") {
		t.Errorf("verify of nothing: %d %s", code, errs)
	}
}
