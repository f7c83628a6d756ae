package courantetest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/courantetest"
)

// A library lends books: one state, a command, a reaction, a deadline and a
// stored row are enough to show each kind of fact.
type (
	lent struct {
		Book, To string
	}
	reminded struct{ Book string }
	returned struct{ Book string }
	found    struct{ Book string } // somebody else's event
)

func (lent) EventType() string     { return "library.lent" }
func (reminded) EventType() string { return "library.reminded" }
func (returned) EventType() string { return "library.returned" }
func (found) EventType() string    { return "street.found" }

type library struct {
	svc    *courante.Service
	loans  *courante.Entity[string]
	copies *courante.Entity[int]
	lend   *courante.Command
}

func newLibrary() *library {
	l := &library{svc: courante.NewService("library")}
	l.svc.Emits(courante.Critical, lent{}, reminded{}, returned{})
	l.loans = courante.Sourced(l.svc, "loan",
		courante.Evolve(func(to *string, e lent) { *to = e.To }),
		courante.Evolve(func(to *string, _ returned) { *to = "" }))
	l.copies = courante.Stored[int](l.svc, "copies")
	l.lend = courante.NewCommand(l.svc, courante.Step{Name: "lend", Outcomes: []courante.Outcome{{Emits: []string{"library.lent"}, Sets: []string{"due"}}}})
	courante.OnDeadline(l.loans, "due", courante.Step{Name: "remind", Outcomes: []courante.Outcome{{Emits: []string{"library.reminded"}}}},
		func(d *courante.Decision, book string) error {
			l.loans.Load(d, book).Emit(reminded{book})
			return nil
		})
	courante.On(l.svc, courante.Reaction[found]{
		Step: courante.Step{Name: "take back", Outcomes: []courante.Outcome{{Emits: []string{"library.returned"}, Clears: []string{"due"}}}},
		Do: func(d *courante.Decision, e found) error {
			loan := l.loans.Load(d, e.Book)
			if loan.State == "" {
				return courante.Park(errors.New("nobody has it"))
			}
			loan.Emit(returned{e.Book}, courante.Clear("due"))
			return nil
		},
	})
	return l
}

func (l *library) Lend(ctx context.Context, book, to string) error {
	_, err := l.lend.Do(ctx, courante.Call{Keys: []courante.Key{l.loans.Key(book)}, Do: func(d *courante.Decision) error {
		loan := l.loans.Load(d, book)
		if loan.State != "" || l.copies.Load(d, book).State == 0 {
			return courante.Reject("conflict", "there is no %s left", book)
		}
		loan.Emit(lent{book, to}, courante.Set("due", d.Now().Add(24*time.Hour)))
		return nil
	}})
	return err
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	lending := func(l *library, to string) courantetest.Fact {
		return courantetest.Called(func(ctx context.Context) error { return l.Lend(ctx, "dune", to) })
	}
	for name, scenario := range map[string]func(courantetest.TB, *library){
		"a book that is there is lent": func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc, courantetest.Stored(l.copies.Key("dune"), 1)).
				When(lending(l, "ann")).Then(lent{"dune", "ann"})
		},
		"a book that is out is refused": func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc, courantetest.Stored(l.copies.Key("dune"), 1), courantetest.Happened(l.loans.Key("dune"), lent{"dune", "ann"})).
				When(lending(l, "bob")).ThenRejected("conflict")
		},
		"a book that is found is back": func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc, courantetest.Happened(l.loans.Key("dune"), lent{"dune", "ann"})).
				When(courantetest.Heard("dune", found{"dune"})).Then(returned{"dune"})
		},
		"who keeps a book is reminded once": func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc, courantetest.Stored(l.copies.Key("dune"), 1), lending(l, "ann")).
				When(courantetest.Passed(25*time.Hour), courantetest.Passed(25*time.Hour)).Then(reminded{"dune"})
		},
		"a deadline of the past is watched": func(t courantetest.TB, l *library) {
			due := courante.Notes{Set: []courante.Deadline{{Name: "due", Due: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}}}
			courantetest.Given(t, l.svc, courantetest.Happened(l.loans.Key("dune"), lent{"dune", "ann"}, due)).
				When(courantetest.Passed(25 * time.Hour)).Then(reminded{"dune"})
		},
		"who brings it back is not reminded": func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc, courantetest.Stored(l.copies.Key("dune"), 1), lending(l, "ann"),
				courantetest.Heard("dune", found{"dune"})).
				When(courantetest.Passed(25 * time.Hour)).Then()
		},
		"a book that nobody has is set aside": func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc).When(courantetest.Heard("dune", found{"dune"})).ThenParked("nobody has it")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scenario(t, newLibrary())
		})
	}
}

// complaints collects what a scenario says instead of failing the test.
type complaints []string

func (*complaints) Helper() {}
func (c *complaints) Errorf(format string, args ...any) {
	*c = append(*c, fmt.Sprintf(format, args...))
}
func (c *complaints) Fatalf(format string, args ...any) { c.Errorf(format, args...) }

func TestScenariosFailWithWhatDiffers(t *testing.T) {
	t.Parallel()
	back := courantetest.Heard("dune", found{"dune"})
	for name, test := range map[string]struct {
		run  func(courantetest.TB, *library)
		want string
	}{
		"another event": {func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc, courantetest.Happened(l.loans.Key("dune"), lent{"dune", "ann"})).When(back).Then(reminded{"dune"})
		}, `- library.reminded {"Book":"dune"}` + "\n" + `+ library.returned {"Book":"dune"}`},
		"an event too many": {func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc, courantetest.Happened(l.loans.Key("dune"), lent{"dune", "ann"})).When(back).Then()
		}, `+ library.returned {"Book":"dune"}`},
		"a message set aside": {func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc).When(back).Then()
		}, "nobody has it"},
		"a call that is not rejected": {func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc, courantetest.Happened(l.loans.Key("dune"), lent{"dune", "ann"})).When(back).ThenRejected("conflict")
		}, `want a rejection with code "conflict"`},
		"another code": {func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc).When(courantetest.Called(func(ctx context.Context) error { return l.Lend(ctx, "dune", "ann") })).ThenRejected("not_found")
		}, `rejected with "conflict"`},
		"nothing set aside": {func(t courantetest.TB, l *library) {
			courantetest.Given(t, l.svc, courantetest.Happened(l.loans.Key("dune"), lent{"dune", "ann"})).When(back).ThenParked("x")
		}, "want a message set aside"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said complaints
			test.run(&said, newLibrary())
			if !strings.Contains(strings.Join(said, "\n"), test.want) {
				t.Errorf("it says %q, want %q in it", said, test.want)
			}
		})
	}
}

// printer is the test of the example; in a test it is *testing.T.
type printer struct{}

func (printer) Helper()                           {}
func (printer) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (printer) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func ExampleGiven() {
	t := printer{}
	l := newLibrary()
	courantetest.Given(t, l.svc,
		courantetest.Stored(l.copies.Key("dune"), 1),
		courantetest.Called(func(ctx context.Context) error { return l.Lend(ctx, "dune", "ann") })).
		When(
			courantetest.Passed(25*time.Hour),
			courantetest.Heard("dune", found{"dune"})).
		Then(reminded{"dune"}, returned{"emma"})
	// Output:
	// the events differ (- is wanted, + is what happened):
	//   library.reminded {"Book":"dune"}
	// - library.returned {"Book":"emma"}
	// + library.returned {"Book":"dune"}
}
