package courante

import (
	"slices"
	"strings"
	"testing"
)

func checkOrder(t *testing.T, services []*Service, bound int) *SagaReport {
	t.Helper()
	g, err := BuildSaga(services, "order")
	if err != nil {
		t.Fatal(err)
	}
	return g.Check(bound)
}

func TestTheOrderSagaPasses(t *testing.T) {
	t.Parallel()
	r := checkOrder(t, orderSaga(), 0)
	if !r.Complete || r.States < 100 {
		t.Errorf("explored %d states, complete: %t", r.States, r.Complete)
	}
	for _, p := range r.Problems {
		t.Errorf("unexpected %s", p)
	}
}

func TestASmallSagaPasses(t *testing.T) {
	t.Parallel()
	for _, p := range checkOrder(t, smallSaga(), 0).Problems {
		t.Errorf("unexpected %s", p)
	}
}

// smallSaga is about the least that is a saga: two services, a deadline, and
// two ends.
func smallSaga() []*Service {
	desk := declare("desk", "asked done off")
	desk.Saga(Saga{Name: "order", Starts: "shop.asked", Completed: ev("done"), Compensated: ev("off")})
	desk.commanded(Step{Name: "ask", Outcomes: []Outcome{{Emits: ev("asked"), Sets: []string{"reply"}}}}).
		on("held", Step{Name: "finish", Unless: ev("done off"), Outcomes: []Outcome{{Emits: ev("done"), Clears: []string{"reply"}}}}).
		on("refused", Step{Name: "call off", Unless: ev("done off"), Outcomes: []Outcome{{Emits: ev("off"), Clears: []string{"reply"}}}}).
		due("reply", Step{Name: "give up", Unless: ev("done off"), Outcomes: []Outcome{{Emits: ev("off")}}})
	hotel := declare("hotel", "held refused", "released")
	hotel.on("asked", Step{Name: "hold room", Unless: ev("held refused released"), Outcomes: []Outcome{
		{Emits: ev("held")}, {Emits: ev("refused"), Fails: true}}}).
		on("off", Step{Name: "release room", Undoes: "hold room", Unless: ev("released"), Outcomes: []Outcome{
			{Emits: ev("released")}}})
	return []*Service{desk, hotel}
}

// welcomingSaga has, beside a saga, a step of its first service that nothing in
// the saga brings about.
func welcomingSaga() []*Service {
	services := smallSaga()
	desk, porter := services[0], declare("porter", "arrived")
	porter.commanded(Step{Name: "greet", Outcomes: []Outcome{{Emits: ev("arrived")}}})
	desk.events["shop.welcomed"] = EventType{Name: "shop.welcomed", Schema: 1, Need: Private}
	desk.on("arrived", Step{Name: "welcome", Outcomes: []Outcome{{Emits: ev("welcomed")}}})
	return append(services, porter)
}

// edit changes one step of a saga.
func edit(services []*Service, name string, change func(*Step)) {
	for _, s := range services {
		for _, st := range s.steps {
			if st.Name != name {
				continue
			}
			change(&st.Step)
			st.index()
			return
		}
	}
	panic("no step " + name)
}

// remove takes a step out of its service.
func remove(services []*Service, name string) {
	for _, s := range services {
		for i, st := range s.steps {
			if st.Name != name {
				continue
			}
			s.steps = slices.Delete(s.steps, i, i+1)
			if i := slices.Index(s.types, st.trigger.event); i >= 0 {
				s.types = slices.Delete(s.types, i, i+1)
			}
			return
		}
	}
	panic("no step " + name)
}

// What is declared to happen again and again is not warned of.
func TestRepetitionCanBeMeant(t *testing.T) {
	t.Parallel()
	services := smallSaga()
	edit(services, "give up", func(st *Step) {
		st.Outcomes[0].Sets, st.Unless, st.Repeats = []string{"reply"}, ev("done"), true
	})
	for _, p := range checkOrder(t, services, 0).Problems {
		if p.Rule == RuleOnce {
			t.Errorf("unexpected %s", p)
		}
	}
}

