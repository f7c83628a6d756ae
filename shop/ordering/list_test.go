package ordering

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/postgres"
	"github.com/courante-dev/courante/shop"
)

func TestMain(m *testing.M) { courantetest.Main(m) }

// onPostgres is the context alone, on a database of the test's own, with its
// list live and empty. fold brings the list to the end of the log.
func onPostgres(t *testing.T) (c *Context, store *postgres.Store, db *postgres.Database, fold func()) {
	t.Helper()
	c, db = New(Config{}), courantetest.Postgres(t)
	store = courantetest.PostgresStore(t, db, Name).(*postgres.Store)
	rt, err := courante.NewRuntime(courante.Config{
		Database: db, Stepped: true,
		Services: []courante.Mount{{Service: c.svc, Store: store}},
		Sources:  []courante.Store{courantetest.PostgresStore(t, db, "elsewhere")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	fold = folding(t, db, store, orderList())
	fold()
	return c, store, db, fold
}

// folding brings a projection to the end of the store's log, each time it is
// called.
func folding(t *testing.T, db *postgres.Database, store *postgres.Store, p courante.Projection) func() {
	follower := store.Follow(p, map[string]courante.ReadLog{store.Log(): store.ReadLog})
	return func() {
		t.Helper()
		if _, err := db.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
		for worked := true; worked; {
			var err error
			if worked, err = follower.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// pages reads the whole list, and calls between after each page.
func pages(t *testing.T, c *Context, q ListQuery, between func()) []ListedOrder {
	t.Helper()
	var all []ListedOrder
	for {
		page, next, err := c.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if next == "" {
			return all
		}
		if len(page) != q.Limit {
			t.Fatalf("a page of %d orders, want %d unless it is the last", len(page), q.Limit)
		}
		q.Cursor = next
		between()
	}
}

// TestListSaysWhatTheOrdersSay: whatever events an order has, in whatever
// stretches they are folded with those of others, its row is what a fold of its
// stream says; and so it is after the list was built anew.
func TestListSaysWhatTheOrdersSay(t *testing.T) {
	t.Parallel()
	c, store, db, fold := onPostgres(t)
	random := rand.New(rand.NewPCG(1, 2))
	others := []courante.Payload{
		orderReserved{}, orderPaid{}, orderShipped{}, goodsIssued{}, goodsReleased{}, paymentSettled{}, shop.OrderConfirmed{},
		shop.OrderCancelling{}, shop.OrderCancelled{}, shop.ReturnRequested{}, shop.OrderReturned{},
	}
	const orders = 60
	var versions [orders]int64
	add := func(changes *courante.Changes, stream string, version int64, p courante.Payload) {
		e, err := courante.NewEvent(p)
		if err != nil {
			t.Fatal(err)
		}
		e.Stream, e.Version, e.Time = stream, version, time.UnixMilli(random.Int64N(1e12)).UTC()
		changes.Events = append(changes.Events, e)
	}
	write := func(changes courante.Changes) {
		unit, err := store.Begin(t.Context())
		if err == nil {
			_, err = unit.Commit(t.Context(), changes)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 80 {
		var changes courante.Changes
		for range 1 + random.IntN(12) {
			n := random.IntN(orders)
			id := fmt.Sprintf("o-%d", n)
			p := others[random.IntN(len(others))]
			if versions[n] == 0 {
				p = shop.OrderCreated{OrderID: id, CustomerID: fmt.Sprint(n % 7), Total: shop.Money{Amount: int64(n), Currency: "GBP"}, Lines: make([]shop.Line, n)}
			}
			versions[n]++
			add(&changes, "order:"+id, versions[n], p)
		}
		add(&changes, fmt.Sprintf("return:r-%d", i), 1, returnOpened{OrderID: "o-1"}) // no order, and not in the list
		write(changes)
		if random.IntN(3) == 0 {
			fold()
		}
	}
	fold()

	check := func(t *testing.T) {
		t.Helper()
		listed := pages(t, c, ListQuery{Limit: 7}, func() {})
		seen := map[string]bool{}
		for _, got := range listed {
			history, err := c.orders.History(t.Context(), got.OrderID)
			if err != nil {
				t.Fatal(err)
			}
			state, version, err := c.orders.Get(t.Context(), got.OrderID)
			if err != nil {
				t.Fatal(err)
			}
			want := ListedOrder{
				OrderID: got.OrderID, CustomerID: state.CustomerID, Status: state.status(), Version: version,
				Currency: "GBP", Total: state.Total, Lines: int(state.Total.Amount), CreatedAt: history[0].Time,
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			seen[got.OrderID] = true
		}
		placed := orders
		for _, version := range versions {
			if version == 0 {
				placed--
			}
		}
		if len(listed) != placed || len(seen) != placed {
			t.Errorf("%d rows of %d orders, want %d", len(listed), len(seen), placed)
		}
	}
	check(t)
	anew := orderList()
	anew.Version++
	if err := store.Keep(t.Context(), migrations(), []courante.Projection{anew}); err != nil {
		t.Fatal(err)
	}
	folding(t, db, store, anew)()
	check(t)
}

// seed fills the list with orders of 17 customers, many of them created at the
// same moment.
func seed(t *testing.T, db *postgres.Database, store *postgres.Store, orders int) {
	t.Helper()
	_, err := db.Pool().Exec(t.Context(), `insert into `+store.Schema()+`.order_list (version, total, created_at, lines, order_id, customer_id, status, currency)
		select 1, 100, '2026-01-01T00:00:00Z'::timestamptz + n / 7 * interval '1 second', 1, 'seed-' || n, 'c' || n % 17, ($2::text[])[1 + n * 7919 % 8], 'GBP'
		from generate_series(1, $1) n`, orders, statuses())
	if err == nil {
		_, err = db.Pool().Exec(t.Context(), "analyze "+store.Schema()+".order_list")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestListIsReadToItsEndWhileOrdersArrive(t *testing.T) {
	t.Parallel()
	c, store, db, fold := onPostgres(t)
	seed(t, db, store, 500)
	var placing sync.WaitGroup
	arrive := make(chan int)
	for range 4 {
		placing.Go(func() {
			for n := range arrive {
				_, err := c.Place(t.Context(), "", &PlaceOrder{
					OrderID: fmt.Sprintf("new-%d", n), CustomerID: "c3", Currency: "GBP",
					Lines:   []OrderLine{{SKU: "tea", Quantity: 1, UnitPrice: 1}},
					Payment: PaymentBy{Method: "card", Token: "tok_ok"}, ShipTo: ShipTo{Country: "GB"},
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for name, q := range map[string]ListQuery{
		"all":        {Limit: 13},
		"a customer": {Limit: 3, CustomerID: "c3"},
		"a status":   {Limit: 9, Status: Created},
		"both":       {Limit: 1, Status: Created, CustomerID: "c3"},
	} {
		before := pages(t, c, ListQuery{Limit: 200, CustomerID: q.CustomerID, Status: q.Status}, func() {})
		n := len(before) // a number that no other query has used
		got := pages(t, c, q, func() { arrive <- len(name)*100000 + n; n++; fold() })
		var seeded []string
		for i, o := range got {
			if strings.HasPrefix(o.OrderID, "seed-") {
				seeded = append(seeded, o.OrderID)
			}
			if i > 0 && o.CreatedAt.After(got[i-1].CreatedAt) {
				t.Errorf("%s: %s is newer than the one before it", name, o.OrderID)
			}
		}
		var want []string
		for _, o := range before {
			if strings.HasPrefix(o.OrderID, "seed-") {
				want = append(want, o.OrderID)
			}
		}
		if len(want) == 0 || !slices.Equal(seeded, want) {
			t.Errorf("%s: read %d orders in pages, want the %d that were there, each once and in order", name, len(seeded), len(want))
		}
	}
	close(arrive)
	placing.Wait()
	fold()
	if newest, _, err := c.List(t.Context(), ListQuery{Limit: 1}); err != nil || len(newest) != 1 || !strings.HasPrefix(newest[0].OrderID, "new-") {
		t.Errorf("the newest is %+v (error %v), want one that has just arrived", newest, err)
	}
}

// TestListIsReadFromIndexes: each combination of filters, on the first page and
// on a later one, is a scan of an index in its order. A sort, or a scan of the
// table, would read everything for one page.
func TestListIsReadFromIndexes(t *testing.T) {
	t.Parallel()
	c, store, db, _ := onPostgres(t)
	seed(t, db, store, 20_000)
	for _, q := range []ListQuery{{}, {CustomerID: "c7"}, {Status: Paid}, {CustomerID: "c7", Status: Paid}} {
		q.Limit = 50
		_, next, err := c.List(t.Context(), q)
		if err != nil || next == "" {
			t.Fatalf("%+v: next page %q, error %v", q, next, err)
		}
		for _, q.Cursor = range []string{"", next} {
			text, args, err := q.sql()
			if err != nil {
				t.Fatal(err)
			}
			lines, err := courante.Select(t.Context(), c.svc, pgx.RowTo[string], "explain "+text, args...)
			plan := strings.Join(lines, "\n")
			if err != nil || !strings.Contains(plan, "Index Scan Backward using order_list_") || strings.Contains(plan, "Sort") || strings.Contains(plan, "Seq Scan") {
				t.Errorf("%+v: error %v, plan\n%s", q, err, plan)
			}
		}
	}
}

func TestCursorsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	c, store, db, _ := onPostgres(t)
	seed(t, db, store, 20)
	q := ListQuery{Limit: 5, CustomerID: "c7"}
	q.Cursor = q.cursor(place{time.Now(), "seed-7"})
	if _, _, err := c.List(t.Context(), q); err != nil {
		t.Errorf("a cursor of the list: %v", err)
	}
	valid := q.Cursor
	bytes, err := base64.RawURLEncoding.DecodeString(valid)
	if err != nil {
		t.Fatal(err)
	}
	bytes[9]++
	for why, cursor := range map[string]string{
		"no base64":                              "%%%",
		"too short":                              "AAAA",
		"cut off":                                valid[:len(valid)-2],
		"changed":                                base64.RawURLEncoding.EncodeToString(bytes),
		"other filters":                          (&ListQuery{}).cursor(place{time.Now(), "seed-7"}),
		"not an id":                              q.cursor(place{time.Now(), "a b"}),
		"no id":                                  q.cursor(place{time.Now(), ""}),
		"a year that the database does not know": q.cursor(place{time.UnixMicro(1 << 62), "seed-7"}),
	} {
		q.Cursor = cursor
		if _, _, err := c.List(t.Context(), q); !errors.Is(err, ErrBadCursor) {
			t.Errorf("%s: error %v, want ErrBadCursor", why, err)
		}
	}
}
