package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/courante-dev/courante/postgres"
)

type deadletterRequeueCommand struct {
	ID          []string      `arg:"" optional:"" name:"id" help:"Messages, such as {subscriber}/17."`
	Fingerprint string        `placeholder:"F" help:"All that fail alike."`
	All         bool          `help:"All that failed."`
	Limit       int           `placeholder:"N" help:"Only the first N of them."`
	Wait        time.Duration `default:"10s" placeholder:"DURATION" help:"How long to wait for the running program while nothing moves, by default ${default}."`
	operator
}

// Help teaches by example.
func (deadletterRequeueCommand) Help() string {
	return `One message first; when that was handled, ten; then the rest, in the order in which they were set aside. When one fails again it stops, and leaves the rest as they were. What waits behind a message goes on with it, in order. A requeued message is tried once, whatever it was tried before.

Interrupt it at any time: what was requeued is handled, the rest waits on.

Examples:

  courante deadletter requeue {subscriber}/17
  courante deadletter requeue --fingerprint 3f9a0c11d2e4 --limit 10
  courante deadletter requeue --all --by "Ann, INC-42"`
}

// stages are how many messages are requeued at once, the last for the rest.
// Together with the result of each they are the canary of the next.
var stages = []int{1, 10, 1000}

// requeued is what became of a requeue, as --json prints it.
type requeued struct {
	Chosen  int             `json:"chosen"`
	Handled int             `json:"handled"` // or discarded by somebody meanwhile
	Failed  []requeueFailed `json:"failed"`
	Pending int             `json:"pending"` // requeued, and not taken up yet
	Left    int             `json:"left"`    // as they were
	Running bool            `json:"running"` // a program runs that takes them up
}

type requeueFailed struct {
	ID    string `json:"id"`
	Cause string `json:"cause"`
}

// Run requeues messages in stages and says what became of them.
func (c *deadletterRequeueCommand) Run(ctx context.Context, p *Program) error {
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	list, err := c.choose(ctx, v)
	if err != nil {
		return err
	}
	var done requeued
	for _, f := range list {
		done.Chosen += len(f.ids)
	}
	done.Failed, done.Left = []requeueFailed{}, done.Chosen
	listeners, err := v.db.Listeners(ctx)
	if err != nil {
		return err
	}
	done.Running = listeners > 0
	screen := p.Screen()
	start := time.Now()
	stage := 0
	for _, f := range list {
		for len(f.ids) > 0 && len(done.Failed) == 0 && done.Pending == 0 && err == nil {
			n := min(stages[stage], len(f.ids))
			err = c.requeue(ctx, f.store, f.ids[:n], &done, func() {
				screen.Say(time.Since(start), false, fmt.Sprintf("%s of %s handled", Thousands(done.Handled), Thousands(done.Chosen)))
			})
			f.ids = f.ids[n:]
			stage = min(stage+1, len(stages)-1)
		}
	}
	screen.End()
	if report := c.report(p, done); err == nil {
		err = report
	}
	return err
}

// choose are the messages that were asked for, each service's in order.
func (c *deadletterRequeueCommand) choose(ctx context.Context, v *visitor) ([]failing, error) {
	ways := 0
	for _, given := range []bool{len(c.ID) > 0, c.Fingerprint != "", c.All} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return nil, UsageError{errors.New("say which messages: by their ids, or with --fingerprint F, or with --all; see: courante deadletter list")}
	}
	if c.Limit < 0 || c.Limit > 0 && len(c.ID) > 0 {
		return nil, UsageError{errors.New("--limit N takes the first N, at least 1, of --fingerprint or --all")}
	}
	var list []failing
	var err error
	switch {
	case len(c.ID) > 0:
		return c.named(ctx, v)
	case c.Fingerprint != "":
		list, err = v.withFingerprint(ctx, c.Fingerprint)
	default:
		if list, err = v.failing(ctx, ""); err == nil && len(list) == 0 {
			err = errors.New("nothing that failed is set aside, so nothing was requeued")
		}
	}
	if err != nil || c.Limit == 0 {
		return list, err
	}
	left := c.Limit
	for i := range list {
		list[i].ids = list[i].ids[:min(left, len(list[i].ids))]
		left -= len(list[i].ids)
	}
	return list, nil
}

// named are the messages that were named, if each can be requeued.
func (c *deadletterRequeueCommand) named(ctx context.Context, v *visitor) ([]failing, error) {
	var list []failing
	for _, text := range c.ID {
		id, err := v.message(ctx, text)
		if err != nil {
			return nil, err
		}
		m, err := id.find(ctx)
		switch {
		case err != nil:
			return nil, err
		case !m.Resolved.IsZero():
			return nil, fmt.Errorf("%s is not set aside any more: it was %s on %s. Nothing was requeued", id, nextOfMessage(id.store, &m), m.Resolved.Local().Format(time.DateTime))
		case m.Head != m.ID:
			return nil, UsageError{fmt.Errorf("%s only waits behind %s, which is of the same key and comes first. Requeue that one, and it goes on too: courante deadletter requeue %s",
				id, idOf(id.store, m.Head), idOf(id.store, m.Head))}
		case m.Cause == "":
			return nil, fmt.Errorf("%s waits for nobody: what was before it is resolved, and the running program takes it up", id)
		}
		i := slices.IndexFunc(list, func(f failing) bool { return f.store == id.store })
		if i < 0 {
			i, list = len(list), append(list, failing{store: id.store})
		}
		list[i].ids = append(list[i].ids, id.id)
	}
	for i := range list {
		slices.Sort(list[i].ids)
		list[i].ids = slices.Compact(list[i].ids)
	}
	return list, nil
}

