//go:build linux || darwin

package postgres

import (
	"testing"
	"time"

	"github.com/courante-dev/courante"
)

// The open part is closed when it is due and not before, and a closed one is
// sealed when it has rested and nobody is behind it; nothing is detached.
func TestMaintainParts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, s := openTest(t)
	now := time.Now()
	maintain := func(at time.Time, policy PartPolicy, closed, sealed int) {
		t.Helper()
		if err := s.MaintainParts(ctx, at, policy); err != nil {
			t.Fatal(err)
		}
		parts, err := s.Parts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		gotClosed, gotSealed := 0, 0
		for _, p := range parts {
			if !p.Closed.IsZero() {
				gotClosed++
			}
			if !p.Sealed.IsZero() {
				gotSealed++
			}
			if !p.Detached.IsZero() {
				t.Errorf("part %d is detached", p.N)
			}
		}
		if gotClosed != closed || gotSealed != sealed {
			t.Errorf("at %s: %d closed and %d sealed, want %d and %d", at.Sub(now), gotClosed, gotSealed, closed, sealed)
		}
	}
	month := PartPolicy{Age: 30 * 24 * time.Hour}
	maintain(now.Add(31*24*time.Hour), month, 0, 0) // it has no events
	if _, err := s.Append(ctx, "order:1", 0, testEvent(1)); err != nil {
		t.Fatal(err)
	}
	mustTick(t, db)
	maintain(now, month, 0, 0)
	maintain(now, PartPolicy{Size: 1 << 40}, 0, 0)
	maintain(now.Add(1000*24*time.Hour), PartPolicy{}, 0, 0)
	maintain(now, PartPolicy{Size: 1}, 1, 0)
	maintain(now, PartPolicy{Size: 1}, 1, 0) // the next one has no events

	subscriber, err := db.Store(ctx, "shipping")
	if err != nil {
		t.Fatal(err)
	}
	if err := courante.AddSubscriber(ctx, subscriber, "orders", courante.Cursor{}, "ann"); err != nil {
		t.Fatal(err)
	}
	later := now.Add(time.Hour)
	maintain(later, PartPolicy{}, 1, 0)
	usages, err := s.PartUsages(ctx)
	if err != nil || len(usages) != 2 || len(usages[0].Behind) != 1 || usages[0].Events != 1 || usages[0].Ticks != 1 || usages[0].Bytes == 0 {
		t.Errorf("parts %+v, %v; want one event, one tick and the subscriber in the first", usages, err)
	}
	end, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := courante.RetireSubscriber(ctx, subscriber, "orders", end, "ann", false); err != nil {
		t.Fatal(err)
	}
	maintain(later, PartPolicy{}, 1, 1)
	usages, err = s.PartUsages(ctx)
	if err != nil || len(usages[0].Behind) != 0 || usages[0].Events != 1 {
		t.Errorf("parts %+v, %v; want one event and nobody behind", usages, err)
	}
}

// A place in the log is found by its time, whether its ticks are still there or
// are sealed.
func TestAt(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, s := openTest(t)
	began := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	for i := range 6 {
		e := testEvent(i)
		e.Time = began.Add(time.Duration(i) * time.Minute)
		if _, err := s.Append(ctx, "order:1", int64(i), e); err != nil {
			t.Fatal(err)
		}
		mustTick(t, db)
		mustExec(t, testConn(t), s, "update "+db.schema+".tick set at = $1 where log = 'orders' and n = $2", e.Time.Add(time.Second), i+1)
	}
	check := func(when string) {
		t.Helper()
		for i := range 7 {
			c, err := s.At(ctx, began.Add(time.Duration(i)*time.Minute-30*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			rest, _ := readOn(t, s, c, 10)
			if len(rest) != 6-i {
				t.Errorf("%s: from minute %d on there are %d events, want %d", when, i, len(rest), 6-i)
			}
		}
	}
	check("with its ticks")
	closeAndSeal(t, s, 1)
	check("sealed")
}