// Each case breaks one declaration of a correct saga.
func TestEachFlawIsFound(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		saga    func() []*Service // default: orderSaga
		flaw    func([]*Service)
		rule    SagaRule
		warning bool
		text    []string // all of them in the problem's text
		path    string   // in its last line
	}{
		{
			name: "an event that nobody reacts to leaves the saga standing",
			saga: smallSaga,
			flaw: func(s []*Service) {
				remove(s, "call off")
				edit(s, "give up", func(st *Step) { st.Outcomes = append(st.Outcomes, Outcome{}) })
			},
			rule: RuleEnds,
			text: []string{`nothing more happens and the saga has not ended (done or off)`, `the last step was "give up" of desk`, "react to what came last"},
			path: "desk: deadline reply passes: give up -> nothing",
		},
		{
			name: "a handler that picks its outcome by state must say so",
			flaw: func(s []*Service) {
				edit(s, "note void", func(st *Step) {
					st.Outcomes[0].When, st.Outcomes[1].Unless = nil, nil
				})
			},
			rule: RuleEnds,
			text: []string{`the last step was "note void" of ordering`, "say so with the outcome's When and Unless"},
			path: "ordering gets payment_voided: note void -> void_noted",
		},
		{
			name: "an effect that may stay silent needs a deadline that decides",
			flaw: func(s []*Service) {
				for _, svc := range s {
					if svc.name == "payment" {
						svc.effects["void"].forever = false
					}
				}
			},
			rule: RuleEnds,
			text: []string{`effect "void" of payment may stay silent for ever`, "set a deadline with it"},
		},
		{
			name: "a deadline that is set again and again is no end",
			saga: smallSaga,
			flaw: func(s []*Service) {
				remove(s, "call off")
				edit(s, "give up", func(st *Step) { st.Outcomes[0] = Outcome{Sets: []string{"reply"}} })
				edit(s, "finish", func(st *Step) { st.Outcomes[0].Emits = ev("done") })
				edit(s, "hold room", func(st *Step) { st.Outcomes = append(st.Outcomes, Outcome{}) })
				s[0].commanded(Step{Name: "hang up", Unless: ev("done off"), Outcomes: []Outcome{{Emits: ev("off"), Clears: []string{"reply"}}}})
			},
			rule: RuleEnds,
			text: []string{"goes round for ever and no end (done or off) can be reached", "an outcome that gives up"},
		},
		{
			name: "an effect that is asked for without a deadline",
			saga: effectSaga,
			flaw: func(s []*Service) {
				edit(s, "call", func(st *Step) { st.Outcomes[0].Sets = nil })
				edit(s, "note call", func(st *Step) { st.Outcomes[0].Sets = []string{"answer"} })
			},
			rule: RuleDeadline,
			text: []string{`caller: effect "call" may never answer, and here no deadline is open`},
			path: "caller begins: call -> called, asks call",
		},
		{
			name: "a deadline that is cleared while the effect is open",
			saga: effectSaga,
			flaw: func(s []*Service) {
				edit(s, "note call", func(st *Step) { st.Outcomes[0].Clears = []string{"answer"} })
			},
			rule: RuleDeadline,
			text: []string{`caller: effect "call" may never answer, and here no deadline is open`, "(Sets)", "UntilAnswered"},
			path: "caller gets called: note call -> call_noted, clears answer",
		},
		{
			name: "a wait for another service without a deadline",
			saga: smallSaga,
			flaw: func(s []*Service) {
				edit(s, "ask", func(st *Step) { st.Outcomes[0].Sets = nil })
				remove(s, "give up")
				edit(s, "finish", func(st *Step) { st.Outcomes[0].Clears = nil })
				edit(s, "call off", func(st *Step) { st.Outcomes[0].Clears = nil })
			},
			rule: RuleDeadline,
			text: []string{"the saga waits for hotel (shop.asked of desk is on its way there) and no deadline is open anywhere", "set a deadline with shop.asked"},
			path: "desk begins: ask -> asked",
		},
		{
			name: "a step that is not undone on one of the paths",
			flaw: func(s []*Service) {
				edit(s, "void charge", func(st *Step) {
					// Forgets that the charge may be under way.
					st.Outcomes = []Outcome{{Emits: ev("payment_voided"), Fails: true}}
				})
			},
			rule: RuleCompensation,
			text: []string{`payment: the saga ends compensated (shop.order_cancelled) and step "charge", which took effect, is not undone`, `let "give up charge" or "void charge" act on this path`},
		},
		{
			name: "a deed that two steps can do, of which one is named by what undoes it",
			flaw: func(s []*Service) {
				s[2].on("payment_due", Step{Name: "charge again", When: ev("payment_voided"), Unless: ev("payment_voided"),
					Outcomes: []Outcome{{Emits: ev("payment_started"), Asks: []string{"charge"}}}})
				edit(s, "give up charge", func(st *Step) { st.Undoes = "charge again" })
				edit(s, "void charge", func(st *Step) {
					st.Undoes, st.Outcomes = "charge again", []Outcome{{Emits: ev("payment_voided"), Fails: true}}
				})
			},
			rule: RuleCompensation,
			text: []string{`step "charge again", which took effect, is not undone`},
		},
		{
			name: "an order that is confirmed after its stock was released",
			flaw: func(s []*Service) {
				s[1].on("order_cancelling", Step{Name: "release early", Undoes: "reserve stock", Unless: ev("stock_released"), Outcomes: []Outcome{{Emits: ev("stock_released")}}})
			},
			rule: RuleCompensation,
			text: []string{`inventory: the saga ends completed (shop.order_confirmed) although step "reserve stock" was undone`},
		},
		{
			name: "a compensation after the pivot",
			flaw: func(s []*Service) {
				edit(s, "cancel shipping", func(st *Step) {
					st.Outcomes = []Outcome{{Emits: ev("shipping_cancelled"), Asks: []string{"unbook"}, Drops: []string{"book"}, Clears: []string{"book"}}}
				})
			},
			rule: RulePivot,
			text: []string{`the saga ends compensated (shop.order_cancelled) although its pivot, step "arrange shipping", took effect`},
		},
		{
			name: "two ends on one path",
			saga: smallSaga,
			flaw: func(s []*Service) {
				edit(s, "finish", func(st *Step) { st.Unless = ev("done") })
			},
			rule: RuleOneEnd,
			text: []string{"a path ends both completed (shop.done) and compensated (shop.off)"},
			path: "desk gets held: finish -> done, clears reply",
		},
		{
			name: "a duplicate that acts again",
			flaw: func(s []*Service) {
				edit(s, "issue stock", func(st *Step) { st.Unless = nil })
			},
			rule: RuleDuplicate,
			text: []string{`inventory: step "issue stock" acts again when shop.shipping_arranged is delivered again (-> stock_issued)`, "add what it emits (shop.stock_issued) to its Unless"},
		},
		{
			name: "a duplicate that charges twice",
			flaw: func(s []*Service) {
				edit(s, "charge", func(st *Step) { st.Unless = ev("payment_voided") })
			},
			rule: RuleDuplicate,
			text: []string{`payment: step "charge" acts again when shop.payment_due is delivered again (-> payment_started, asks charge, sets charge)`},
		},
		{
			name: "a deadline that no outcome sets",
			flaw: func(s []*Service) {
				edit(s, "place order", func(st *Step) { st.Outcomes[0].Sets = nil })
			},
			rule: RuleDeclared,
			text: []string{`ordering: deadline "order" is declared and no outcome Sets it`},
		},
		{
			name: "an event that can happen twice",
			saga: smallSaga,
			flaw: func(s []*Service) {
				edit(s, "give up", func(st *Step) { st.Outcomes[0].Sets = []string{"reply"}; st.Unless = ev("done") })
			},
			rule:    RuleOnce,
			warning: true,
			text:    []string{`desk: step "give up" can emit shop.off when it has happened already`},
		},
		{
			name: "a reaction to an event that no service declares",
			flaw: func(s []*Service) {
				s[2].on("gift_added", Step{Name: "wrap gift"})
			},
			rule: RuleDeclared,
			text: []string{`payment: step "wrap gift" reacts to shop.gift_added, which is never emitted: no service declares it with Emits`},
		},
		{
			name: "a reaction to an event that no step emits",
			flaw: func(s []*Service) {
				edit(s, "reserve stock", func(st *Step) { st.Outcomes = st.Outcomes[:1] })
			},
			rule: RuleDeclared,
			text: []string{`ordering: step "cancel without stock" reacts to shop.stock_rejected, which is never emitted: no step has it in an outcome`},
		},
		{
			name: "an outcome that emits what its service does not declare",
			flaw: func(s []*Service) {
				edit(s, "issue stock", func(st *Step) { st.Outcomes[0].Emits = ev("goods_gone") })
			},
			rule: RuleDeclared,
			text: []string{`inventory: step "issue stock" emits shop.goods_gone, which the service does not declare`},
		},
		{
			name: "a Critical event that nobody hears",
			flaw: func(s []*Service) {
				typ := s[1].events["shop.stock_issued"]
				typ.Need = Critical
				s[1].events["shop.stock_issued"] = typ
				s[1].emitted[len(s[1].emitted)-1] = typ
			},
			rule:    RuleDeclared,
			warning: true,
			text:    []string{"inventory: shop.stock_issued is Critical, and nobody reacts to it", "declare it Private"},
		},
		{
			name: "a guard that names another service's event",
			flaw: func(s []*Service) {
				edit(s, "issue stock", func(st *Step) { st.When = ev("payment_taken") })
			},
			rule: RuleDeclared,
			text: []string{`inventory: step "issue stock" has shop.payment_taken in When or Unless, which belongs to payment`, "record the arrival with an own event"},
		},
		{
			name: "an effect without a handler",
			flaw: func(s []*Service) {
				edit(s, "charge", func(st *Step) { st.Outcomes[0].Asks = []string{"charge", "score"} })
			},
			rule: RuleDeclared,
			text: []string{`payment: step "charge" asks for effect "score", which has no handler; declare it with NewEffect`},
		},
		{
			name: "an effect that nobody asks for",
			flaw: func(s []*Service) {
				s[2].answered("score", Step{Name: "note score"})
			},
			rule: RuleDeclared,
			text: []string{`payment: effect "score" is declared and no outcome Asks for it`},
		},
		{
			name: "a deadline without a handler",
			flaw: func(s []*Service) {
				edit(s, "charge", func(st *Step) { st.Outcomes[0].Sets = []string{"charge", "review"} })
			},
			rule: RuleDeclared,
			text: []string{`payment: step "charge" sets deadline "review", which has no handler; declare it with OnDeadline`},
		},
		{
			name: "a compensation of a step that is not there",
			flaw: func(s []*Service) {
				edit(s, "release stock", func(st *Step) { st.Undoes = "reserve" })
			},
			rule: RuleDeclared,
			text: []string{`inventory: step "release stock" undoes "reserve", which is no step of inventory`},
		},
		{
			name: "an end that nobody emits",
			flaw: func(s []*Service) {
				s[0].sagas[0].Completed = ev("order_closed")
			},
			rule: RuleDeclared,
			text: []string{"the saga ends with shop.order_closed, which is never emitted"},
		},
		{
			name: "a step that never acts",
			flaw: func(s []*Service) {
				edit(s, "issue stock", func(st *Step) { st.When, st.Unless = ev("stock_rejected"), ev("stock_rejected") })
			},
			rule: RuleReachable,
			text: []string{`inventory: step "issue stock" never acts`},
		},
		{
			name: "an end that only a step outside the saga brings about",
			saga: welcomingSaga,
			flaw: func(s []*Service) { s[0].sagas[0].Completed = ev("done welcomed") },
			rule: RuleReachable,
			text: []string{`the end shop.welcomed is reached on no path: "welcome" of desk, which emits it, is left out because no step of the saga emits shop.arrived`},
		},
		{
			name: "a step that waits for what is outside the saga",
			saga: welcomingSaga,
			flaw: func(s []*Service) {
				edit(s, "finish", func(st *Step) { st.When = ev("welcomed") })
			},
			rule: RuleReachable,
			text: []string{`desk: step "finish" never acts: its When wants shop.welcomed, which does not happen in this saga: "welcome" of desk`, `no step of the saga emits shop.arrived`},
		},
		{
			name: "an outcome that never happens",
			flaw: func(s []*Service) {
				edit(s, "cancel shipping", func(st *Step) {
					st.Outcomes[0].When = ev("shipping_arranged shipping_failed")
					st.Outcomes = append(st.Outcomes, Outcome{When: ev("shipping_arranged"), Emits: ev("cancelled_too_late")})
				})
			},
			rule:    RuleReachable,
			warning: true,
			text:    []string{`shipping: outcome 1 of step "cancel shipping" (cancelled_too_late) happens on no path`},
		},
		{
			name: "a deadline that outlives its saga",
			saga: smallSaga,
			flaw: func(s []*Service) {
				edit(s, "finish", func(st *Step) { st.Outcomes[0].Clears = nil })
			},
			rule:    RuleSettled,
			warning: true,
			text:    []string{`desk: deadline "reply" is still open when the saga has ended`, "(Clears)"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			saga := orderSaga
			if c.saga != nil {
				saga = c.saga
			}
			services := saga()
			if before := checkOrder(t, services, 0); len(before.Problems) > 0 {
				t.Fatalf("the saga is not correct to begin with: %s", before.Problems[0])
			}
			c.flaw(services)
			r := checkOrder(t, services, 0)
			for _, p := range r.Problems {
				if p.Rule == c.rule && p.Warning == c.warning && containsAll(p.Text, c.text) &&
					(c.path == "" || len(p.Path) > 0 && strings.Contains(p.Path[len(p.Path)-1], c.path)) {
					if c.warning != (r.Err() == nil) {
						t.Errorf("a warning must not fail the check, and a flaw must: %v", r.Err())
					}
					t.Log(p)
					return
				}
			}
			t.Errorf("not found: a problem of rule %q with %q; got %d problems", c.rule, c.text, len(r.Problems))
			for _, p := range r.Problems {
				t.Logf("%s: %s", p.Rule, p)
			}
		})
	}
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// effectSaga is a service that makes one call and tells how it went.
func effectSaga() []*Service {
	s := declare("caller", "", "called call_noted reached lost")
	s.Saga(Saga{Name: "order", Starts: "shop.called", Completed: ev("reached"), Compensated: ev("lost")})
	s.commanded(Step{Name: "call", Outcomes: []Outcome{{Emits: ev("called"), Asks: []string{"call"}, Sets: []string{"answer"}}}}).
		on("called", Step{Name: "note call", Unless: ev("call_noted reached lost"), Outcomes: []Outcome{{Emits: ev("call_noted")}}}).
		answered("call", Step{Name: "hear", Unless: ev("lost"), Outcomes: []Outcome{
			{Emits: ev("reached"), Clears: []string{"answer"}}, {Emits: ev("lost"), Clears: []string{"answer"}, Fails: true}}}).
		due("answer", Step{Name: "give up", Unless: ev("reached lost"), Outcomes: []Outcome{{Emits: ev("lost"), Drops: []string{"call"}}}})
	return []*Service{s}
}

func TestTheBoundIsReported(t *testing.T) {
	t.Parallel()
	r := checkOrder(t, orderSaga(), 20)
	if r.Complete || r.States < 20 || r.States > 40 {
		t.Errorf("explored %d states, complete: %t; want about 20, and not complete", r.States, r.Complete)
	}
	// What lies beyond the bound is unknown, not wrong.
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}

func TestTheCheckIsDeterministic(t *testing.T) {
	t.Parallel()
	text := func() string {
		services := orderSaga()
		edit(services, "note void", func(st *Step) { st.Outcomes[0].When, st.Outcomes[1].Unless = nil, nil })
		return checkOrder(t, services, 0).Err().Error()
	}
	if a, b := text(), text(); a != b {
		t.Errorf("two checks of one saga differ:\n%s\n\n%s", a, b)
	}
}
