package courante

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"sync"
	"time"

	jsonv1 "github.com/go-json-experiment/json/v1"
)

// Service is the declaration of one bounded context: the events it emits, the
// states it owns, its commands, its reactions to events, its effects and
// deadlines. Build it once, with the functions of this package that take it as
// their first argument, and hand it to [NewRuntime]; after that it must not
// change. Mistakes are collected and reported together by NewRuntime.
type Service struct {
	name       string
	events     map[string]EventType
	emitted    []EventType // in the order declared
	categories map[string]bool
	entities   []Key                                            // one for each category, without id, in the order declared
	baselines  map[string]func(*State) (json.RawMessage, error) // by category of sourced states
	shapes     map[string]string                                // same; see baseline
	steps      []*step
	reactions  map[string][]*reaction // by event type
	types      []string               // event types reacted to, in the order declared
	effects    map[string]*effect
	deadlines  map[string]*deadline // by category + "/" + name
	sagas      []Saga
	evolved    map[string][]string      // categories of sourced states by the event types that change them
	homes      func() map[string]string // names of sagas by the category of sourced states that they live on; see Saga
	inbound    map[string]*inbound      // by type of CloudEvent

	migrations  fs.FS
	projections []Projection
	collections []*Collection
	watches     []*Watch

	problems []error
	node     *node // set by NewRuntime
}

// NewService begins the declaration of the context with that name, which is
// also the name of its log.
func NewService(name string) *Service {
	s := &Service{
		name:       name,
		events:     map[string]EventType{},
		categories: map[string]bool{},
		baselines:  map[string]func(*State) (json.RawMessage, error){},
		shapes:     map[string]string{},
		reactions:  map[string][]*reaction{},
		effects:    map[string]*effect{},
		deadlines:  map[string]*deadline{},
		evolved:    map[string][]string{},
	}
	s.homes = sync.OnceValue(s.findHomes)
	return s
}

// Name is the name of the context.
func (s *Service) Name() string { return s.name }

// Events returns the event types that the service emits, in the order declared.
func (s *Service) Events() []EventType { return s.emitted }

// Categories returns the categories of the service's states, in the order
// declared: a stream's name is CATEGORY:ID.
func (s *Service) Categories() []string {
	names := make([]string, len(s.entities))
	for i, key := range s.entities {
		names[i] = key.Category
	}
	return names
}

// Emits declares types of events that the service emits, with the delivery
// that they need.
func (s *Service) Emits(need Need, payloads ...Payload) {
	for _, p := range payloads {
		t, err := eventType(p, need)
		if err != nil {
			s.problems = append(s.problems, err)
			continue
		}
		if _, twice := s.events[t.Name]; twice {
			s.problem("event type %s is declared twice", t.Name)
			continue
		}
		s.events[t.Name] = t
		s.emitted = append(s.emitted, t)
	}
}

func (s *Service) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Errorf("service "+s.name+": "+format, args...))
}

func (s *Service) addCategory(name string, sourced bool) {
	if s.categories[name] {
		s.problem("category %s is declared twice", name)
	}
	s.categories[name] = true
	s.entities = append(s.entities, Key{Category: name, Sourced: sourced})
}

// Step is the declared part of a handler: what may come of it. The saga's
// drawing and its static check are made from steps alone, and a decision that
// does something else than its step declares is refused.
type Step struct {
	// Name says what the step does, as a verb phrase: "reserve stock".
	Name string

	// When lists types of the service's own events that must have happened in
	// this saga for the step to do anything.
	When []string

	// Unless lists types of the service's own events after which the step does
	// nothing any more. It is what makes duplicates and late arrivals harmless.
	Unless []string

	// Outcomes are the alternatives: each run of the step that is not made
	// idle by When or Unless ends in exactly one of them.
	Outcomes []Outcome

	// Undoes names the step of this service that this one compensates.
	Undoes string

	// Pivot marks the point of no return: before it a saga compensates, after
	// it only retries.
	Pivot bool

	// Repeats says that it is right for the step to emit an event that has
	// happened before, as whoever lengthens a loan does: the check of a saga,
	// which looks at the first of each type, does not warn of it then.
	Repeats bool
}