// lookEvery is how often it is asked what became of requeued messages: the
// running program needs about a second to notice.
const lookEvery = 100 * time.Millisecond

// requeue requeues some messages and waits for what becomes of them. It returns
// when all are handled, when one has failed again, or when nothing moves.
func (c *deadletterRequeueCommand) requeue(ctx context.Context, s *postgres.Store, ids []int64, done *requeued, say func()) error {
	list, err := s.Requeue(ctx, ids, c.operation("deadletter requeue", s.Log()))
	if err != nil {
		return err
	}
	done.Left -= len(ids)
	before := done.Handled + len(ids) - len(list) // somebody else has resolved the others
	done.Handled = before
	done.Pending = len(list)
	poll := time.NewTicker(lookEvery)
	defer poll.Stop()
	moved := time.Now()
	for done.Pending > 0 {
		select {
		case <-ctx.Done():
			return nil // the report says what is not known
		case <-poll.C:
		}
		resolved, failed, err := s.ParkedResults(ctx, list)
		if err != nil {
			return err
		}
		if pending := len(list) - len(resolved) - len(failed); pending < done.Pending {
			done.Pending, done.Handled, moved = pending, before+len(resolved), time.Now()
			say()
		}
		if done.Pending > 0 && time.Since(moved) < c.Wait {
			continue
		}
		return c.failures(ctx, s, failed, done)
	}
	return nil
}

func (c *deadletterRequeueCommand) failures(ctx context.Context, s *postgres.Store, failed []int64, done *requeued) error {
	if len(failed) == 0 {
		return nil
	}
	list, err := s.ParkedMessages(ctx, postgres.ParkedFilter{IDs: failed})
	for i := range list {
		done.Failed = append(done.Failed, requeueFailed{idOf(s, list[i].ID), list[i].Cause})
	}
	return err
}

// report says how it ended; anything but all handled is a failure.
func (c *deadletterRequeueCommand) report(p *Program, done requeued) error {
	if p.Globals.JSON {
		if err := p.PrintJSON(done); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(p.Stdout, "%s of %s handled.\n", Thousands(done.Handled), Thousands(done.Chosen))
		const most = 10
		for _, f := range done.Failed[:min(most, len(done.Failed))] {
			fmt.Fprintf(p.Stdout, "%s failed again: %s\n", f.ID, oneLine(f.Cause, 200))
		}
		if n := len(done.Failed) - most; n > 0 {
			fmt.Fprintf(p.Stdout, "%s more failed again.\n", Thousands(n))
		}
		if done.Pending > 0 {
			why := fmt.Sprintf("the running program did not come to it within %s", c.Wait)
			if !done.Running {
				why = "no program runs on this database; start it with \"courante up\""
			}
			fmt.Fprintln(p.Stdout, p.own(fmt.Sprintf("%s requeued and not yet taken up: %s.", Thousands(done.Pending), why)))
		}
		if done.Left > 0 {
			fmt.Fprintf(p.Stdout, "%s left as they were.\n", Thousands(done.Left))
		}
	}
	if done.Handled < done.Chosen {
		return ErrReported
	}
	return nil
}

type deadletterDiscardCommand struct {
	ID     []string `arg:"" name:"id" help:"Messages, such as {subscriber}/17."`
	Reason string   `required:"" placeholder:"TEXT" help:"Why nobody shall handle them, for the record."`
	operator
}

// Help teaches by example.
func (deadletterDiscardCommand) Help() string {
	return `A discarded message is kept, with the reason, and never handled. What waits behind it goes on, in order; a message in the middle of those can be discarded too.

Examples:

  courante deadletter discard {subscriber}/17 --reason "test order"
  courante deadletter list --all                          # what was discarded before`
}

// discarded is a message that was given up, as --json prints it.
type discarded struct {
	ID     string `json:"id"`
	Behind int    `json:"behind"` // messages that waited behind it
	Reason string `json:"reason"`
}

// Run discards messages.
func (c *deadletterDiscardCommand) Run(ctx context.Context, p *Program) error {
	if oneLine(c.Reason, 10) == "" {
		return UsageError{errors.New("--reason is empty: say why nobody shall handle them")}
	}
	v, err := p.visit(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	var chosen []messageID
	var found []postgres.ParkedMessage
	for _, text := range c.ID { // all that can be refused is refused before anything is written
		id, err := v.message(ctx, text)
		if err != nil {
			return err
		}
		m, err := id.find(ctx)
		if err != nil {
			return err
		}
		if !m.Resolved.IsZero() {
			return fmt.Errorf("%s is not set aside any more: it was %s on %s. Nothing was discarded", id, nextOfMessage(id.store, &m), m.Resolved.Local().Format(time.DateTime))
		}
		chosen, found = append(chosen, id), append(found, m)
	}
	for i, id := range chosen {
		done, err := id.store.Discard(ctx, []int64{id.id}, c.Reason, c.operation("deadletter discard", id.String()))
		switch {
		case err != nil:
			return err
		case len(done) == 0:
			return fmt.Errorf("%s was resolved by somebody else just now; see: courante deadletter show %s", id, id)
		case p.Globals.JSON:
			err = p.PrintJSON(discarded{id.String(), found[i].Behind, c.Reason})
		case found[i].Behind > 0:
			_, err = fmt.Fprintf(p.Stdout, "%s is discarded; %s behind it go on.\n", id, Thousands(found[i].Behind))
		default:
			_, err = fmt.Fprintf(p.Stdout, "%s is discarded.\n", id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
