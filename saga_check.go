package courante

import (
	"errors"
	"fmt"
	"strings"
)

// DefaultSagaStates is how many states [SagaGraph.Check] explores at most. One
// takes about 7 us, so the bound is a second and a half. The order saga of the
// tests, 27 steps over five services, has 267; six services that each wait for
// an answer side by side have 240,000.
const DefaultSagaStates = 200_000

// SagaReport is what the check of a saga found.
type SagaReport struct {
	Saga     string        `json:"saga"`
	States   int           `json:"states"`   // explored
	Complete bool          `json:"complete"` // false: the bound was hit, and what lies beyond it is unknown
	Problems []SagaProblem `json:"problems"`
}

// SagaProblem is one flaw of a saga's declarations.
type SagaProblem struct {
	Rule    SagaRule `json:"rule"`
	Warning bool     `json:"warning,omitempty"` // it does not make the check fail
	Service string   `json:"service,omitempty"`
	Step    string   `json:"step,omitempty"`
	Text    string   `json:"text"`           // what is wrong, and how to mend the declaration
	Path    []string `json:"path,omitempty"` // a shortest way from the start to the flaw
}

// SagaRule names what a problem violates.
type SagaRule string

const (
	// RuleDeclared says: what a declaration names is declared by somebody, and what
	// is declared is used.
	RuleDeclared SagaRule = "declared"
	// RuleReachable says: every step, and every outcome of it, happens on some path.
	RuleReachable SagaRule = "reachable"
	// RuleEnds says: from every state an end can be reached, though every effect
	// that is not UntilAnswered stays silent.
	RuleEnds SagaRule = "ends"
	// RuleOneEnd says: no path has both a completed and a compensated end.
	RuleOneEnd SagaRule = "one-end"
	// RuleDeadline says: whatever the saga waits for, a deadline of it is open.
	RuleDeadline SagaRule = "deadline"
	// RuleCompensation says: a saga that ends compensated has undone every step
	// that took effect and that some step undoes; one that ends completed has
	// none undone.
	RuleCompensation SagaRule = "compensation"
	// RulePivot says: past its pivot a saga does not end compensated.
	RulePivot SagaRule = "pivot"
	// RuleDuplicate says: an event that is delivered again changes nothing.
	RuleDuplicate SagaRule = "duplicate"
	// RuleOnce says: each type of event happens at most once in a saga.
	RuleOnce SagaRule = "once"
	// RuleSettled says: nothing stays open in a saga that has ended.
	RuleSettled SagaRule = "settled"
)

func (p SagaProblem) String() string {
	var b strings.Builder
	if p.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Text)
	for i, line := range p.Path {
		fmt.Fprintf(&b, "\n  %2d. %s", i+1, line)
	}
	return b.String()
}

// Err joins the problems that are no warnings; nil if there are none.
func (r *SagaReport) Err() error {
	var errs []error
	for _, p := range r.Problems {
		if !p.Warning {
			errs = append(errs, fmt.Errorf("saga %s: %s", r.Saga, p))
		}
	}
	return errors.Join(errs...)
}

// Warnings returns the problems that are only warnings.
func (r *SagaReport) Warnings() []SagaProblem {
	var warnings []SagaProblem
	for _, p := range r.Problems {
		if p.Warning {
			warnings = append(warnings, p)
		}
	}
	return warnings
}

// Check looks for flaws in the declarations of the saga. It runs no handler. It
// explores what the steps say may come of them, from the saga's first event on:
//
//   - Each step that is not idle (see [Step]) takes any of its outcomes that
//     When and Unless allow.
//   - The events of one service reach another in order; those of two services
//     in any order. An event may be delivered again at any time later.
//   - An effect may answer at any time, with any outcome, or never, unless it is
//     UntilAnswered. A deadline may fire at any time while it is open, however
//     late, and an effect may answer in the same moment or after it.
//   - A command of the saga, other than the one that starts it, may be called
//     at any time, or never.
//   - Each type of event happens at most once in a saga. That is an
//     abstraction: a saga about one order, one payment, one shipment fits it,
//     and a step that could emit a type again is reported (RuleOnce); what
//     the second event would bring about is not explored.
//   - Where a loop is declared (a deadline that is set again), it is left at
//     some time: an end that can be reached counts as reached.
//
// Which steps need compensation is what the declarations say: those that some
// other step Undoes. Such a step has taken effect after an outcome that emits
// or asks for something and is not marked Fails, its own or that of another step
// of the service that emits and asks for the same; the effect that it asked for
// can take that back by an outcome that Fails. It is undone once a step that
// Undoes it has such an outcome. What has to be undone is judged when nothing is
// under way any more, so an answer that comes after the end may still be
// undone by what it brings about.
//
// maxStates bounds the exploration; zero means DefaultSagaStates.
func (g *SagaGraph) Check(maxStates int) *SagaReport {
	if maxStates <= 0 {
		maxStates = DefaultSagaStates
	}
	r := &SagaReport{Saga: g.Name, Complete: true}
	r.Problems = g.lint()
	for _, p := range r.Problems {
		if !p.Warning {
			// Names that lead nowhere make every path look broken: one
			// mistake at a time.
			return r
		}
	}
	x := explore(newSagaModel(g), maxStates)
	r.States, r.Complete = len(x.states), x.complete
	r.Problems = append(r.Problems, x.judge()...)
	return r
}

// CheckSagas builds and checks every saga of the services.
func CheckSagas(services []*Service, maxStates int) ([]*SagaReport, error) {
	graphs, err := BuildSagas(services)
	if err != nil {
		return nil, err
	}
	reports := make([]*SagaReport, len(graphs))
	var problems []error
	for i, g := range graphs {
		reports[i] = g.Check(maxStates)
		problems = append(problems, reports[i].Err())
	}
	return reports, errors.Join(problems...)
}