// Outcome is one alternative of a step.
type Outcome struct {
	Emits  []string `json:"emits,omitempty"`  // event types; empty: it does nothing
	Asks   []string `json:"asks,omitempty"`   // effects asked for
	Drops  []string `json:"drops,omitempty"`  // effects given up, see [Effect.Drop]
	Sets   []string `json:"sets,omitempty"`   // deadlines set
	Clears []string `json:"clears,omitempty"` // deadlines ended

	// When and Unless narrow the alternative down to some states, as those of
	// the step do the whole step: a handler that cancels a booking before the
	// goods left and refuses after has two outcomes, told apart by the event of
	// the departure. What they leave open, the check of a saga tries both ways.
	When   []string `json:"when,omitempty"`
	Unless []string `json:"unless,omitempty"`

	// Fails marks the outcome by which the step says no, or turns the saga
	// back: it leaves nothing that would have to be undone. On the outcome of
	// an effect it says so of the step that asked for the effect.
	Fails bool `json:"fails,omitempty"`
}

// Types lists the stored names of payloads, for When, Unless and Outcomes.
func Types(payloads ...Payload) []string {
	names := make([]string, len(payloads))
	for i, p := range payloads {
		names[i] = p.EventType()
	}
	return names
}

// step is a declared Step with its trigger.
type step struct {
	Step
	service *Service
	trigger trigger
	emits   map[string]bool
	asks    map[string]bool
	drops   map[string]bool
	sets    map[string]bool
	clears  map[string]bool
	schema  int // newest schema version of its event that it can read, of a reaction
}

// trigger says what runs a step; exactly one field is set.
type trigger struct {
	command  string
	event    string
	effect   string
	deadline string // name of the deadline
}

func (s *Service) addStep(decl Step, t trigger) *step {
	st := &step{Step: decl, service: s, trigger: t}
	if decl.Name == "" {
		s.problem("a step on %s%s%s%s has no name", t.command, t.event, t.effect, t.deadline)
	}
	for _, other := range s.steps {
		if other.Name == decl.Name {
			s.problem("step %q is declared twice", decl.Name)
		}
	}
	st.index()
	s.steps = append(s.steps, st)
	return st
}

// index collects what the outcomes name, for the checks at run time. What set
// the step off ends with it anyway, and need not be named.
func (st *step) index() {
	st.emits, st.asks, st.drops = map[string]bool{}, map[string]bool{}, map[string]bool{}
	st.sets, st.clears = map[string]bool{}, map[string]bool{}
	st.drops[st.trigger.effect], st.clears[st.trigger.deadline] = true, true
	for _, o := range st.Outcomes {
		for _, list := range []struct {
			in    map[string]bool
			names []string
		}{{st.emits, o.Emits}, {st.asks, o.Asks}, {st.drops, o.Drops}, {st.sets, o.Sets}, {st.clears, o.Clears}} {
			for _, name := range list.names {
				list.in[name] = true
			}
		}
	}
}

// Reaction is what a service does on a type of event, its own or another's.
type Reaction[P Payload] struct {
	Step
	// Keys names the states to load before Do runs; a state that Do loads and
	// Keys does not name costs a further round trip, no more. May be nil.
	Keys func(P) []Key
	// Do decides. See [Decision] for what it may depend on. Reactions to one event
	// share its payload, so neither Keys nor Do may change what it refers to.
	Do func(*Decision, P) error
}

type reaction struct {
	*step
	handler string       // name of the function, for the record of a failure
	of      reflect.Type // of the payload
	decode  func(*Event) (payload any, err error)
	bind    func(payload any) (keys []Key, do func(*Decision) error)
}

// On declares a reaction. Events of one key are handled in order.
func On[P Payload](s *Service, r Reaction[P]) {
	var zero P
	typ := zero.EventType()
	if r.Do == nil {
		s.problem("reaction %q has no Do", r.Name)
	}
	re := &reaction{step: s.addStep(r.Step, trigger{event: typ}), handler: handlerName(r.Do)}
	re.schema = schemaVersion(zero)
	re.of = reflect.TypeFor[P]()
	re.decode = func(e *Event) (any, error) {
		p, err := Decode[P](e)
		if err != nil {
			return nil, Park(err)
		}
		return p, nil
	}
	re.bind = func(payload any) ([]Key, func(*Decision) error) {
		p := payload.(P)
		var keys []Key
		if r.Keys != nil {
			keys = r.Keys(p)
		}
		return keys, func(d *Decision) error { return r.Do(d, p) }
	}
	if len(s.reactions[typ]) == 0 {
		s.types = append(s.types, typ)
	}
	s.reactions[typ] = append(s.reactions[typ], re)
}

type deadline struct {
	*step
	category string
	do       func(*Decision, string) error
}

// OnDeadline declares what happens when a deadline of that name, set on a
// stream of the entity's category, is due and still open. do gets the entity's
// id. The deadline is closed by it whatever it emits.
func OnDeadline[S any](entity *Entity[S], name string, decl Step, do func(d *Decision, id string) error) {
	s := entity.svc
	id := entity.category + "/" + name
	if s.deadlines[id] != nil {
		s.problem("deadline %s is declared twice", id)
	}
	s.deadlines[id] = &deadline{step: s.addStep(decl, trigger{deadline: name}), category: entity.category, do: do}
}

