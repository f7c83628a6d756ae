package courante

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	jsonv1 "github.com/go-json-experiment/json/v1"
)

// CloudEvent is what a program outside has to say, in whatever language it is
// written: CloudEvents 1.0, see https://cloudevents.io. Source and ID together
// name it.
type CloudEvent struct {
	ID          string
	Source      string // a URI reference of who says it
	Type        string
	Subject     string
	Time        time.Time       // zero: not said
	Correlation string          // extension correlationid, "" for none
	Trace       string          // extension traceparent (W3C), "" for none
	Data        json.RawMessage // JSON
}

// Inbound declares what a service does with CloudEvents of one type that
// programs outside send. They come in over the broker, those about the same
// state in the order sent; [Service.Receive] takes them from elsewhere.
//
// Each one counts once, by its source and id, however often it comes, for as
// long as replies are kept. What the handler rejects, or fails at in a way that
// does not pass, is put aside by the broker with the reason.
type Inbound[M any] struct {
	Step
	Type string

	// Keys are the states it will read, of which the first decides what it must
	// stay in order with.
	Keys func(M) []Key

	Do func(*Decision, M) error
}

// OnInbound adds the declaration. Problems, such as a type that is declared
// twice, are reported by NewRuntime.
func OnInbound[M any](s *Service, in Inbound[M]) {
	if in.Do == nil || in.Keys == nil || in.Type == "" {
		s.problem("inbound %q needs Type, Keys and Do", in.Name)
	}
	if s.inbound == nil {
		s.inbound = map[string]*inbound{}
	}
	if s.inbound[in.Type] != nil {
		s.problem("inbound type %s is declared twice", in.Type)
	}
	s.inbound[in.Type] = &inbound{command: NewCommand(s, in.Step), call: func(e *CloudEvent) (Call, error) {
		var m M
		if err := jsonv1.Unmarshal(e.Data, &m); err != nil {
			return Call{}, Reject("invalid", "the data is not what %s has: %v", in.Type, err)
		}
		return Call{Keys: in.Keys(m), Do: func(d *Decision) error { return in.Do(d, m) }}, nil
	}}
}

// inbound is an [Inbound] without its type parameter.
type inbound struct {
	command *Command
	call    func(*CloudEvent) (Call, error)
}

// InboundTypes are the types of CloudEvents that the service takes, sorted.
func (s *Service) InboundTypes() []string { return slices.Sorted(maps.Keys(s.inbound)) }

// Receive handles a CloudEvent and returns when that is durable; nothing, if it
// was handled before. The error is that of [Command.Do], or a *Rejection with
// code "invalid" for one that cannot be read or is of another type. It may be
// called at once.
func (s *Service) Receive(ctx context.Context, e CloudEvent) error {
	call, in, err := s.receive(&e)
	if err != nil {
		return err
	}
	if e.Trace != "" {
		ctx = withParent(ctx, e.Trace)
	}
	_, err = in.command.Do(ctx, call)
	return err
}

func (s *Service) receive(e *CloudEvent) (Call, *inbound, error) {
	in := s.inbound[e.Type]
	switch {
	case in == nil:
		return Call{}, nil, Reject("invalid", "service %s takes no CloudEvents of type %q", s.name, e.Type)
	case e.ID == "" || e.Source == "":
		return Call{}, nil, Reject("invalid", "a CloudEvent needs an id and a source")
	}
	call, err := in.call(e)
	if err != nil {
		return Call{}, nil, err
	}
	call.Correlation = e.Correlation
	call.Idempotency, call.Hash = e.key(), sha256.Sum256(e.Data)
	return call, in, nil
}

// key is the idempotency key. Sources and ids may be of any length.
func (e *CloudEvent) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s %s", len(e.Source), e.Source, e.ID)
	return "cloudevent " + hex.EncodeToString(h.Sum(nil))
}

// Inbox takes CloudEvents for a service from a broker. It is used by one
// goroutine.
type Inbox interface {
	// Take returns what has arrived, about max at most, in the order sent. It
	// does not wait. They stay with the inbox until they are acknowledged or it
	// ends; after a lost connection they come again, with new tags.
	Take(ctx context.Context, max int) ([]Arrival, error)

	// Arrived is signalled when Take may have something. It has a buffer of one.
	Arrived() <-chan struct{}

	// Refuse puts one that was taken aside for people, with the reason. It has
	// to be acknowledged all the same.
	Refuse(ctx context.Context, tag uint64, reason string) error

	// Ack lets the broker forget everything up to the tag.
	Ack(ctx context.Context, upTo uint64) error

	// Close gives everything back that was not acknowledged.
	Close()
}

