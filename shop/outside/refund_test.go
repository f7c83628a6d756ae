package outside_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/courante-dev/courante/shop/outside"
)

func TestRefund(t *testing.T) {
	t.Parallel()
	ledgers(t, func(t *testing.T, open func() outside.Ledger) {
		p := newParty(open())
		ctx := t.Context()
		for _, token := range []string{"tok_ok", "tok_declined", "tok_late", "tok_lost"} {
			_, _ = p.Charge(ctx, token, token, 1000, "GBP") // how it answers is TestCharge's concern
		}
		for _, tt := range []struct {
			rule, charge, refund string
			amount               int64
			done                 bool
			kept                 int64
		}{
			{"a part", "tok_ok", "a", 300, true, 700},
			{"the same again changes nothing", "tok_ok", "a", 300, true, 700},
			{"the key with another amount", "tok_ok", "a", 200, false, 700},
			{"more than is left", "tok_ok", "b", 701, false, 700},
			{"nothing", "tok_ok", "b", 0, false, 700},
			{"less than nothing", "tok_ok", "b", -1, false, 700},
			{"the rest", "tok_ok", "b", 700, true, 0},
			{"when nothing is left", "tok_ok", "c", 1, false, 0},
			{"the first again, when nothing is left", "tok_ok", "a", 300, true, 0},
			{"of a charge without a reply", "tok_lost", "a", 1000, true, 0},
			{"of what was declined", "tok_declined", "a", 1, false, 0},
			{"of what is pending", "tok_late", "a", 1, false, 1000},
			{"of what never arrived", "nothing", "a", 1, false, 0},
		} {
			err := p.Refund(ctx, tt.charge, tt.refund, tt.amount)
			if (err == nil) != tt.done || err != nil && !notDone(err) {
				t.Errorf("%s: %v, want done %v", tt.rule, err, tt.done)
			}
			charges, err := p.Charges(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if got := charges[tt.charge].Kept(); got != tt.kept {
				t.Errorf("%s: %d is kept, want %d", tt.rule, got, tt.kept)
			}
		}
		charges, err := p.Charges(ctx)
		if want := map[string]int64{"a": 300, "b": 700}; err != nil || !maps.Equal(charges["tok_ok"].Refunds, want) {
			t.Errorf("the books say %v, %v, want %v", charges["tok_ok"].Refunds, err, want)
		}
		if _, heard := charges["nothing"]; heard {
			t.Error("a refund of nothing left a trace")
		}
	})
}

func TestAVoidGivesBackTheRest(t *testing.T) {
	t.Parallel()
	ledgers(t, func(t *testing.T, open func() outside.Ledger) {
		p := newParty(open())
		ctx := t.Context()
		_, _ = p.Charge(ctx, "k", "tok_late", 1000, "GBP")
		p.pass(time.Minute)
		if err := p.Refund(ctx, "k", "a", 300); err != nil {
			t.Fatal(err)
		}
		for again := range 2 {
			if refunded, err := p.Void(ctx, "k"); refunded != 700 || err != nil {
				t.Errorf("void %d gave back %d, %v, want 700", again+1, refunded, err)
			}
		}
		if err := p.Refund(ctx, "k", "a", 300); err != nil {
			t.Errorf("a refund from before, again: %v", err)
		}
		if err := p.Refund(ctx, "k", "b", 1); err == nil {
			t.Error("a voided charge was refunded")
		}
	})
}

func TestOfManyRefundsAtOnceNoneIsTooMuch(t *testing.T) {
	t.Parallel()
	ledgers(t, func(t *testing.T, open func() outside.Ledger) {
		first, second := newParty(open()), newParty(open())
		if _, err := first.Charge(t.Context(), "k", "tok_ok", 100, "EUR"); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		errs := make([]error, 40)
		for i := range errs {
			p := first
			if i%2 > 0 {
				p = second
			}
			wg.Go(func() { errs[i] = p.Refund(t.Context(), "k", fmt.Sprint(i/2), 7) }) // each twice
		}
		wg.Wait()
		done := 0
		for i := 0; i < len(errs); i += 2 {
			if (errs[i] == nil) != (errs[i+1] == nil) {
				t.Errorf("refund %d: %v from one and %v from the other", i/2, errs[i], errs[i+1])
			}
			if errs[i] == nil {
				done++
			}
		}
		charges, err := first.Charges(t.Context())
		if err != nil || done != 14 || charges["k"].Kept() != 2 {
			t.Errorf("%d refunds of 7 were made and %d of 100 is kept, %v, want 14 and 2", done, charges["k"].Kept(), err)
		}
	})
}