// Command is a declared way to change the service's states from outside.
type Command struct {
	*step
}

// NewCommand declares a command.
func NewCommand(s *Service, decl Step) *Command {
	return &Command{s.addStep(decl, trigger{command: decl.Name})}
}

// Call is one use of a command.
type Call struct {
	Keys        []Key  // states to load before Do runs; the first one's id is the default for Correlation
	Correlation string // id of the saga, e.g. the order's id

	// Idempotency is the caller's key for this call, "" if it has none; Hash
	// is the hash of the request it came with. A second call with the key gets
	// the first answer again, or a *Rejection with code "key_reused" if the
	// hash differs.
	Idempotency string
	Hash        [32]byte

	Do func(*Decision) error
}

// Result is the answer to a call.
type Result struct {
	Reply    json.RawMessage // what the decision's Reply set
	Token    Token           // for reading one's own writes
	Repeated bool            // the answer of an earlier call with the same idempotency key
}

// Do runs the command and returns when it is durable. Concurrent calls share
// transactions; none fails because of another. A *Rejection is the command's
// own no; ErrTransient means nothing was written and a repeat may work;
// ErrUnknownOutcome means that nobody knows, and only a call with an
// idempotency key is safe to repeat. It may be called at once from many
// goroutines; before the runtime runs it waits for that, and once it was told
// to stop the error is ErrClosed.
func (c *Command) Do(ctx context.Context, call Call) (Result, error) {
	n := c.service.node
	if n == nil {
		return Result{}, errors.New("command " + c.Name + ": the service has no runtime; hand it to NewRuntime first")
	}
	return n.command(ctx, c, call)
}

// Get reads a state from the source of truth, as the last commit left it.
// ErrNotFound if it was never written.
func (e *Entity[S]) Get(ctx context.Context, id string) (s S, version int64, err error) {
	s, st, err := e.read(ctx, id)
	return s, st.Version, err
}

func (e *Entity[S]) read(ctx context.Context, id string) (S, State, error) {
	var zero S
	if e.svc.node == nil {
		return zero, State{}, errors.New("read " + e.category + ": the service has no runtime; hand it to NewRuntime first")
	}
	states := make([]State, 1)
	var err error
	if states[0], err = e.svc.node.read(ctx, e.Key(id)); err == nil {
		err = e.svc.rebase(ctx, e.svc.node.store, states)
	}
	if err != nil {
		return zero, State{}, fmt.Errorf("read %s:%s: %w", e.category, id, err)
	}
	if states[0].Version == 0 && states[0].Row == 0 {
		return zero, states[0], fmt.Errorf("%s %q: %w", e.category, id, ErrNotFound)
	}
	s, err := e.fold(&states[0])
	return s, states[0], err
}

// Event reads one event of an entity's stream, the first being version 1. A
// command that needs more of a long event than the state keeps of it reads it
// before it decides: events never change. ErrNotFound if there is none.
func (e *Entity[S]) Event(ctx context.Context, id string, version int64) (Event, error) {
	if e.svc.node == nil {
		return Event{}, errors.New("read " + e.category + ": the service has no runtime; hand it to NewRuntime first")
	}
	if version > 0 {
		for ev, err := range e.svc.node.store.ReadStream(ctx, e.Key(id).Stream(), version-1) {
			return ev, err
		}
	}
	return Event{}, fmt.Errorf("%s %q at version %d: %w", e.category, id, version, ErrNotFound)
}

// GetHistory reads a state together with all events of its stream, oldest
// first, as of one moment. ErrNotFound if it was never written.
func (e *Entity[S]) GetHistory(ctx context.Context, id string) (S, []Event, error) {
	s, st, err := e.read(ctx, id)
	if err != nil || st.Sourced && st.Row == 0 { // no baseline, so these are all
		return s, st.Events, err
	}
	history, err := e.History(ctx, id)
	// What came after the state was read is left to the next reader.
	return s, history[:min(int(st.Version), len(history))], err
}

// History yields the events of an entity's stream, oldest first.
func (e *Entity[S]) History(ctx context.Context, id string) ([]Event, error) {
	var events []Event
	if e.svc.node == nil {
		return nil, errors.New("read " + e.category + ": the service has no runtime; hand it to NewRuntime first")
	}
	for ev, err := range e.svc.node.store.ReadStream(ctx, e.Key(id).Stream(), 0) {
		if err != nil {
			return nil, err
		}
		events = append(events, ev)
	}
	return events, nil
}

