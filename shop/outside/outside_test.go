package outside_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/courante-dev/courante/courantetest"
	"github.com/courante-dev/courante/shop/outside"
)

// party is one ledger with both parties on it, at a time that a test sets.
type party struct {
	*outside.Provider
	*outside.Carrier
	mu  sync.Mutex // guards now
	now time.Time
}

// newParty's Wait lets no time pass: who waits finds that its time is over.
func newParty(l outside.Ledger) *party {
	p := &party{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	cfg := outside.Config{
		Now: func() time.Time {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.now
		},
		Wait: func(_ context.Context, d time.Duration) error {
			if d > 2*time.Second {
				return context.DeadlineExceeded
			}
			return nil
		},
	}
	p.Provider, p.Carrier = outside.NewProvider(l, cfg), outside.NewCarrier(l, cfg)
	return p
}

func (p *party) pass(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

// ledgers runs a test on each kind of books.
func ledgers(t *testing.T, test func(t *testing.T, open func() outside.Ledger)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		l := outside.NewMemoryLedger()
		test(t, func() outside.Ledger { return l })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := database(t)
		test(t, func() outside.Ledger {
			l, err := outside.OpenLedger(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(l.Close)
			return l
		})
	})
}

func TestMain(m *testing.M) { courantetest.Main(m) }

// database makes a database for one test: the books have a schema of their own,
// whose name is always the same.
func database(t *testing.T) string {
	t.Helper()
	url := courantetest.PostgresURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	name := "outside_" + strings.ToLower(rand.Text())
	if _, err := conn.Exec(t.Context(), "create database "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if _, err := conn.Exec(ctx, "drop database "+name+" with (force)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
		_ = conn.Close(ctx) // the server goes with the tests
	})
	cfg := conn.Config()
	return fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s", cfg.Host, cfg.Port, cfg.User, cfg.Password, name)
}

func notDone(err error) bool {
	var e interface{ NotDone() bool }
	return errors.As(err, &e) && e.NotDone()
}

func TestCharge(t *testing.T) {
	t.Parallel()
	ledgers(t, func(t *testing.T, open func() outside.Ledger) {
		p := newParty(open())
		ctx := t.Context()
		charge := func(key, token string) (string, error) { return p.Charge(ctx, key, token, 1250, "GBP") }
		for _, tt := range []struct {
			token    string
			declined string
			failed   bool
			state    outside.ChargeState
		}{
			{"tok_ok", "", false, outside.Approved},
			{"tok_slow", "", false, outside.Approved},
			{"tok_declined", "card declined", false, outside.Declined},
			{"tok_other", "unknown payment token", false, outside.Declined},
			{"tok_timeout", "", true, ""},
			{"tok_lost", "", true, outside.Approved},
			{"tok_late", "", true, outside.Pending},
			{"tok_flaky", "", true, outside.Trying},
		} {
			for again := range 2 { // the same key, the same answer
				declined, err := charge(tt.token, tt.token)
				if declined != tt.declined || (err != nil) != tt.failed {
					t.Errorf("%s, call %d: got %q, %v, want %q, failed %v", tt.token, again+1, declined, err, tt.declined, tt.failed)
				}
				if notDone(err) != (tt.token == "tok_flaky") {
					t.Errorf("%s: the error %v says that nothing was done: %v", tt.token, err, notDone(err))
				}
			}
			charges, err := p.Charges(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if got := charges[tt.token].State; got != tt.state {
				t.Errorf("%s: the books say %q, want %q", tt.token, got, tt.state)
			}
		}
		if declined, err := charge("tok_flaky", "tok_flaky"); declined != "" || err != nil {
			t.Errorf("tok_flaky, third call: got %q, %v, want approved", declined, err)
		}
		if declined, _ := p.Charge(ctx, "tok_ok", "tok_ok", 9999, "GBP"); declined == "" {
			t.Error("a key stood for two charges")
		}

		for key, want := range map[string]string{"tok_lost": "", "tok_declined": "card declined"} {
			if declined, found, err := p.Provider.Lookup(ctx, key); declined != want || !found || err != nil {
				t.Errorf("Lookup(%s) = %q, %v, %v, want %q, found", key, declined, found, err, want)
			}
		}
		for _, key := range []string{"tok_timeout", "never heard of"} {
			if _, found, err := p.Provider.Lookup(ctx, key); found || err != nil {
				t.Errorf("Lookup(%s): found %v, %v, want not found", key, found, err)
			}
		}
		if _, _, err := p.Provider.Lookup(ctx, "tok_late"); err == nil {
			t.Error("Lookup of a pending charge: no error, but there is no answer yet")
		}
		p.pass(15 * time.Second)
		if declined, found, err := p.Provider.Lookup(ctx, "tok_late"); declined != "" || !found || err != nil {
			t.Errorf("Lookup of a late charge after its time = %q, %v, %v, want approved", declined, found, err)
		}
	})
}

func TestVoid(t *testing.T) {
	t.Parallel()
	ledgers(t, func(t *testing.T, open func() outside.Ledger) {
		p := newParty(open())
		ctx := t.Context()
		for _, tt := range []struct {
			rule     string
			token    string // charged before, "" for not at all
			pass     time.Duration
			refunded int64
			state    outside.ChargeState
		}{
			{"what was taken is given back", "tok_ok", 0, 1250, outside.Refunded},
			{"of what was declined nothing", "tok_declined", 0, 0, outside.Declined},
			{"what never arrived is refused when it comes", "", 0, 0, outside.Voided},
			{"what the provider failed at is refused when it comes again", "tok_flaky", 0, 0, outside.Voided},
			{"what is pending is not made", "tok_late", 0, 0, outside.Voided},
			{"what was pending and is made is given back", "tok_late", time.Minute, 1250, outside.Refunded},
			{"what was taken without a reply is given back", "tok_lost", 0, 1250, outside.Refunded},
		} {
			if tt.token != "" {
				_, _ = p.Charge(ctx, tt.rule, tt.token, 1250, "GBP") // how it answers is TestCharge's concern
			}
			p.pass(tt.pass)
			for again := range 2 {
				if refunded, err := p.Void(ctx, tt.rule); refunded != tt.refunded || err != nil {
					t.Errorf("%s: void %d gave back %d, %v, want %d", tt.rule, again+1, refunded, err, tt.refunded)
				}
			}
			if declined, err := p.Charge(ctx, tt.rule, "tok_ok", 1250, "GBP"); declined == "" || err != nil {
				t.Errorf("%s: a charge after the void: got %q, %v, want it declined", tt.rule, declined, err)
			}
			p.pass(time.Hour)
			charges, err := p.Charges(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if got := charges[tt.rule].State; got != tt.state {
				t.Errorf("%s: the books say %q, want %q", tt.rule, got, tt.state)
			}
		}
	})
}

func TestBook(t *testing.T) {
	t.Parallel()
	ledgers(t, func(t *testing.T, open func() outside.Ledger) {
		p := newParty(open())
		ctx := t.Context()
		tracking, refused, err := p.Book(ctx, "a", "GB", "10 Example Street")
		if tracking == "" || refused != "" || err != nil {
			t.Fatalf("Book to GB = %q, %q, %v", tracking, refused, err)
		}
		if again, _, _ := p.Book(ctx, "a", "GB", "10 Example Street"); again != tracking {
			t.Errorf("the same key again: tracking %q, want %q", again, tracking)
		}
		if found, _, ok, err := p.Carrier.Lookup(ctx, "a"); found != tracking || !ok || err != nil {
			t.Errorf("Lookup = %q, %v, %v, want %q", found, ok, err, tracking)
		}
		if _, refused, err := p.Book(ctx, "b", "ZZ", ""); refused == "" || err != nil {
			t.Errorf("Book to ZZ: refused %q, %v", refused, err)
		}
		if _, _, err := p.Book(ctx, "c", "XS", ""); err == nil {
			t.Error("Book to XS: an answer came")
		}
		if _, _, found, err := p.Carrier.Lookup(ctx, "c"); found || err != nil {
			t.Errorf("Lookup of what was sent to XS: found %v, %v", found, err)
		}
		for _, key := range []string{"a", "c", "never heard of"} {
			for range 2 {
				if err := p.Cancel(ctx, key); err != nil {
					t.Errorf("Cancel(%s): %v", key, err)
				}
			}
			if tracking, refused, err := p.Book(ctx, key, "GB", ""); tracking != "" || refused == "" || err != nil {
				t.Errorf("Book(%s) after Cancel = %q, %q, %v, want refused", key, tracking, refused, err)
			}
		}
	})
}

// TestBooksOutliveTheProcess also lets two processes have the same books open.
func TestBooksOutliveTheProcess(t *testing.T) {
	t.Parallel()
	ledgers(t, func(t *testing.T, open func() outside.Ledger) {
		first, second := newParty(open()), newParty(open())
		if declined, err := first.Charge(t.Context(), "k", "tok_ok", 5, "EUR"); declined != "" || err != nil {
			t.Fatal(declined, err)
		}
		if declined, found, err := second.Provider.Lookup(t.Context(), "k"); declined != "" || !found || err != nil {
			t.Errorf("Lookup = %q, %v, %v", declined, found, err)
		}
	})
}

// TestOfManyAtOnceOneDecides: charge and void race for each of many keys, over
// two handles; whoever is first, the books and both answers agree.
func TestOfManyAtOnceOneDecides(t *testing.T) {
	t.Parallel()
	ledgers(t, func(t *testing.T, open func() outside.Ledger) {
		first, second := newParty(open()), newParty(open())
		var wg sync.WaitGroup
		const n = 300
		declined, refunded := make([]string, n), make([]int64, n)
		for i := range n {
			key := fmt.Sprintf("k%d", i)
			wg.Go(func() {
				var err error
				if declined[i], err = first.Charge(t.Context(), key, "tok_ok", 7, "EUR"); err != nil {
					t.Errorf("charge %s: %v", key, err)
				}
			})
			wg.Go(func() {
				var err error
				if refunded[i], err = second.Void(t.Context(), key); err != nil {
					t.Errorf("void %s: %v", key, err)
				}
			})
		}
		wg.Wait()
		charges, err := first.Charges(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			state := charges[fmt.Sprintf("k%d", i)].State
			charged := declined[i] == ""
			if charged != (refunded[i] == 7) || charged != (state == outside.Refunded) || !charged && state != outside.Voided {
				t.Errorf("k%d: charged %v, gave back %d, the books say %q", i, charged, refunded[i], state)
			}
		}
	})
}

func TestAClosedLedgerSaysSo(t *testing.T) {
	t.Parallel()
	l, err := outside.OpenLedger(t.Context(), database(t))
	if err != nil {
		t.Fatal(err)
	}
	p := newParty(l)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() { _, _ = p.Charge(t.Context(), fmt.Sprint(i), "tok_ok", 1, "EUR") }) // answered or refused, but never left waiting
	}
	l.Close()
	wg.Wait()
	if _, err := p.Charge(t.Context(), "late", "tok_ok", 1, "EUR"); err == nil {
		t.Error("a closed ledger took a charge")
	}
	l.Close() // again is harmless
}
