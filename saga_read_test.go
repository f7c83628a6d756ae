package courante_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/courante-dev/courante"
	"github.com/courante-dev/courante/memory"
)

type (
	loanMade  struct{}
	loanEnded struct{}
	askedMore struct { // time for a loan; on the loan's stream
		Loan string `json:"loan"`
	}
	gotMore struct { // on a stream of its own
		Loan string `json:"loan"`
	}
)

func (loanMade) EventType() string  { return "library.loan_made" }
func (loanEnded) EventType() string { return "library.loan_ended" }
func (askedMore) EventType() string { return "library.asked_more" }
func (gotMore) EventType() string   { return "library.got_more" }

// A loan may be prolonged many times, and each time is a saga that begins on
// the loan's stream and goes on elsewhere.
func TestSagasOfOneThingAreReadTogether(t *testing.T) {
	t.Parallel()
	library := courante.NewService("library")
	library.Emits(courante.Private, loanMade{}, loanEnded{}, askedMore{}, gotMore{})
	loans := courante.Sourced[struct{}](library, "loan")
	extensions := courante.Sourced[struct{}](library, "extension")
	step := func(name string, p courante.Payload) courante.Step {
		return courante.Step{Name: name, Outcomes: []courante.Outcome{{Emits: courante.Types(p)}}}
	}
	courante.NewCommand(library, step("lend", loanMade{}))
	courante.NewCommand(library, step("ask for more", askedMore{}))
	courante.On(library, courante.Reaction[loanMade]{Step: step("end", loanEnded{}), Do: func(*courante.Decision, loanMade) error { return nil }})
	courante.On(library, courante.Reaction[askedMore]{Step: step("prolong", gotMore{}), Do: func(*courante.Decision, askedMore) error { return nil }})
	library.Saga(courante.Saga{Name: "loan", Starts: loanMade{}.EventType(), Completed: courante.Types(loanEnded{})})
	library.Saga(courante.Saga{Name: "extension", Starts: askedMore{}.EventType(), Completed: courante.Types(gotMore{}), Keys: []string{"loan"}})
	graphs, err := courante.BuildSagas([]*courante.Service{library})
	if err != nil {
		t.Fatal(err)
	}

	store := memory.New(memory.Config{}).Store("library")
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	happened := func(key courante.Key, version int64, saga string, p courante.Payload) {
		t.Helper()
		e, err := courante.NewEvent(p)
		if err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Second)
		e.Time, e.Correlation, e.Causation = at, saga, fmt.Sprintf("command:%s/%d", saga, version)
		if p == (gotMore{"7"}) {
			e.Causation = "library/loan:7@2"
		}
		if _, err := store.Append(t.Context(), key.Stream(), version-1, e); err != nil {
			t.Fatal(err)
		}
	}
	happened(loans.Key("7"), 1, "7", loanMade{})
	happened(loans.Key("7"), 2, "x1", askedMore{"7"})
	happened(extensions.Key("x1"), 1, "x1", gotMore{"7"})
	happened(loans.Key("7"), 3, "x2", askedMore{"7"})

	mounts := []courante.Mount{{Service: library, Store: store}}
	for key, want := range map[string][]string{
		"7":  {"loan 7 running", "extension x1 completed", "extension x2 running"},
		"x1": {"extension x1 completed"},
	} {
		sagas, err := courante.ReadSagas(t.Context(), graphs, mounts, key, at)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		var got []string
		for _, s := range sagas {
			got = append(got, s.Saga+" "+s.ID+" "+s.State)
		}
		if !slices.Equal(got, want) {
			t.Errorf("sagas of %s: %q, want %q", key, got, want)
		}
	}
	_, events, err := courante.ReadSaga(t.Context(), graphs[1], mounts, "x1", at)
	if err != nil || len(events) != 2 {
		t.Errorf("the extension has %d events, %v, want the one on the loan's stream and its own", len(events), err)
	}
	if _, _, err := courante.ReadSaga(t.Context(), graphs[1], mounts, "7", at); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("an extension with the loan's id: %v, want not found", err)
	}
	if _, err := courante.ReadSagas(t.Context(), graphs, mounts, "nothing", at); !errors.Is(err, courante.ErrNotFound) {
		t.Errorf("sagas of nothing: %v, want not found", err)
	}
}