// EffectSpec declares a kind of call to the world outside.
type EffectSpec[Req, Out any] struct {
	Step // what may come of an outcome

	// Effect is the name under which requests are stored.
	Effect string

	// UntilAnswered says that it is right to repeat the call for ever, because
	// the other side answers in the end and nothing else can be done: after the
	// pivot of a saga, and in its compensation. Such an effect needs no deadline.
	UntilAnswered bool

	// Timeout bounds one attempt; default 5 s. An attempt that runs into it has
	// an unknown outcome.
	Timeout time.Duration

	// Perform makes the call. key is the idempotency key to hand to the other
	// side. A refusal by the other side is an Out, not an error. An error means
	// that the call failed and may be repeated; if the call may nevertheless
	// have been carried out, it wraps ErrUnknownOutcome.
	Perform func(ctx context.Context, key string, req Req) (Out, error)

	// Resolve asks the other side what became of a call with an unknown
	// outcome; found is false if it never heard of it. Nil if it cannot be
	// asked: then the call is repeated with the same key.
	Resolve func(ctx context.Context, key string, req Req) (out Out, found bool, err error)

	// Then decides on the outcome. id is the id of the entity that asked.
	Then func(d *Decision, id string, req Req, out Out) error
}

// Effect is a declared kind of call to the world outside.
type Effect[Req, Out any] struct {
	name string
	svc  *Service
}

type effect struct {
	*step
	name    string
	forever bool // UntilAnswered
	timeout time.Duration
	perform func(ctx context.Context, r Request) (any, error)
	resolve func(ctx context.Context, r Request) (any, bool, error) // nil: cannot be asked
	then    func(d *Decision, id string, r Request, out any) error
}

// NewEffect declares an effect of the service. It is performed after the event
// that asks for it is committed, with the request's id as idempotency key,
// and repeated until it has an outcome, or until a decision drops it.
func NewEffect[Req, Out any](s *Service, spec EffectSpec[Req, Out]) *Effect[Req, Out] {
	if s.effects[spec.Effect] != nil || spec.Effect == "" {
		s.problem("effect %q is declared twice or has no name", spec.Effect)
	}
	if spec.Perform == nil || spec.Then == nil {
		s.problem("effect %q needs Perform and Then", spec.Effect)
	}
	if spec.Timeout == 0 {
		spec.Timeout = 5 * time.Second
	}
	ef := &effect{step: s.addStep(spec.Step, trigger{effect: spec.Effect}), name: spec.Effect, forever: spec.UntilAnswered, timeout: spec.Timeout}
	decode := func(r Request) (req Req, err error) {
		if err := jsonv1.Unmarshal(r.Data, &req); err != nil {
			return req, fmt.Errorf("decode request of effect %s: %w", r.ID, err)
		}
		return req, nil
	}
	ef.perform = func(ctx context.Context, r Request) (any, error) {
		req, err := decode(r)
		if err != nil {
			return nil, err
		}
		return spec.Perform(ctx, r.ID, req)
	}
	if spec.Resolve != nil {
		ef.resolve = func(ctx context.Context, r Request) (any, bool, error) {
			req, err := decode(r)
			if err != nil {
				return nil, false, err
			}
			return spec.Resolve(ctx, r.ID, req)
		}
	}
	ef.then = func(d *Decision, id string, r Request, out any) error {
		req, err := decode(r)
		if err != nil {
			return err
		}
		return spec.Then(d, id, req, out.(Out))
	}
	s.effects[spec.Effect] = ef
	return &Effect[Req, Out]{name: spec.Effect, svc: s}
}

// Ask requests the effect with the event that the note rides on. The request's
// id, and so the idempotency key, is the event's id and the effect's name.
func (f *Effect[Req, Out]) Ask(req Req) Note {
	return func(d *Decision, _ *box, e *Event, n *Notes) {
		d.declared("effect", "Asks", f.name, d.step.asks)
		data, err := json.Marshal(req)
		if err != nil {
			d.fail(fmt.Errorf("encode request of effect %s: %w", f.name, err))
			return
		}
		n.Ask = append(n.Ask, Request{ID: e.ID() + "/" + f.name, Effect: f.name, Data: data})
	}
}

// Drop ends every open request of the effect on the stream: it is not tried
// again, and an outcome that comes all the same is ignored. What the other side
// may have done by then is for a compensating effect to undo.
func (f *Effect[Req, Out]) Drop() Note {
	return func(d *Decision, b *box, _ *Event, n *Notes) {
		d.declared("effect dropped", "Drops", f.name, d.step.drops)
		for _, r := range b.Open.Effects {
			if r.Effect == f.name {
				n.Done = append(n.Done, r.ID)
			}
		}
	}
}
