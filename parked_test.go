package courante

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFailuresThatAreAlikeHaveOneFingerprint(t *testing.T) {
	t.Parallel()
	of := func(key, cause string) string {
		return fingerprint(&Parked{Subscriber: "payment", Reaction: "charge", Key: key, Cause: cause,
			Event: Event{Stream: "order:" + key, Correlation: key}}, false)
	}
	for _, c := range []struct{ rule, cause, alike string }{
		{"numbers", "3 of 17 rows", "200 of 1 rows"},
		{"ids", "no order 8f3a-11: gone", "no order 77b2-9c: gone"},
		{"quoted values", `no such SKU "a \"b\""`, `no such SKU "ü"`},
		{"addresses", "dial tcp 10.0.0.1:5432: refused", "dial tcp [::1]:5432: refused"[:9] + "10.1.2.3:77: refused"},
		{"times", "since 2026-03-01T12:00:00Z", "since 2025-01-02T03:04:05.6Z"},
		{"the message's own stream", "load order:good: gone", "load order:17: gone"},
		{"its own key", "order good is gone", "order 17 is gone"},
		{"space and lines", "a\n  b", "a b"},
	} {
		if a, b := of("good", c.cause), of("17", c.alike); a != b {
			t.Errorf("%s: %q has fingerprint %s and %q %s, want one", c.rule, c.cause, a, c.alike, b)
		}
	}
	seen := map[string]string{}
	for _, cause := range []string{"no such bin", "no such SKU", "no such order 3", "", "no such order 3 left"} {
		f := of("17", cause)
		if other, twice := seen[f]; twice {
			t.Errorf("%q and %q have one fingerprint, and fail differently", cause, other)
		}
		if seen[f] = cause; len(f) != 12 {
			t.Errorf("fingerprint %q has %d characters, want 12", f, len(f))
		}
	}
}

func TestPanicsAreAlikeWhereTheyHappen(t *testing.T) {
	t.Parallel()
	parkPanic := func(do func()) Parked {
		rt := &Runtime{}
		rt.cfg.setDefaults()
		n := &node{rt: rt, svc: NewService("payment")}
		re := &reaction{step: &step{Step: Step{Name: "charge"}}, handler: "here"}
		it := &item{step: re.step, reaction: re, event: &Event{Stream: "order:1"}, decide: func(*Decision) error { do(); return nil }}
		_, err := (&Decision{batch: &batch{}}).run(it)
		return n.park(it, err)
	}
	var numbers []int
	one, two := func() { fail("a") }, func() { panic("b") }
	a, again, b := parkPanic(one), parkPanic(one), parkPanic(two)
	index := parkPanic(func() { numbers[3]++ })
	if a.Fingerprint != again.Fingerprint {
		t.Errorf("one panic has two fingerprints, of frames\n%q\n%q", panicFrames(a.Stack, 3), panicFrames(again.Stack, 3))
	}
	if a.Fingerprint == b.Fingerprint || b.Fingerprint == index.Fingerprint {
		t.Errorf("panics in different places have one fingerprint: %s %s %s", a.Fingerprint, b.Fingerprint, index.Fingerprint)
	}
	if a.Cause != `panic in "charge": a` || !strings.Contains(a.Stack, "courante.fail(") {
		t.Errorf("cause %q, stack %q; want the panic's value in one and its place in the other", a.Cause, a.Stack)
	}
	if frames := panicFrames(index.Stack, 3); len(frames) != 3 || !strings.Contains(frames[0], "TestPanicsAreAlike") {
		t.Errorf("frames %q, want the test's function first", frames)
	}
	if got := parkPanic(func() { panic(strings.Repeat("ü", 1<<20)) }); len(got.Cause) > 17<<10 {
		t.Errorf("a cause of %d bytes is stored", len(got.Cause))
	}
}

//go:noinline
func fail(value string) { panic(value) }

func TestFailureAfterFailureIsOnRecord(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rt := &Runtime{cfg: Config{Version: "v1", Now: func() time.Time { return now }}}
	rt.cfg.setDefaults()
	n := &node{rt: rt, svc: NewService("payment")}
	re := &reaction{step: &step{Step: Step{Name: "charge"}}, handler: handlerName(TestFailureAfterFailureIsOnRecord)}
	it := &item{step: re.step, reaction: re, event: &Event{Stream: "order:1"}}

	waits := n.park(it, nil)
	if waits.Cause != "" || waits.Stack != "" || !waits.FirstFailed.IsZero() || waits.FirstBy != "" || waits.Fingerprint != "" {
		t.Errorf("a message that only waits says %+v of failures", waits)
	}
	waits.ID, it.parked = 7, &waits
	first := n.park(it, errors.New("not now"))
	if first.ID != 7 || first.Attempts != 1 || first.RetryAt.IsZero() || first.FirstFailed != now || first.FirstBy != "v1" {
		t.Errorf("the first failure is recorded as %+v", first)
	}
	if !strings.HasPrefix(first.Stack, "github.com/courante-dev/courante.TestFailureAfterFailureIsOnRecord\n\t") || !strings.Contains(first.Stack, "parked_test.go:") {
		t.Errorf("stack %q, want the handler and its place", first.Stack)
	}
	it.parked = &first
	now = now.Add(time.Minute)
	rt.cfg.Version = "v2"
	second := n.park(it, Park(errors.New("never")))
	if second.Attempts != 2 || !second.RetryAt.IsZero() || second.FirstBy != "v1" || second.LastBy != "v2" ||
		second.LastFailed != now || !second.FirstFailed.Equal(now.Add(-time.Minute)) || second.Fingerprint == first.Fingerprint {
		t.Errorf("the second failure is recorded as %+v", second)
	}
}

// TestDueKeysComeInTheOrderOfTheirTime holds the heap against a sorted list.
func TestDueKeysComeInTheOrderOfTheirTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := newAside(0, now)
	var want []string
	for i := range 200 {
		k := AsideKey{Key: fmt.Sprintf("k%03d", i*37%200), Failed: i%3 != 0}
		switch i % 3 {
		case 0: // can go on at once
			want = append(want, "0"+k.Key)
		case 1:
			k.RetryAt = now.Add(time.Duration(i%7-3) * time.Second)
			if !k.RetryAt.After(now) {
				want = append(want, fmt.Sprint(1+i%7)+k.Key)
			}
		}
		a.set(k)
		a.set(k) // once more changes nothing
	}
	slices.Sort(want)
	for i := range want {
		want[i] = want[i][1:]
	}
	if got := a.take(now, 1000); !slices.Equal(got, want) {
		t.Errorf("due are %v, want %v", got, want)
	}
	if got := a.take(now, 10); !slices.Equal(got, want[:10]) {
		t.Errorf("the first ten are %v, want %v: who is due stays due until it is known what became of it", got, want[:10])
	}
	for _, key := range want {
		a.remove(key)
	}
	if got := a.take(now, 1000); len(got) != 0 || len(a.keys) != 200-len(want) {
		t.Errorf("%d keys, of which are due %v; want %d and none", len(a.keys), got, 200-len(want))
	}
}
