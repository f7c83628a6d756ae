// Package courante runs event-driven services on PostgreSQL: you write a domain
// as plain Go, and the framework gives it an event store, a relay that loses
// nothing, exactly-once state changes, deadlines, effects and sagas.
//
// The ideas, in the order in which you need them:
//
// An event is a Go type with a hand-written stored name ([Payload]). A service
// is one bounded context ([NewService]). It declares the events that it emits,
// with the delivery that they need:
//
//	type Opened struct{ Account string `json:"account"` }
//
//	func (Opened) EventType() string { return "bank.opened" }
//
//	bank := courante.NewService("bank")
//	bank.Emits(courante.Critical, Opened{})
//
// A state is behind a key, either the fold of its stream or a stored row
// ([Sourced], [Stored]):
//
//	accounts := courante.Sourced(bank, "account",
//		courante.Evolve(func(a *Account, e Opened) { a.Open = true }))
//
// A handler decides. It loads states, and emits events; it does no I/O, because
// the runtime loads the states of a whole batch, runs the handlers in order and
// writes everything in one transaction ([Decision]). Commands come from outside
// ([NewCommand]), reactions from the logs ([On]). Each is a declared [Step]:
//
//	open := courante.NewCommand(bank, courante.Step{
//		Name:     "open account",
//		Outcomes: []courante.Outcome{{Emits: courante.Types(Opened{})}},
//	})
//	res, err := open.Do(ctx, courante.Call{
//		Keys: []courante.Key{accounts.Key(id)},
//		Do: func(d *courante.Decision) error {
//			a := accounts.Load(d, id)
//			if a.State.Open {
//				return courante.Reject("conflict", "account %s is open", id)
//			}
//			a.Emit(Opened{id})
//			return nil
//		},
//	})
//
// The result has a [Token]. Whoever has it reads what the command wrote, from
// any service and in any process ([Service.Read]).
//
// Time and the world outside are declared too: what happens when a deadline
// passes ([OnDeadline]), and how a call is made and what follows from its
// outcome ([NewEffect]). Both ride on events as notes ([Set], [Effect.Ask]).
//
// A saga needs no code of its own: it is the steps that follow from one event
// ([Saga]). It is drawn and checked from the declarations ([BuildSaga]).
//
// What no key answers, lists and filters, is asked of SQL tables of the
// service's own ([Service.Tables]). A projection keeps them: it makes statements
// of events, which run in the transaction of those events or follow at a
// distance ([Projection]), and queries read them ([Select]):
//
//	bank.Tables(migrations)
//	bank.Project(courante.Projection{
//		Name: "holders", Version: 1, Tables: []string{"holder"},
//		Types: courante.Types(Opened{}), Apply: listHolders,
//	})
//
// Who looks at a state while it changes is told live ([NewWatch]).
//
// A runtime puts services on their stores and runs them ([NewRuntime]):
//
//	rt, err := courante.NewRuntime(courante.Config{
//		Database: db,
//		Services: []courante.Mount{{Service: bank, Store: store}},
//	})
//	err = rt.Run(ctx)
//
// Stores come from package postgres, and for trying things out from package
// memory. Package courantetest tests services, one by one and all at once;
// package app makes a program of them, with commands for its operators. The
// guide is docs/README.md, and examples/library a whole small system.
package courante
