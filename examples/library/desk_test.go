package main

import (
	"context"
	"testing"
	"time"

	"github.com/courante-dev/courante/courantetest"
)

const period = time.Hour

func lend(desk *Desk, id, book, reader string) courantetest.Fact {
	return courantetest.Called(func(ctx context.Context) error {
		_, err := desk.Lend(ctx, id, book, reader)
		return err
	})
}

func takeBack(desk *Desk, id string) courantetest.Fact {
	return courantetest.Called(func(ctx context.Context) error {
		_, err := desk.TakeBack(ctx, id)
		return err
	})
}

// TestDesk holds the desk to its rules: given what happened, when something
// happens, then these events follow, and no others, or it is rejected.
func TestDesk(t *testing.T) {
	t.Parallel()
	passed := courantetest.Passed
	rule := func(name string, test func(desk *Desk, given given)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			desk := NewDesk(period)
			test(desk, func(facts ...courantetest.Fact) *courantetest.Scenario {
				return courantetest.Given(t, desk.Service(), facts...)
			})
		})
	}
	rule("a book on the shelf is lent", func(desk *Desk, given given) {
		given().When(lend(desk, "l1", "Emma", "Ann")).Then(Lent{"l1", "Emma", "Ann", courantetest.Epoch.Add(period)})
	})
	rule("a book is lent to one reader at a time", func(desk *Desk, given given) {
		given(lend(desk, "l1", "Emma", "Ann")).When(lend(desk, "l2", "Emma", "Bob")).ThenRejected("conflict")
	})
	rule("a repeated loan is the same loan", func(desk *Desk, given given) {
		given(lend(desk, "l1", "Emma", "Ann")).When(lend(desk, "l1", "Emma", "Ann")).Then()
	})
	rule("a loan keeps its reader", func(desk *Desk, given given) {
		given(lend(desk, "l1", "Emma", "Ann")).When(lend(desk, "l1", "Emma", "Bob")).ThenRejected("conflict")
	})
	rule("who is late is noted", func(desk *Desk, given given) {
		given(lend(desk, "l1", "Emma", "Ann")).When(passed(period)).Then(Overdue{"l1", "Emma", "Ann"})
	})
	rule("who brought it back is not late", func(desk *Desk, given given) {
		given(lend(desk, "l1", "Emma", "Ann"), takeBack(desk, "l1")).When(passed(3 * period)).Then()
	})
	rule("a book that came back is lent again", func(desk *Desk, given given) {
		given(lend(desk, "l1", "Emma", "Ann"), takeBack(desk, "l1")).When(lend(desk, "l2", "Emma", "Bob")).Then(Lent{"l2", "Emma", "Bob", courantetest.Epoch.Add(period)})
	})
	rule("a book that is late may come back", func(desk *Desk, given given) {
		given(lend(desk, "l1", "Emma", "Ann"), passed(period)).When(takeBack(desk, "l1")).Then(Returned{"l1"})
	})
	rule("a book that is very late is lost", func(desk *Desk, given given) {
		given(lend(desk, "l1", "Emma", "Ann"), passed(period)).When(passed(period)).Then(Lost{"l1"})
	})
	rule("what is lost does not come back", func(desk *Desk, given given) {
		given(lend(desk, "l1", "Emma", "Ann"), passed(period), passed(period)).When(takeBack(desk, "l1")).ThenRejected("conflict")
	})
	rule("what was never lent cannot come back", func(desk *Desk, given given) {
		given().When(takeBack(desk, "l1")).ThenRejected("not_found")
	})
}

// given begins a scenario of a desk.
type given func(...courantetest.Fact) *courantetest.Scenario