// Arrival is a CloudEvent in an [Inbox].
type Arrival struct {
	CloudEvent
	Tag uint64 // for Ack, ascending
	Err error  // it cannot be read; only Tag is set
}

// inboxMost is how many CloudEvents are handled at once. Those of them that
// concern different states share transactions.
const inboxMost = 256

// inbox handles what programs outside send to a service of this process. The
// broker gives it to one process at a time; during a change two may handle the
// same ones, which then count once.
type inbox struct {
	n     *node
	actor *Actor
	from  Inbox
	done  chan struct{}

	list []Arrival // taken and not acknowledged
	over []bool    // those of them that are handled or refused
}

func (in *inbox) step(ctx context.Context) (bool, error) {
	if in.from == nil {
		from, err := in.n.rt.cfg.Broker.Receive(ctx, in.n.svc.name, in.n.svc.InboundTypes())
		if err != nil {
			return false, err
		}
		in.from, in.done = from, make(chan struct{})
		if !in.n.rt.cfg.Stepped {
			go in.actor.wakeOn(from.Arrived(), in.done)
		}
	}
	if len(in.list) == 0 {
		list, err := in.from.Take(ctx, inboxMost)
		if err != nil {
			in.close()
			return false, err
		}
		in.list, in.over = list, make([]bool, len(list))
	}
	if len(in.list) == 0 {
		return false, nil
	}
	failed := in.handle(ctx)
	settled := 0
	for settled < len(in.over) && in.over[settled] {
		settled++
	}
	if settled > 0 {
		if err := in.from.Ack(ctx, in.list[settled-1].Tag); err != nil {
			in.close() // they come again
			return false, err
		}
		in.list, in.over = in.list[settled:], in.over[settled:]
	}
	return failed == nil, failed
}

// handle handles those that are not over, and those about one state one after
// the other. The error is one that passes.
func (in *inbox) handle(ctx context.Context) error {
	var chains [][]int
	byKey := map[Key]int{}
	for i := range in.list {
		if in.over[i] {
			continue
		}
		call, _, err := in.n.svc.receive(&in.list[i].CloudEvent)
		if err != nil || len(call.Keys) == 0 {
			chains = append(chains, []int{i})
			continue
		}
		at, found := byKey[call.Keys[0]]
		if !found {
			at = len(chains)
			byKey[call.Keys[0]] = at
			chains = append(chains, nil)
		}
		chains[at] = append(chains[at], i)
	}
	results := make([]error, len(in.list))
	one := func(chain []int) {
		for _, i := range chain {
			if results[i] = in.receive(ctx, &in.list[i]); passes(results[i]) {
				return // what comes behind it waits
			}
			in.over[i] = true
		}
	}
	var wg sync.WaitGroup
	for _, chain := range chains {
		if in.n.rt.cfg.Stepped { // one thing after the other
			one(chain)
			continue
		}
		wg.Go(func() { one(chain) })
	}
	wg.Wait()
	var failed error
	for i, err := range results {
		if err != nil && in.over[i] {
			a := &in.list[i]
			in.n.rt.log.ErrorContext(ctx, "a CloudEvent is refused; the broker keeps it for you", "service", in.n.svc.name,
				"type", a.Type, "source", a.Source, "id", a.ID, "error", err)
			if err = in.from.Refuse(ctx, a.Tag, err.Error()); err != nil {
				in.over[i] = false
			}
		}
		if failed == nil {
			failed = err
		}
	}
	return failed
}

func (in *inbox) receive(ctx context.Context, a *Arrival) error {
	if a.Err != nil {
		return a.Err
	}
	return in.n.svc.Receive(ctx, a.CloudEvent)
}

// passes reports whether to try again is right.
func passes(err error) bool {
	return isTransient(err) || errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrOverloaded) || errors.Is(err, ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (in *inbox) close() {
	if in.from == nil {
		return
	}
	close(in.done)
	in.from.Close()
	in.from, in.list, in.over = nil, nil, nil
}
