package courantetest

import (
	"context"
	"fmt"
	"strings"

	"github.com/courante-dev/courante"
)

// ledger is what truly happened: the simulation sees every commit, whatever
// its caller was told.
type ledger struct {
	handled map[handling]bool
	newest  map[[3]string]int64 // by service, log and stream: the last version handled
	lanes   map[courante.Lane]courante.Progress
	sent    map[linked]*sending
}

// handling is one reaction to one event.
type handling struct{ service, step, event string }

func newLedger() *ledger {
	return &ledger{handled: map[handling]bool{}, newest: map[[3]string]int64{}, lanes: map[courante.Lane]courante.Progress{}, sent: map[linked]*sending{}}
}

// progress says what is wrong with progress that was recorded.
func (l *ledger) progress(rows []courante.Progress) error {
	for _, p := range rows {
		last := l.lanes[p.Lane]
		if p.N != last.N+1 {
			return fmt.Errorf("progress of %s in %s, lane %d, is numbered %d after %d", p.Subscriber, p.Log, p.K, p.N, last.N)
		}
		// A relay's is the hindmost of its subscribers, and a new lane epoch may
		// begin before what the lanes of the last one have done.
		if p.Cursor.Before(last.Cursor) && p.Subscriber != p.Log+"/relay" {
			return fmt.Errorf("progress of %s in %s, lane %d, goes back from %s to %s", p.Subscriber, p.Log, p.K, last.Cursor, p.Cursor)
		}
		l.lanes[p.Lane] = p
	}
	return nil
}

// decided says what is wrong with a decision that was committed.
func (l *ledger) decided(d *courante.Decided) error {
	if d.Event == nil {
		return nil
	}
	h := handling{d.Service, d.Step, d.Event.ID()}
	if l.handled[h] {
		return fmt.Errorf("%s: %q decides a second time on %s", d.Service, d.Step, h.event)
	}
	l.handled[h] = true
	stream := [3]string{d.Service, d.Event.Log, d.Event.Stream}
	if before := l.newest[stream]; before > d.Event.Version {
		return fmt.Errorf("%s: %q decides on %s after version %d of the stream", d.Service, d.Step, h.event, before)
	}
	l.newest[stream] = d.Event.Version
	return nil
}

// verify holds the final state to what the runtime promises.
func (w *world) verify(p *Process) {
	for service, err := range p.stopped() {
		w.fail("%s stopped: %w", service, err)
		return
	}
	types := map[string][]handling{} // the reactions to a type, without the event
	for _, m := range p.mounts {
		for _, st := range m.Service.Steps() {
			if st.On == "event" {
				types[st.Trigger] = append(types[st.Trigger], handling{service: m.Service.Name(), step: st.Name})
			}
		}
		parked, err := w.db.Store(m.Service.Name()).Parked(context.Background(), m.Service.Name(), courante.ParkedQuery{Max: 1})
		if err != nil {
			w.fail("read what %s has set aside: %w", m.Service.Name(), err)
			return
		}
		if len(parked) > 0 {
			w.fail("%s has set aside %s: %s", m.Service.Name(), parked[0].Event.ID(), parked[0].Cause)
			return
		}
	}
	for _, m := range p.mounts {
		if err := w.verifyLog(m.Service.Name(), types); err != nil {
			w.fail("%w", err)
			return
		}
	}
}

func (w *world) verifyLog(log string, types map[string][]handling) error {
	events, err := w.readAll(log)
	if err != nil {
		return err
	}
	versions := map[string]int64{}
	open := map[string]courante.Open{}
	var streams []string
	type effect struct{ cause, stream, typ string }
	causes := map[effect]*courante.Event{}
	for i := range events {
		e := &events[i]
		if versions[e.Stream] == 0 {
			streams = append(streams, e.Stream)
		}
		if versions[e.Stream]++; e.Version != versions[e.Stream] {
			return fmt.Errorf("%s is read where version %d belongs", e.ID(), versions[e.Stream])
		}
		open[e.Stream] = open[e.Stream].Apply(e.Notes)
		for _, h := range types[e.Type] {
			if h.event = e.ID(); !w.ledger.handled[h] {
				return fmt.Errorf("%s: %q never decides on %s", h.service, h.step, h.event)
			}
		}
		// A deadline may be set again and pass again; every other cause is one.
		if strings.Contains(e.Causation, "/deadline/") {
			continue
		}
		c := effect{e.Causation, e.Stream, e.Type}
		if other := causes[c]; other != nil && other.Xid != e.Xid {
			return fmt.Errorf("%s brings about both %s and %s (%s)", e.Causation, other.ID(), e.ID(), e.Type)
		}
		causes[c] = e
	}
	for _, s := range streams {
		if o := open[s]; !o.Empty() {
			return fmt.Errorf("%s/%s is at rest with %+v open", log, s, o)
		}
	}
	return nil
}

func (w *world) readAll(log string) ([]courante.Event, error) {
	var all []courante.Event
	var at courante.Cursor
	for {
		events, to, err := w.db.Store(log).ReadLog(context.Background(), at, 1000)
		if err != nil {
			return nil, err
		}
		all = append(all, events...)
		if to == at {
			return all, nil
		}
		at = to
	}
}
